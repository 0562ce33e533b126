"""`zoo list`, `zoo info`, `zoo doctor`, and the door through which errors leave."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from errors_table import fails, here, process, process_fails
from PIL import Image

from zoo import doctor
from zoo.cli import app, listing
from zoo.testing import toy

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with two photographs to train on; the toy framework is installed beside it."""
    for name in ("ants", "bees"):
        (tmp_path / "work" / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "work" / "photos" / name / "1.png")
    monkeypatch.chdir(tmp_path / "work")
    with toy.installed(tmp_path / "site"):
        yield tmp_path / "work"


# --- list
def test_list_shows_ids(capsys: Capture) -> None:
    said = here(capsys, "list", "--framework", "toy")
    assert said.code == 0
    assert "toy:tiny" in said.out and "toy:words" in said.out


def test_list_filters_by_pattern_and_task(capsys: Capture) -> None:
    assert "words" not in here(capsys, "list", "toy:t*", "--framework", "toy").out
    assert "tiny" not in here(capsys, "list", "--framework", "toy", "--task", "text").out


def test_list_json_is_cards(capsys: Capture) -> None:
    cards = json.loads(here(capsys, "list", "toy:*", "--json").out)
    assert [c["name"] for c in cards] == ["tiny", "words"]


def test_list_csv_has_a_header(capsys: Capture) -> None:
    rows = list(csv.DictReader(io.StringIO(here(capsys, "list", "toy:*", "--csv").out)))
    assert [r["id"] for r in rows] == ["toy:tiny", "toy:words"]


def test_list_imports_nothing_heavy() -> None:
    code = (
        "import sys; from zoo.cli import main; main(['list']); "
        "heavy = {'torch', 'tensorflow', 'transformers', 'onnx', 'onnxruntime', 'pandas', 'sklearn', 'PIL'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has seen enough
    command = [sys.executable, "-m", "zoo.cli", "list", "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (app.NO_READER, "")


# --- info
def test_info_prints_the_card(capsys: Capture) -> None:
    said = here(capsys, "info", "toy:tiny")
    assert said.code == 0
    for text in ("toy:tiny", "image-classification", "8 x 8 pixels", "Apache-2.0"):
        assert text in said.out


def test_info_json(capsys: Capture) -> None:
    assert json.loads(here(capsys, "info", "toy:tiny8", "--json").out)["name"] == "tiny"


# --- names that do not exist
def test_misspelt_name(capsys: Capture) -> None:
    says = ["no model 'tinny' in toy", "Did you mean tiny", "zoo list --framework toy"]
    fails(capsys, "Misspelt name", ["info", "toy:tinny"], code=2, says=says)


def test_misspelt_framework(capsys: Capture) -> None:
    says = ["no framework 'troch'", "torch", "zoo doctor"]
    fails(capsys, "Misspelt framework", ["info", "troch:resnet50"], code=2, says=says)


def test_misspelt_tag(capsys: Capture) -> None:
    says = ["toy:tiny has no weights 'defualt'", "Did you mean default", "zoo info toy:tiny"]
    fails(capsys, "Misspelt weights tag", ["info", "toy:tiny@defualt"], code=2, says=says)


def test_pattern_without_a_match(capsys: Capture) -> None:
    says = ["no model matches 'toy:tinyy*'", "Did you mean tiny"]
    fails(capsys, "Pattern that matches nothing", ["list", "toy:tinyy*"], code=2, says=says)


def test_unknown_command(capsys: Capture) -> None:
    fails(capsys, "Misspelt command", ["lst"], code=2, says=["no such command 'lst'", "zoo --help"])


def test_two_output_forms(capsys: Capture) -> None:
    says = ["--json and --csv", "choose one"]
    fails(capsys, "Two output forms at once", ["list", "--json", "--csv"], code=2, says=says)


# --- frameworks
MISSING = """import sys
from importlib.machinery import PathFinder


class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {names} else PathFinder.find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""


def without(folder: Path, *names: str) -> dict[str, str]:
    """Environment of a process in which these packages are not installed, as far as Python can tell."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(MISSING.format(names=set(names)))
    return {"PYTHONPATH": str(folder)}


def broken(folder: Path, name: str, error: str) -> dict[str, str]:
    """Environment of a process in which this package's import raises."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(f"raise {error}\n")
    return {"PYTHONPATH": str(folder)}


def test_framework_missing(folder: Path) -> None:
    arguments = ["train", "torch:resnet50", "photos", "-o", "runs/mine"]
    says = ["'torch' is not installed", "pip install 'backbone-zoo[torch]'"]
    env = without(folder.parent / "none", "torch")
    process_fails("Framework not installed", arguments, code=4, says=says, env=env)


def test_framework_broken(folder: Path) -> None:
    arguments = ["train", "torch:resnet50", "photos", "-o", "runs/mine"]
    env = broken(
        folder.parent / "fake", "torch", "OSError('libcudart.so.13: cannot open shared object file')"
    )
    says = ["installed but its import fails", "OSError: libcudart.so.13: cannot open shared object file"]
    said = process_fails("Framework broken", arguments, code=4, says=says, env=env)
    assert "pip install 'backbone-zoo" not in said.err


def test_doctor_reports_missing_and_goes_on(folder: Path) -> None:
    env = without(folder.parent / "none", "torch", "tensorflow", "keras", "transformers")
    said = process("doctor", env=env)
    assert said.code == 0
    assert "cure: pip install 'backbone-zoo[torch]'" in said.out
    assert "cause: no module 'torch'" in said.out


def test_doctor_names_the_pair_that_does_not_match(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = folder.parent / "fake"
    env = broken(fake, "torch", "RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", env["PYTHONPATH"])
    found = doctor.check("torch")
    assert found.state == "broken"
    assert found.cause == "RuntimeError: operator torchvision::nms does not exist"
    assert "not a matching pair: pip install --force-reinstall torch torchvision" in found.cure


def test_doctor_reads_the_pair_from_the_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version, needs in (("torch", "9.9.0+cpu", ""), ("torchvision", "9.8", "torch==9.8.0")):
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
    with monkeypatch.context() as patch:  # its own: undone later, it would bring back the toy's folder
        patch.syspath_prepend(str(folder))
        found = doctor._pair_warning()
        assert found is not None
        assert found.what == "torchvision 9.8 was built for torch 9.8.0, and torch 9.9.0+cpu is installed"


def test_doctor_survives_an_import_that_kills_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "zoo_toy").mkdir()
    (folder / "zoo_toy" / "__init__.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{folder.parent / 'site'}")
    found = doctor.check("toy")
    assert found.state == "broken" and "SIGABRT" in found.cause


def test_doctor_survives_an_import_that_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "zoo_toy").mkdir()
    (folder / "zoo_toy" / "__init__.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{folder.parent / 'site'}")
    assert "longer than 1 s" in doctor.check("toy", timeout_s=1).cause


def test_doctor_tells_what_works() -> None:
    found = doctor.check("toy")
    assert found.state == "works" and "numpy" in found.versions


# --- the door
def test_a_fault_of_ours_asks_for_a_report(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(listing, "_table", fault)
    said = here(capsys, "list")
    assert said.code == 70
    assert "ZeroDivisionError: division by zero" in said.err and "ZOO_DEBUG=1" in said.err
    assert "Traceback" not in said.err
    monkeypatch.setenv("ZOO_DEBUG", "1")
    assert "Traceback" in here(capsys, "list").err


def test_ctrl_c_names_resume_where_it_helps() -> None:
    assert app._interrupted(["list"]) == 130


def test_no_arguments_is_help(capsys: Capture) -> None:
    said = here(capsys)
    assert said.code == 0 and "doctor" in said.out


def test_each_command_is_in_its_group() -> None:
    for name, commands in app.GROUPS.items():
        alone = typer.Typer()
        importlib.import_module(f"zoo.cli.{name}").register(alone)
        assert tuple(command.name for command in alone.registered_commands) == commands


def test_version(capsys: Capture) -> None:
    assert here(capsys, "--version").out.startswith("backbone-zoo ")
