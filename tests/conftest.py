"""What every test process shares: which framework it may import, and where real weights and data are.

Folders tests/torch, tests/tf, tests/hf each run in a pytest process of their own (two frameworks in one
process abort each other); tests/core runs in one without any. A framework that is not installed is a skip,
and a failure where ZOO_REQUIRE names it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from present import FRAMEWORK_MODULES, SHARED, missing, required

LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Folders left out are told at the end."""
    config.stash[LEFT_OUT] = []


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folder of a framework that is missing and not required: nothing of it can be imported."""
    framework = collection_path.parent.name  # a folder named on the command line is not asked about itself
    if framework not in FRAMEWORK_MODULES or framework in required() or not (module := missing(framework)):
        return None
    line = f"skipped tests/{framework}: no module {module} (pip install 'backbone-zoo[{framework}]')"
    if line not in config.stash[LEFT_OUT]:
        config.stash[LEFT_OUT].append(line)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The reason for each folder left out."""
    for line in config.stash[LEFT_OUT]:
        terminalreporter.line(line)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A folder left out for a reason is a skip, not 'no tests were found'."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.stash[LEFT_OUT]:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights and data beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no folder ../shared beside the checkout (real weights and data)")
    return SHARED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never read or fill the user's cache, mirror or hub."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
