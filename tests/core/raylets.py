"""A Ray cluster on this machine: a raylet of two cores, and others that join, with folders of their own."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

# A machine with much else to do starts and answers late, and its memory is not this test's concern.
PATIENT = {
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_memory_monitor_refresh_ms": "0",
}


@dataclass
class Cluster:
    """address: for --ray.  nodes: `ray start --block`, which holds a machine's processes; the first is the head."""

    address: str
    base: Path
    env: dict[str, str]
    nodes: list[subprocess.Popen[bytes]]

    def join(self, cores: int) -> None:
        """One more machine."""
        self.add([f"--address={self.address}"], cores)

    def add(self, where: list[str], cores: int) -> None:
        """Start a machine."""
        folder = self.base / f"machine{len(self.nodes)}"
        (folder / "tmp").mkdir(parents=True)
        self.nodes.append(_started([f"--num-cpus={cores}", *where], folder, self.env))

    def raylet(self, number: int) -> int:
        """The process id of a machine's raylet, which is its heart."""
        children = psutil.Process(self.nodes[number].pid).children(recursive=True)
        return next(child.pid for child in children if child.name() == "raylet")


@contextmanager
def cluster(env: Mapping[str, str]) -> Iterator[Cluster]:
    """One machine, started with these variables; more may `join`. All are ended."""
    with tempfile.TemporaryDirectory(prefix="zr-", dir="/tmp") as base:  # Ray's sockets allow 107 characters
        port = free_port()
        found = Cluster(f"127.0.0.1:{port}", Path(base), dict(env), [])
        try:
            found.add(_head(port, base), cores=2)
            yield found
        finally:
            for node in reversed(found.nodes):
                _end(node)


def _head(port: int, base: str) -> list[str]:
    return ["--head", f"--port={port}", f"--ray-client-server-port={free_port()}", f"--temp-dir={base}/ray",
            "--include-dashboard=false", "--no-monitor", "--node-ip-address=127.0.0.1"]  # fmt: skip


def _start(where: list[str], folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A machine: its raylet and what the raylet starts are in one process group."""
    own = {"TMPDIR": str(folder / "tmp"), "ZOO_CACHE": str(folder / "cache"), **PATIENT}
    return subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-gpus=0",
         "--object-store-memory=100000000", "--disable-usage-stats", *where],
        env={**os.environ, **env, **own}, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        stdout=(folder / "said").open("wb"), cwd=folder, start_new_session=True, preexec_fn=_with_its_parent,
    )  # fmt: skip


def _started(where: list[str], folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A machine that says that it runs. Ray gives up after half a minute: on a busy machine it is tried again."""
    for _ in range(5):
        node = _start(where, folder, env)
        while node.poll() is None:
            if "Ray runtime started" in (folder / "said").read_text(errors="replace"):
                return node
            time.sleep(0.1)
    raise RuntimeError(f"no machine of the cluster started: {(folder / 'said').read_text(errors='replace')}")


def _with_its_parent() -> None:
    """Tests that are killed leave no cluster behind (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _end(node: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(node.pid).children(recursive=True) if node.poll() is None else []
    node.terminate()
    try:
        node.wait(20)
    except subprocess.TimeoutExpired:
        node.kill()
    for child in children:
        try:
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
