"""Bad input, tried on the real command line, with its words kept for docs/errors.md.

`fails` and `process_fails` run `zoo`, assert exit code and text, and `record` the row: it must stand in
docs/errors.md as it is. Where ZOO_ERRORS_OUT names a file the rows go there instead, as JSON lines, of which
scripts/errors_page.py makes the page.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from errors_page import PAGE, line
from PIL import Image

from zoo.cli import main

REPOSITORY = Path(__file__).resolve().parent.parent
# Nothing listens on port 9 (discard) of this machine: every download fails at once.
NO_NETWORK = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")


COLOURS = {"ants": (200, 40, 40), "bees": (40, 40, 200)}


def photographs(folder: Path, *, count: int = 8, seed: int = 0) -> None:
    """Noisy red ants and noisy blue bees, `count` of each; other ones for another seed."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(rng.normal(colour, 30, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


class Payload:
    """A pickle of it makes the folder `pwned` when it is loaded: it must never be there."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def pickled_payload(path: Path, *, protocol: int = 4) -> None:
    """A pickle posing as weights. After the test `Path("pwned")` must not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"weight": Payload()}, protocol=protocol))


@dataclass(frozen=True)
class Outcome:
    """How a run of `zoo` ended."""

    code: int
    out: str
    err: str


def here(capsys: pytest.CaptureFixture[str], *arguments: str) -> Outcome:
    """Run `zoo` in this process."""
    capsys.readouterr()
    code = main(list(arguments))
    said = capsys.readouterr()
    return Outcome(code, said.out, said.err)


def process(
    *arguments: str, env: Mapping[str, str] | None = None, preexec: object = None, timeout_s: float = 240
) -> Outcome:
    """Run `zoo` in a process of its own, in the current folder."""
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **(env or {})},
        preexec_fn=preexec,  # type: ignore[arg-type]
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def fails(
    capsys: pytest.CaptureFixture[str],
    case: str,
    arguments: Sequence[str],
    *,
    code: int,
    says: Sequence[str],
    theirs: str = "",
) -> Outcome:
    """Run `zoo` here; assert that it fails with this code and these texts; keep the row.

    theirs: a pattern of the part that differs between machines: figures, a library's own words.
    """
    return check(case, arguments, here(capsys, *arguments), code=code, says=says, theirs=theirs)


def process_fails(
    case: str,
    arguments: Sequence[str],
    *,
    code: int,
    says: Sequence[str],
    env: Mapping[str, str] | None = None,
    preexec: object = None,
) -> Outcome:
    """The same in a process of its own."""
    outcome = process(*arguments, env=env, preexec=preexec)
    return check(case, arguments, outcome, code=code, says=says)


def check(
    case: str, arguments: Sequence[str], outcome: Outcome, *, code: int, says: Sequence[str], theirs: str = ""
) -> Outcome:
    """Assert that `zoo` failed in this way, with an `error:` and no traceback; keep the row."""
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err, outcome.err
    message = error_text(outcome.err)
    for text in says:
        assert text in message, f"{text!r} is not in {message!r}"
    if theirs:
        message, count = re.subn(theirs, "(...)", message)
        assert count, f"{theirs!r} is not in {message!r}"
    record(case, shlex.join(["zoo", *arguments]), outcome.code, message)
    return outcome


def error_text(err: str) -> str:
    """What follows the last `error:` at the beginning of a line."""
    found = re.split(r"^error: ", err, flags=re.MULTILINE)
    assert len(found) > 1, f"no line begins with 'error: ' in {err!r}"
    return found[-1].strip()


def record(case: str, command: str, exit_code: int, message: str) -> None:
    """Assert that docs/errors.md has this row; where ZOO_ERRORS_OUT names a file, append the row to it."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    test = re.sub(r"^.*?(?=tests/)|\[.*$", "", test)
    row = {"case": case, "command": command, "code": exit_code, "message": short(message), "test": test}
    if path := os.environ.get("ZOO_ERRORS_OUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert line(row) in lines, f"docs/errors.md is stale (see scripts/errors_page.py): {line(row)}"


def short(message: str) -> str:
    """The message without what differs between machines: paths, digests of trained weights."""
    message = message.replace(str(Path.cwd()) + os.sep, "").replace(str(Path.cwd()), "/home/you")
    message = re.sub(r"\b[0-9a-f]{12}\.\.\.", "(digest)", message)
    return message.replace(str(REPOSITORY), ".").replace(sys.prefix, "VENV").replace(str(Path.home()), "~")
