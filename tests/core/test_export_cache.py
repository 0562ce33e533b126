"""Exports are made once: what is asked for again starts no framework, what changed is made anew, bytes are the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from errors_table import here, photographs, process, record

import zoo
from zoo import reads
from zoo.cards import Recipe
from zoo.choose import requests
from zoo.choose.artefacts import Request, export_all
from zoo.errors import StorageError
from zoo.executor import local
from zoo.graph import OnnxModel, export_engine, kept, verify
from zoo.testing import toy
from zoo.testing.toy import ToyEngine
from zoo.train import exports

VERSIONS = {"numpy": "1"}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the toy framework is installed; photographs are in the current folder."""
    photographs(tmp_path / "work" / "photos")
    monkeypatch.chdir(tmp_path / "work")
    with toy.installed(tmp_path / "site") as place:
        yield place


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The frameworks whose worker was started."""
    names: list[str] = []

    class Counted(local.Worker):
        def __init__(self, name: str, **options: Any) -> None:
            names.append(name)
            super().__init__(name, **options)

    monkeypatch.setattr(local, "Worker", Counted)
    return names


def ask(model: str, target: str = "out.onnx", **more: Any) -> dict[str, Any]:
    """What one export answers."""
    arguments = {"model": model, "path": str(Path(target).absolute()), **more}
    found = export_all([Request("it", "toy", arguments)], say=lambda _: None)["it"]
    assert isinstance(found, dict), found
    return found


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write(engine: ToyEngine, path: Path, **more: Any) -> exports.Export:
    return exports.write(engine, path, **{"model_id": "toy:tiny", "versions": VERSIONS, **more})


# --- asked for again
def test_the_second_time_no_framework_is_started(site: Path, started: list[str]) -> None:
    first, second = ask("toy:tiny", "a.onnx"), ask("toy:tiny", "b.onnx")
    assert started == ["toy"] and first["made"] and not second["made"]
    assert digest("a.onnx") == digest("b.onnx") and verify(Path("b.onnx"))
    assert {k: first[k] for k in ("id", "depths", "note", "features_key")} == {
        k: second[k] for k in ("id", "depths", "note", "features_key")
    }


def test_an_export_made_anew_has_the_same_bytes(site: Path, own: Path, started: list[str]) -> None:
    ask("toy:tiny", "a.onnx")
    for path in own.glob("graphs/*.onnx"):
        path.unlink()
    assert ask("toy:tiny", "b.onnx")["made"] and digest("a.onnx") == digest("b.onnx")
    assert len(started) == 2


def test_bench_compare_and_select_share_one_export(site: Path, started: list[str]) -> None:
    assert all(cost.error is None for cost in zoo.benchmark(["toy:tiny"], min_seconds=0.01))
    assert len(started) == 1
    compared = zoo.compare(["toy:tiny"], "photos", folds=2)
    assert compared.rows[0].status == "measured" and len(started) == 1
    zoo.select("photos", candidates=["toy:tiny"])
    assert len(started) == 2, "another number of classes is another request"
    zoo.select("photos", candidates=["toy:tiny"])
    assert len(started) == 2


def test_depths_are_kept_too(site: Path, started: list[str]) -> None:
    first, second = (ask("toy:tiny", f"{i}.onnx", depths=[], num_classes=i + 2) for i in range(2))
    assert first["made"] and not second["made"], "a graph of depths has no head"
    assert ask("toy:tiny", "3.onnx", depths=[], num_classes=2)["depths"] == first["depths"]
    assert len(started) == 2 and OnnxModel("3.onnx").depths == (1, 2)


# --- what could go stale
def test_another_package_is_asked_about_and_not_exported_again(site: Path, started: list[str]) -> None:
    ask("toy:tiny")
    (site / "somebodys-1.0.dist-info").mkdir()
    assert not ask("toy:tiny")["made"] and len(started) == 2
    assert not ask("toy:tiny")["made"] and len(started) == 2, "and then it is known"


def test_other_code_exports_again(site: Path, started: list[str]) -> None:
    ask("toy:tiny")
    adapter = next(site.rglob("zoo_toy/__init__.py"))
    adapter.write_text(adapter.read_text() + "\n# fixed\n")
    assert ask("toy:tiny")["made"]


def test_another_mirror_is_looked_into(
    site: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("toy:tiny")
    monkeypatch.setenv("ZOO_MIRROR", str(site))
    assert not ask("toy:tiny")["made"] and len(started) == 2


def test_a_run_that_was_trained_again_is_exported_again(
    site: Path, started: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "toy:tiny", "photos", "--freeze", "none", "--lr", "0.1", "--epochs", "1", "-o", "run"]
    assert here(capsys, *train, "--seed", "1").code == 0
    run = str(Path("run").absolute())
    first = ask(run, "a.onnx")
    assert first["made"] and not ask(run, "b.onnx")["made"] and len(started) == 1
    (tensors,) = Path("run").glob("*.safetensors")
    before, times = tensors.read_bytes(), tensors.stat()
    tensors.write_bytes(before)
    os.utime(tensors, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not ask(run, "c.onnx")["made"] and len(started) == 2, "the same size and date: read, and known"
    assert here(capsys, *train, "--seed", "2").code in (0, 2)
    if tensors.read_bytes() == before:
        assert here(capsys, *train[:-2], "--seed", "2", "-o", "other").code == 0
        tensors.write_bytes(next(Path("other").glob("*.safetensors")).read_bytes())
        Path("run/zoo.json").write_bytes(Path("other/zoo.json").read_bytes())
    assert ask(run, "d.onnx")["made"] and digest("a.onnx") != digest("d.onnx")


def test_other_weights_versions_preprocess_and_depths_are_other_graphs(tmp_path: Path) -> None:
    assert write(ToyEngine(seed=1), tmp_path / "a.onnx").made
    assert not write(ToyEngine(seed=1), tmp_path / "b.onnx").made
    assert write(ToyEngine(seed=2), tmp_path / "c.onnx").made
    assert write(ToyEngine(seed=1), tmp_path / "d.onnx", versions={"numpy": "2"}).made
    assert write(ToyEngine(seed=1), tmp_path / "e.onnx", model_id="toy:other").made
    assert write(ToyEngine(seed=1), tmp_path / "f.onnx", depths=(1, 2)).made
    engine = ToyEngine(seed=1)
    engine.preprocess = dataclasses.replace(engine.preprocess, mean=(0.4, 0.5, 0.5))  # type: ignore[call-arg]
    assert write(engine, tmp_path / "g.onnx").made
    engine = ToyEngine(seed=1)
    engine.labels = ("a", "b", "c")
    assert not write(engine, tmp_path / "h.onnx").made, "only the names differ: no exporter"
    assert OnnxModel(tmp_path / "h.onnx").labels == ("a", "b", "c")


def test_other_versions_of_what_makes_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(ToyEngine(), tmp_path / "a.onnx")
    before = kept.makers()
    monkeypatch.setattr(kept, "makers", lambda: before | {"onnxscript": "0"})
    assert write(ToyEngine(), tmp_path / "b.onnx").made


def test_somebodys_own_module_is_never_taken_from_the_cache(tmp_path: Path, own: Path) -> None:
    engine = ToyEngine()
    engine.architecture = lambda: None  # type: ignore[method-assign]
    assert write(engine, tmp_path / "a.onnx").made and write(engine, tmp_path / "a.onnx").made
    assert not list(own.glob("graphs/*"))


# --- another head
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_head_on_a_cached_backbone_gives_the_bytes_of_a_whole_export(classes: int, tmp_path: Path) -> None:
    write(ToyEngine(num_classes=5, seed=1), tmp_path / "first.onnx")
    engine = ToyEngine(num_classes=5, seed=1)
    engine.reset_head(classes, seed=9)
    engine.labels = tuple(f"class{i}" for i in range(classes))
    assert not write(engine, tmp_path / "a.onnx").made
    export_engine(engine, tmp_path / "b.onnx", model_id="toy:tiny", versions=VERSIONS)
    assert digest(tmp_path / "a.onnx") == digest(tmp_path / "b.onnx")


def test_another_head_of_the_same_shape_is_another_file(tmp_path: Path) -> None:
    """What a frozen backbone's next training gives: equal but for the head's values."""
    engine = ToyEngine(seed=1)
    for seed in (1, 2):
        engine.reset_head(3, seed=seed)
        write(engine, tmp_path / f"{seed}.onnx")
    batch = {"images": np.ones((1, 3, 8, 8), np.float32)}
    assert np.allclose(OnnxModel(tmp_path / "2.onnx").logits(batch), engine.logits(batch), atol=1e-6)
    assert digest(tmp_path / "1.onnx") != digest(tmp_path / "2.onnx")


def test_training_on_a_second_data_set_neither_exports_nor_checks(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(Path("more"), count=5)
    engine = zoo.get("toy:tiny")
    engine.freeze()
    engine.fit("photos", recipe=Recipe(epochs=1), progress=False)
    for module, name in ((exports, "export_engine"), (exports, "put_head")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("exported again"))
    again = zoo.get("toy:tiny")
    monkeypatch.setattr(again.engine, "features", lambda batch: pytest.fail("the framework computed"))
    again.freeze()
    again.fit("more", recipe=Recipe(epochs=1), progress=False)


def test_training_after_bench_uses_its_graph(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("toy:tiny")
    monkeypatch.setattr(exports, "export_engine", lambda *a, **k: pytest.fail("exported again"))
    model = zoo.get("toy:tiny")
    model.freeze()
    model.fit("photos", recipe=Recipe(epochs=1), progress=False)
    model.export("trained.onnx")
    assert np.allclose(
        model.predict("photos/ants"), zoo.OnnxModel("trained.onnx").predict("photos/ants"), atol=1e-6
    )


# --- damage, crashes, no cache
def damaged(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    path.unlink()  # `out.onnx` may be a link to it
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_graph_is_made_anew_and_said(how: str, site: Path, own: Path, started: list[str]) -> None:
    ask("toy:tiny", "a.onnx")
    (graph,) = own.glob("graphs/*.onnx")
    damaged(graph, how)
    with pytest.warns(kept.CacheWarning, match=r"was damaged; it is made again"):
        found = ask("toy:tiny", "b.onnx")
    assert found["made"] and digest("a.onnx") == digest("b.onnx") == digest(graph)


def test_a_damaged_graph_on_the_command_line(
    site: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "toy:tiny", "--min-seconds", "0.01"]
    assert here(capsys, *command).code == 0
    (graph,) = own.glob("graphs/*.onnx")
    damaged(graph, "flipped")
    outcome = process(*command)
    said = next(line for line in outcome.err.splitlines() if "damaged" in line)
    assert outcome.code == 0 and "toy:tiny" in outcome.out and "Traceback" not in outcome.err
    message = said.partition("warning: ")[2].replace(graph.name, "(...).onnx")
    record("A cached export was damaged on disk", "zoo bench toy:tiny", 0, message)


def test_a_record_that_is_half_written_or_old_is_passed_over(
    site: Path, own: Path, started: list[str]
) -> None:
    ask("toy:tiny")
    for text in ("", "[]", "{}", '{"reads": 1, "answer": {}}', '{"reads": {}, "at": 0}'):
        (place,) = own.glob("graphs/*.json")
        place.write_text(text)
        before = len(started)
        assert not ask("toy:tiny")["made"] and len(started) == before + 1


def test_what_a_killed_writer_left_is_swept(site: Path, own: Path) -> None:
    ask("toy:tiny")
    left = own / "graphs" / ".x" / "graph.onnx"
    left.parent.mkdir()
    left.write_bytes(b"half")
    os.utime(left, (1e9, 1e9))
    from zoo import cache

    assert cache.sweep() == [left] and not left.parent.exists()
    assert [entry.kind for entry in cache.entries()].count("graphs") == 1


def test_without_a_cache_folder_it_goes_on(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("no folder")
    monkeypatch.setenv("ZOO_CACHE", "file")
    outcome = process("bench", "toy:tiny", "--min-seconds", "0.01")
    assert outcome.code == 0 and "toy:tiny" in outcome.out, outcome
    (said,) = [line for line in outcome.err.splitlines() if "is not kept" in line]
    record(
        "Exporting into a cache that cannot be written",
        "zoo bench toy:tiny",
        0,
        said.partition("warning: ")[2],
    )


def test_a_target_that_cannot_be_written_is_an_error(site: Path) -> None:
    ask("toy:tiny")
    Path("file").write_text("no folder")
    arguments = {"model": "toy:tiny", "path": str(Path("file/x.onnx").absolute())}
    (found,) = export_all([Request("it", "toy", arguments)], say=lambda _: None).values()
    assert isinstance(found, StorageError)


def test_clearing_takes_the_records_along(site: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask("toy:tiny")
    shown = json.loads(here(capsys, "cache", "--json").out)["entries"]
    assert [(row["kind"], row["what"]) for row in shown] == [("graphs", "toy:tiny, 3 classes")]
    assert here(capsys, "cache", "--clear").code == 0
    assert not [path for path in own.rglob("*") if path.is_file()]


# --- what loading rested on
def test_notes_see_changes_absences_and_additions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "FINE_NS", 0)
    folder, file = tmp_path / "folder", tmp_path / "file"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "config.json").write_text("{}")
    file.write_text("abc")
    with reads.noted() as found:
        for path in (folder, file, tmp_path / "absent"):
            reads.note(path)
        with reads.aside():
            reads.note(tmp_path)
    assert len(found) == 3 and reads.unchanged(found) and reads.unchanged(json.loads(json.dumps(found)))
    for change in (
        lambda: (tmp_path / "absent").write_text(""),
        lambda: (folder / "more").write_text(""),
        lambda: (folder / "in" / "config.json").write_text("[]"),
        lambda: file.unlink(),
    ):
        with reads.noted() as found:
            for path in (folder, file, tmp_path / "absent"):
                reads.note(path)
        change()
        assert not reads.unchanged(found)


def test_what_just_changed_is_not_relied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within the resolution of the clock would not be seen."""
    monkeypatch.setattr(reads, "FINE_NS", 10**12)
    (tmp_path / "file").write_text("abc")
    with reads.noted() as found:
        reads.note(tmp_path / "file")
    assert not reads.unchanged(found)


def test_a_branch_of_the_hub_that_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "FINE_NS", 0)
    place = tmp_path / "models--o--n"
    for part, text in (("refs/main", "123"), ("snapshots/123/config.json", "{}")):
        (place / part).parent.mkdir(parents=True)
        (place / part).write_text(text)
    with reads.noted() as found:
        reads.note(place / "snapshots" / "123")
    assert reads.from_hub(found) and reads.unchanged(found)
    (place / "refs" / "main").write_text("456")
    assert not reads.unchanged(found)


def test_the_hub_is_asked_again_after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    stored = {"reads": {"/nowhere/refs": None}, "at": requests.time.time() - 2 * requests.HUB_S}
    assert not requests._holds(stored)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert requests._holds(stored)


def test_no_warning_where_all_is_well(site: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask("toy:tiny")
        ask("toy:tiny")
