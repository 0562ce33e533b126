"""The registry: names and near names, two of a name, a framework that is missing and one that is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo import registry
from zoo.catalogue import list_models
from zoo.errors import AmbiguousModelError, InputError, UnknownModelError
from zoo.testing.toy import ADAPTER, installed

# What a user of the registry sees: class, message and cause of the error, in a process of its own.
ASK = """
import json, sys
from zoo import registry
from zoo.errors import ZooError
try:
    registry.adapter(sys.argv[1])
    print(json.dumps({"type": "none"}))
except ZooError as error:
    cause = type(error.__cause__).__name__
    print(json.dumps({"type": type(error).__name__, "text": str(error), "cause": cause, "code": error.exit_code}))
"""


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Path]:
    with installed(tmp_path / "site") as folder:
        yield folder


def package(folder: Path, name: str, framework: str, source: str, cards: object = None) -> Path:
    """Install an adapter package made of one file into `folder`, entry point and all."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(source, encoding="utf-8")
    if cards is not None:
        (folder / name / "cards.json").write_text(json.dumps(cards), encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        f"[zoo.adapters]\n{framework} = {name}:ADAPTER\n", encoding="utf-8"
    )
    return folder


def ask(folder: Path, framework: str) -> dict[str, str]:
    """Load an adapter in a new process that has `folder` on its path."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", ASK, framework], env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def test_an_installed_adapter_is_found_and_gone_again(toy: Path) -> None:
    assert "toy" in registry.frameworks()
    assert type(registry.adapter("toy")) is type(ADAPTER)
    assert ask(toy, "toy") == {"type": "none"}


def test_a_removed_adapter_is_gone(tmp_path: Path) -> None:
    with installed(tmp_path):
        pass
    assert "toy" not in registry.frameworks()


def test_names_aliases_and_options(toy: Path) -> None:
    assert str(registry.resolve("toy:tiny8,depth=1")) == "toy:tiny,depth=1"
    assert str(registry.resolve("tiny", "toy")) == "toy:tiny"
    assert registry.resolve("words").framework == "toy", "only one framework has it"
    assert [card.id for card in list_models("*", framework="toy")] == ["toy:tiny", "toy:words"]
    assert [card.id for card in list_models("tiny?")] == ["toy:tiny"], "a pattern meets aliases too"
    assert list_models("w*", task="image-classification", framework="toy") == []
    card = registry.card(registry.resolve("toy:tiny"))
    assert card is not None and card.depths == (1, 2)


def test_a_misspelt_model_gets_near_names_and_the_command_that_lists(toy: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"no model 'tinny' in toy\. Did you mean tiny") as caught:
        registry.resolve("toy:tinny")
    assert caught.value.near[0] == "tiny" and caught.value.exit_code == 2
    assert "`zoo list --framework toy`" in str(caught.value)
    with pytest.raises(UnknownModelError, match=r"wrods.*Did you mean words"):
        registry.resolve("wrods")


def test_a_misspelt_framework_gets_near_names(toy: Path) -> None:
    for call in (registry.resolve, registry.adapter):
        with pytest.raises(UnknownModelError, match=r"no framework 'toi': there are .*toy") as caught:
            call("toi:tiny" if call is registry.resolve else "toi")
        assert "toy" in caught.value.near
    with pytest.raises(UnknownModelError, match="no framework 'toi'"):
        list_models(framework="toi")


def test_two_frameworks_named(toy: Path) -> None:
    with pytest.raises(InputError, match="'toy:tiny' names the framework 'toy', framework= names 'torch'"):
        registry.resolve("toy:tiny", "torch")


def test_a_name_of_several_frameworks_lists_the_ids(toy: Path, tmp_path: Path) -> None:
    card = {"framework": "other", "name": "tiny", "task": "image-classification", "family": "toy"}
    package(toy, "zoo_other", "other", "ADAPTER = None", [card])
    registry.entry_points.cache_clear()
    with pytest.raises(AmbiguousModelError, match="say which: other:tiny, toy:tiny") as caught:
        registry.resolve("tiny")
    assert caught.value.ids == ("other:tiny", "toy:tiny")
    assert str(registry.resolve("other:tiny")) == "other:tiny"


def test_a_local_folder_without_a_framework_asks_who_reads_it(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(AmbiguousModelError, match=r"is a folder: say who reads it: .*toy:"):
        registry.resolve(str(tmp_path / "model"))
    assert registry.resolve(f"toy:{tmp_path}/model").name == f"{tmp_path}/model"


def test_two_adapters_of_one_name_are_an_error(tmp_path: Path) -> None:
    for name in ("one", "two"):
        package(tmp_path / name, f"zoo_{name}", "twin", "ADAPTER = None")
    path = os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two")])
    answer = ask(Path(path), "twin")
    assert answer["type"] == "InputError" and "two adapters call themselves 'twin'" in answer["text"]
    assert "zoo_one:ADAPTER" in answer["text"] and "zoo_two:ADAPTER" in answer["text"]


def test_a_missing_framework_says_what_to_install(tmp_path: Path) -> None:
    package(tmp_path, "zoo_jax", "jax", "import a_framework_nobody_has")
    answer = ask(tmp_path, "jax")
    assert answer["type"] == "FrameworkMissingError" and answer["code"] == 4
    assert "no module 'a_framework_nobody_has'" in answer["text"]
    assert "pip install 'backbone-zoo[jax]'" in answer["text"]


@pytest.mark.parametrize(
    ("source", "words", "cause"),
    [
        (
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "not a matching pair",
            "RuntimeError",
        ),
        ("import json.nothing_there", "No module named", "ModuleNotFoundError"),
        ("from json import nothing_there", "cannot import name", "ImportError"),
        ("1 / 0", "ZeroDivisionError", "ZeroDivisionError"),
    ],
)
def test_a_broken_framework_says_its_cause_not_install_it(
    tmp_path: Path, source: str, words: str, cause: str
) -> None:
    package(tmp_path, "zoo_sick", "sick", source)
    answer = ask(tmp_path, "sick")
    assert answer["type"] == "FrameworkBrokenError" and answer["cause"] == cause
    assert "is installed but its import fails" in answer["text"] and words in answer["text"]
    assert "[sick]" not in answer["text"] and "zoo doctor" in answer["text"]


def test_an_entry_point_that_is_no_adapter(tmp_path: Path) -> None:
    package(tmp_path, "zoo_odd", "odd", "ADAPTER = 'a string'")
    answer = ask(tmp_path, "odd")
    assert answer["type"] == "FrameworkBrokenError" and "is no zoo.engine.Adapter" in answer["text"]


def test_listing_imports_no_adapter(tmp_path: Path) -> None:
    card = {"framework": "boom", "name": "one", "task": "image-classification", "family": "x"}
    package(tmp_path, "zoo_boom", "boom", "raise SystemExit('imported')", [card])
    code = "import zoo.catalogue as r; print([c.id for c in r.list_models(framework='boom')])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['boom:one']"
