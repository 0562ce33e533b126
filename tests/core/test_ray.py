"""Tasks on a Ray cluster of two workers: the same results, though a process dies, and a machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from errors_table import fails, photographs
from present import required
from raylets import Cluster, cluster

import zoo
from zoo.cards import Cost
from zoo.choose.experiment import Bench, open_materials, workshop
from zoo.choose.parts import DataOptions
from zoo.errors import FrameworkMissingError, InputError, ModelFileError, UnknownModelError, WorkerError
from zoo.executor import Executor, LocalExecutor, RayExecutor, Task, executor, ray_cluster
from zoo.testing import toy

Capture = pytest.CaptureFixture[str]
NO_RAY = importlib.util.find_spec("ray") is None and "ray" not in required()
needs_ray = pytest.mark.skipif(NO_RAY, reason="no module ray (pip install 'backbone-zoo[ray]')")

STEPS = '''
import os, pathlib, tempfile, time
from zoo.errors import ModelFileError

def add(a, b): return a + b
def crash(): os._exit(3)
def refuse(path): raise ModelFileError(f"no model in {path}")
def double(folder):
    """What it reads, twice; and where it did it."""
    here = pathlib.Path(folder)
    (here / "out").mkdir(exist_ok=True)
    (here / "out" / "twice.bin").write_bytes((here / "in" / "once.bin").read_bytes() * 2)
    own = here.is_relative_to(tempfile.gettempdir())
    return {"own": own, "path": str(here / "out" / "twice.bin"), "names": sorted(os.listdir(here))}
def wait(note, flag):
    """Until that file is there; notes the Ray process that it works for."""
    with open(note, "a") as file: file.write(f"{os.getppid()}\\n")
    while not os.path.exists(flag): time.sleep(0.01)
    return "done"
'''
SLOW = '''
import dataclasses, os, time
from pathlib import Path
from zoo.testing.toy import ToyAdapter

class Slow(ToyAdapter):
    """Notes the process that it works for, and waits while it is told to."""
    framework = "slow"

    def load(self, request):
        place = Path(os.environ["SLOW"])
        with (place / "pids").open("a") as file:
            file.write(f"{os.getppid()}\\n")
        while (place / "hold").exists():
            time.sleep(0.01)
        return super().load(dataclasses.replace(request, name="tiny"))

ADAPTER = Slow()
'''


def plug_in(site: Path, name: str, code: str) -> None:
    """An adapter as a package of its own, found by its entry point."""
    about = f"zoo_{name}-0.0.dist-info"
    files = {
        f"zoo_{name}/__init__.py": code,
        f"{about}/METADATA": f"Name: zoo-{name}\nVersion: 0.0\n",
        f"{about}/entry_points.txt": f"[zoo.adapters]\n{name} = zoo_{name}:ADAPTER\n",
    }
    for place, text in files.items():
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        (site / place).write_text(text)
    toy.forget_adapters()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the slow framework looks whether to wait; the toy and the slow framework are installed."""
    folder = tmp_path_factory.mktemp("slow")
    with toy.installed(folder / "site") as site, pytest.MonkeyPatch.context() as patch:
        (site / "steps.py").write_text(STEPS)
        plug_in(site, "slow", SLOW)
        patch.setenv("SLOW", str(folder))
        yield folder


@pytest.fixture(scope="module")
def machines(place: Path) -> Iterator[Cluster]:
    if NO_RAY:
        pytest.skip("no module ray (pip install 'backbone-zoo[ray]')")
    with cluster({}) as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_cluster, "CONNECT_S", 240.0)  # this machine may have much else to do
        yield found


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def away(machines: Cluster, said: list[str]) -> Iterator[Executor]:
    with executor(machines.address, threads=1, say=said.append) as made:
        yield made


def task(key: str, what: str, **more: Any) -> Task:
    options = {
        name: more.pop(name) for name in ("home", "reads", "writes", "here", "timeout_s") if name in more
    }
    return Task(key, "one", f"steps:{what}", more, **options)


def noted(path: Path, lines: int) -> list[int]:
    """So many process ids, as soon as they are there."""
    while True:
        found = path.read_text().split() if path.exists() else []
        if len(found) >= lines:
            return [int(text) for text in found]
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Whether a process ends within ten seconds (a zombie that nobody collects counts as ended)."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


# --- without a cluster
@needs_ray
def test_auto_without_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first of this file: no cluster runs yet."""
    if any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        pytest.skip("a Ray cluster runs on this machine, and auto finds it")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(
        InputError, match=r"no Ray cluster answers at auto|cannot join the Ray cluster at auto"
    ):
        RayExecutor("auto")


# --- tasks
def test_files_travel_by_content_and_paths_are_the_callers(away: Executor, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "in").mkdir(parents=True)
    (home / "in" / "once.bin").write_bytes(b"abc")
    (home / "not sent").touch()
    asked = task("it", "double", folder=str(home), home=home, reads=("in",), writes=("out",))
    (outcome,) = away.run([asked])
    assert outcome.result == {"own": True, "path": str(home / "out" / "twice.bin"), "names": ["in", "out"]}
    assert not outcome.here and (home / "out" / "twice.bin").read_bytes() == b"abcabc"


def test_each_fault_costs_its_own_task_and_reads_as_it_does_here(away: Executor, tmp_path: Path) -> None:
    never = {"note": str(tmp_path / "note"), "flag": str(tmp_path / "never")}
    tasks = [task("crash", "crash"), task("refuse", "refuse", path=str(tmp_path / "x"), home=tmp_path),
             task("hang", "wait", **never, timeout_s=0.5), task("good", "add", a=1, b=2)]  # fmt: skip
    found = {outcome.task.key: outcome for outcome in away.run(tasks)}
    with LocalExecutor() as local:
        here = {outcome.task.key: outcome for outcome in local.run(tasks)}
    assert found["good"].result == here["good"].result == 3
    for key, kind in (("crash", WorkerError), ("refuse", ModelFileError), ("hang", WorkerError)):
        assert isinstance(found[key].error, kind)
        assert str(found[key].error) == str(here[key].error)


def test_a_task_of_this_machine_stays_here(away: Executor) -> None:
    outcomes = {
        o.task.key: o for o in away.run([task("a", "add", a=1, b=1, here=True), task("b", "add", a=2, b=2)])
    }
    assert [(outcomes[key].result, outcomes[key].here) for key in "ab"] == [(2, True), (4, False)]


def test_a_caller_that_leaves_ends_what_is_under_way_and_may_come_back(
    away: Executor, tmp_path: Path
) -> None:
    never = {"note": str(tmp_path / "note"), "flag": str(tmp_path / "never")}
    outcomes = away.run([task("quick", "add", a=1, b=1), *(task(f"{i}", "wait", **never) for i in range(2))])
    assert next(outcomes).task.key == "quick"
    pids = noted(tmp_path / "note", 2)
    outcomes.close()  # type: ignore[attr-defined]
    assert all(ended(pid) for pid in pids)
    assert away.ask(task("after", "add", a=2, b=2)) == 4


def test_a_training_run_is_the_same_bit_for_bit(away: Executor, tmp_path: Path) -> None:
    photographs(tmp_path / "photos", count=12)
    found = open_materials(
        tmp_path / "photos", None, options=DataOptions(None, None, "fail"), limit=None, seed=0
    )
    with LocalExecutor({"OMP_NUM_THREADS": "1"}) as local:
        results = []
        for name, doer in (("here", local), ("away", away)):
            with workshop(tmp_path / name, found, portable=not doer.shares_files) as work:
                results.append(trained(Bench("toy:tiny", work, executor=doer), work))
    assert results[0] == results[1]


def trained(bench: Bench, work: Path) -> Any:
    """All that comes of a training run and of a pass over the data, without the seconds."""
    facts = bench.ask("describe")
    features = bench.ask("features")
    arrays = [np.load(features[name]).tolist() for name in ("train", "judged")]
    recipe = {"optimizer": "sgd", "lr": 1e-2, "epochs": 2, "seed": 3}
    run = bench.run(
        {"last": 1, "recipe": recipe, "judge": True, "save_to": str(work / "best")}, writes=("best",)
    )
    head = zoo.load(work / "best").state()
    assert "failed" not in run, run
    return (
        facts,
        arrays,
        {k: v for k, v in run.items() if k != "seconds"},
        {k: v.tolist() for k, v in head.items()},
    )


# --- the selection
NAMES = ["slow:a", "slow:b", "toy:tiny,depth=all"]
COSTS = [
    Cost(
        id=name,
        batch_size=1,
        threads=1,
        machine={"cpu": "theirs"},
        latency_p50_ms=1.0 + number,
        file_bytes=10**4,
    )
    for number, name in enumerate(["slow:a", "slow:b", "toy:tiny,depth=1", "toy:tiny,depth=2"])
]


def chosen(tmp_path: Path, name: str, patch: pytest.MonkeyPatch, **more: Any) -> zoo.Selection:
    """A selection with a cache of its own, so that nothing is known beforehand, and the same costs."""
    patch.setenv("ZOO_CACHE", str(tmp_path / f"cache of {name}"))
    out, data = tmp_path / name, tmp_path / "photos"
    return zoo.select(data, candidates=NAMES, costs=COSTS, folds=3, threads=1, out=out, **more)


def told(found: zoo.Selection) -> Any:
    """What does not depend on the moment: all but costs measured again and seconds."""
    rows = [
        (r.id, r.status, r.reason, r.accuracy, r.accuracy_low, r.accuracy_high, r.cost) for r in found.rows
    ]
    assert found.folder is not None
    return found.best, rows, found.test, (found.folder / "model.onnx").read_bytes()


def test_the_same_selection_though_a_process_is_killed_in_the_middle(
    machines: Cluster, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    photographs(tmp_path / "photos", count=12)
    here = chosen(tmp_path, "here", monkeypatch)

    (place / "pids").unlink()
    (place / "hold").touch()
    found: list[zoo.Selection] = []
    more = {"ray": machines.address, "progress": said.append}
    thread = threading.Thread(target=lambda: found.append(chosen(tmp_path, "away", monkeypatch, **more)))
    thread.start()
    pids = noted(place / "pids", 2)
    assert pids[0] != pids[1], "two work at once"
    os.kill(pids[0], signal.SIGKILL)
    assert len(set(noted(place / "pids", 3))) == 3, "done again by another process"
    (place / "hold").unlink()
    thread.join()
    assert told(found[0]) == told(here)
    assert len([line for line in said if "again, attempt 2" in line]) == 1, said


def test_fine_tuning_on_the_cluster_comes_to_the_same(
    machines: Cluster, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(tmp_path / "photos", count=12)
    more = {"within_s": 600.0, "precisions": ("fp32", "fp16")}
    here = chosen(tmp_path, "here", monkeypatch, **more)
    away = chosen(tmp_path, "away", monkeypatch, ray=machines.address, **more)
    assert any("fine_tuned" in row.details for row in here.rows)
    assert told(away) == told(here)


def test_a_framework_that_only_this_machine_has_is_told(
    away: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"model": "late:tiny", "path": str(tmp_path / "x.onnx")}
    asked = Task("it", "late", "zoo.jobs:export", arguments, home=tmp_path, writes=("x.onnx",))
    with pytest.raises(UnknownModelError, match=r"late.*\(on .* of the Ray cluster\)"):
        away.ask(asked)


# --- wrong addresses
def test_no_cluster_at_the_address(
    capsys: Capture, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(Path("photos"), count=12)
    begin = time.monotonic()
    fails(capsys, "A Ray cluster that is not there", ["select", "photos", "--ray", "127.0.0.1:9"], code=2,
          says=["no Ray cluster answers at 127.0.0.1:9. Start one (ray start --head)", "refused"])  # fmt: skip
    assert time.monotonic() - begin < 60
    fails(capsys, "No address of a Ray cluster", ["select", "photos", "--ray", "the cluster"], code=2,
          says=["--ray the cluster: write auto, HOST:PORT"])  # fmt: skip


@needs_ray
def test_something_else_listens_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "CONNECT_S", 5.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no Ray cluster answers at {address}"):
            RayExecutor(address)


def test_ray_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(FrameworkMissingError, match=r"pip install 'backbone-zoo\[ray\]'"):
        RayExecutor("auto")


def test_a_machine_with_another_version_is_refused_and_other_packages_warned_of() -> None:
    own = {
        "host": "me",
        "zoo": "0.1.0",
        "python": "3.11.7",
        "packages": {"torch": "2.15.0", "numpy": "2.4.6"},
    }
    with pytest.raises(
        InputError, match=r"far of the Ray cluster has Backbone Zoo 0\.2\.0, this machine 0\.1\.0"
    ):
        ray_cluster.check_machines([{**own, "host": "far", "zoo": "0.2.0"}], own)
    with pytest.warns(UserWarning, match=r"far has torch 2\.14\.0 \(here 2\.15\.0\): results may differ"):
        ray_cluster.check_machines(
            [{**own, "host": "far", "packages": {"torch": "2.14.0", "keras": "3"}}], own
        )


# --- the death of machines: last, for they stay dead
def test_a_machine_that_dies_costs_nothing_but_time(
    machines: Cluster, away: Executor, said: list[str], tmp_path: Path
) -> None:
    machines.join(cores=1)
    flag = tmp_path / "flag"
    tasks = [task(f"{i}", "wait", note=str(tmp_path / "note"), flag=str(flag)) for i in range(4)]
    outcomes = away.run(tasks)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(outcome.result for outcome in outcomes))
    thread.start()
    noted(tmp_path / "note", 3)
    os.kill(machines.raylet(1), signal.SIGKILL)
    while not any("again" in line for line in said):
        time.sleep(0.05)
    flag.touch()
    thread.join()
    assert found == ["done"] * 4


def test_a_cluster_that_is_lost_ends_the_work(machines: Cluster, away: Executor, tmp_path: Path) -> None:
    outcomes = away.run([task("it", "wait", note=str(tmp_path / "note"), flag=str(tmp_path / "never"))])
    timer = threading.Thread(
        target=lambda: (noted(tmp_path / "note", 1), os.killpg(machines.nodes[0].pid, 9))
    )
    timer.start()
    with pytest.raises(WorkerError):
        list(outcomes)
    timer.join()
