"""`zoo.select` end to end on the numpy toy: real worker processes, real ONNX Runtime, real files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cards import Budget
from zoo.choose import benchmark, compare, plan, select
from zoo.errors import DataError, InputError, NothingFitsError
from zoo.graph import OnnxModel, verify
from zoo.testing.toy import forget_adapters, installed


@pytest.fixture(autouse=True)
def toy(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "site"):
        yield


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """30 photographs of each of two classes, told apart by where the light is, not by colour."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(30):
            pixels = rng.integers(0, 120, (24, 24, 3))
            half = slice(0, 12) if name == "left" else slice(12, 24)
            pixels[:, half] += 80
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "photos"


def test_it_picks_writes_and_what_is_written_works(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pick"
    found = select(photos, budget=Budget(latency_ms=500), candidates=["toy:tiny,depth=all"], out=out, folds=3)
    assert found.best.startswith("toy:tiny,depth=")
    assert found.test["n"] == 12
    assert found.test["accuracy"] > 0.7

    written = json.loads((out / "selection.json").read_text())
    assert written["best"] == found.best
    rows = {row["id"]: row for row in written["candidates"]}
    assert rows[found.best]["status"] == "chosen"
    assert all(row["accuracy"] is not None for row in rows.values())
    assert rows["majority class"]["accuracy"] == pytest.approx(0.5, abs=0.1)
    assert all(row["reason"] for row in rows.values())
    assert rows[found.best]["cost"]["latency_p50_ms"] > 0

    shipped = OnnxModel(out / "model.onnx")
    assert shipped.labels == ("left", "right")
    assert verify(out / "model.onnx")
    one = photos / "left" / "0.png"
    probability = shipped.predict([one])[0]
    printed = subprocess.run(
        [sys.executable, str(out / "predict.py"), str(one)], capture_output=True, text=True, check=True
    ).stdout
    assert ("left", "right")[int(probability.argmax())] in printed.splitlines()[0]


def test_the_test_part_is_never_used_for_choosing(photos: Path, tmp_path: Path) -> None:
    """Other test data changes the test figures, and neither the evidence nor the head."""
    rest, other = tmp_path / "a", tmp_path / "b"
    for folder, names in ((rest, range(25)), (other, range(25, 30))):
        for label in ("left", "right"):
            (folder / label).mkdir(parents=True)
            for number in names:
                (folder / label / f"{number}.png").write_bytes(
                    (photos / label / f"{number}.png").read_bytes()
                )
    swapped = tmp_path / "swapped"
    (other / "left").rename(tmp_path / "kept")
    (swapped).mkdir()
    (tmp_path / "kept").rename(swapped / "right")
    (other / "right").rename(swapped / "left")
    honest = select(rest, candidates=["toy:tiny"], folds=3, out=tmp_path / "1")
    wrong = select(rest, test=swapped, candidates=["toy:tiny"], folds=3, out=tmp_path / "2")
    assert wrong.test["accuracy"] < 0.3 < 0.7 < honest.test["accuracy"]
    assert next(r.accuracy for r in wrong.rows if r.id == "toy:tiny") > 0.7


def test_a_validation_part_judges_everybody_baselines_too(photos: Path, tmp_path: Path) -> None:
    """Labels of the validation part swapped: whoever learned something is now wrong on all ten of them."""
    for old, new in (("left", "right"), ("right", "left")):
        (tmp_path / "held" / new).mkdir(parents=True)
        for number in range(25, 30):
            (photos / old / f"{number}.png").rename(tmp_path / "held" / new / f"{number}.png")
    found = select(photos, validation=tmp_path / "held", candidates=["toy:tiny"])
    rows = {row.id: row for row in found.rows}
    assert rows["toy:tiny"].accuracy < 0.3 < 0.7 < found.test["accuracy"]
    assert rows["majority class"].accuracy == 0.5
    assert rows["majority class"].accuracy_high - rows["majority class"].accuracy_low > 0.5, "of 10 examples"
    assert "on the validation part on 10 examples" in found.why


def test_nothing_fits_names_the_limit_and_the_nearest(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        NothingFitsError, match=r"none of 1 candidates fits size <= 1e-06 MB.*toy:tiny: size"
    ) as e:
        select(photos, budget=Budget(size_mb=1e-6), candidates=["toy:tiny"], out=tmp_path / "out", folds=3)
    assert (e.value.limit, e.value.nearest, e.value.exit_code) == ("size", "toy:tiny", 3)
    rows = json.loads((tmp_path / "out" / "selection.json").read_text())["candidates"]
    assert [row["status"] for row in rows] == ["over budget"]


def test_a_candidate_that_cannot_be_reached_is_a_row(photos: Path) -> None:
    found = select(photos, candidates=["toy:tiny", "torch:resnet18@/nowhere/x.pth"], folds=3)
    row = next(row for row in found.rows if "resnet18" in row.id)
    assert row.status in ("unreachable", "failed")
    assert row.reason
    assert found.best == "toy:tiny"


CRASHER = """
import dataclasses, os
from zoo.testing.toy import ToyAdapter

class Crasher(ToyAdapter):
    framework = "boom"

    def load(self, request):
        if request.name == "crash":
            os._exit(3)
        return super().load(dataclasses.replace(request, name="tiny"))

ADAPTER = Crasher()
"""


def test_a_crash_costs_one_row(photos: Path, tmp_path: Path) -> None:
    """The first candidate kills its worker; the second of the same framework gets another."""
    site = tmp_path / "site"
    (site / "zoo_boom").mkdir()
    (site / "zoo_boom" / "__init__.py").write_text(CRASHER)
    (site / "zoo_boom-0.0.dist-info").mkdir()
    (site / "zoo_boom-0.0.dist-info" / "METADATA").write_text("Name: zoo-boom\nVersion: 0.0\n")
    points = "[zoo.adapters]\nboom = zoo_boom:ADAPTER\n"
    (site / "zoo_boom-0.0.dist-info" / "entry_points.txt").write_text(points)
    forget_adapters()
    found = select(photos, candidates=["boom:crash", "boom:fine"], folds=3)
    rows = {row.id: row for row in found.rows}
    assert found.best == "boom:fine"
    assert rows["boom:crash"].status == "failed"
    assert "worker 'boom' exited with code 3" in rows["boom:crash"].reason


def test_no_candidate_at_all_is_an_error(photos: Path) -> None:
    with pytest.raises(InputError, match=r"no candidate could be loaded\. toy:tiny@/nowhere: no weights"):
        select(photos, candidates=["toy:tiny@/nowhere"], folds=3)


def test_an_output_folder_in_use_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty.*--force"):
        select(photos, candidates=["toy:tiny"], out=tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_too_few_examples_for_the_folds(photos: Path) -> None:
    for path in sorted((photos / "left").iterdir())[5:]:
        path.unlink()
    with pytest.raises(DataError, match="class 'left' has 4 training examples, too few for 5 folds"):
        select(photos, candidates=["toy:tiny"])


@pytest.mark.parametrize(
    ("left", "folds", "fits"), [(4, 2, False), (5, 2, True), (4, 3, True), (3, 3, False)]
)
def test_a_class_as_small_as_may_be(photos: Path, left: int, folds: int, fits: bool) -> None:
    """Either it is said what is needed, or all of it runs: the splits and those within them."""
    for path in sorted((photos / "left").iterdir())[left:]:
        path.unlink()
    if fits:
        assert select(photos, candidates=["toy:tiny"], folds=folds).best == "toy:tiny"
        return
    with pytest.raises(DataError, match=r"too few for 3 folds|too few for choosing .*: 4 are needed"):
        select(photos, candidates=["toy:tiny"], folds=folds)


def test_table_pareto_and_explain(photos: Path) -> None:
    found = select(photos, candidates=["toy:tiny,depth=all"], folds=3)
    table = found.table
    assert table.loc[found.best, "status"] == "chosen"
    assert "latency_p50_ms" in table.columns
    assert set(found.pareto) <= set(table.index)
    assert found.explain(found.best).startswith(f"{found.best} is chosen")
    with pytest.raises(InputError, match="was no candidate"):
        found.explain("toy:other")


def test_the_same_seed_gives_the_same_evidence(photos: Path) -> None:
    first, again = (select(photos, candidates=["toy:tiny"], folds=3, seed=4) for _ in range(2))
    assert [(r.id, r.accuracy) for r in first.rows] == [(r.id, r.accuracy) for r in again.rows]
    assert first.test == again.test


def test_plan_loads_nothing(photos: Path) -> None:
    found = plan(photos, candidates=["toy:tiny,depth=all", "torch:resnet50"])
    text = "\n".join(found.lines())
    assert "torch:resnet50" in text and "MB" in text and "on 60 examples" in text
    assert "torch" not in sys.modules


def test_plan_counts_precisions_sizes_and_fine_tuning(photos: Path) -> None:
    asked = {"candidates": ["toy:tiny,depth=all"]}
    plain, more = (
        plan(photos, **asked),
        plan(photos, **asked, precisions=("fp32", "int8-static"), within_s=600),
    )
    ran = select(photos, **asked, precisions=("fp32", "int8-static"), folds=3)
    entered = sum(row.status not in ("baseline", "unused") for row in ran.rows)
    assert 2 * plain.steps[0].candidates == more.steps[0].candidates == entered
    assert more.disk_mb > plain.disk_mb or not plain.disk_mb
    assert plain.seconds["variants"] == plain.seconds["fine-tune"] == 0 < more.seconds["variants"]
    assert sum(more.seconds.values()) == pytest.approx(600)
    assert len(plan(photos, **asked, sizes=(16, 24)).steps) == 2
    with pytest.raises(InputError, match="a time above 0"):
        plan(photos, **asked, within_s=0)


def test_compare_with_and_without_data(photos: Path) -> None:
    bare = compare(["toy:tiny"])
    assert bare.rows[0].cost is not None and bare.rows[0].accuracy is None
    rows = {row.id: row for row in compare(["toy:tiny", "toy:tiny@none"], photos, folds=3).rows}
    assert rows["toy:tiny"].accuracy > 0.7
    assert "linear probe" in rows["toy:tiny"].reason
    assert rows["majority class"].status == "baseline"


def test_a_model_of_another_kind_of_data_is_a_row(photos: Path) -> None:
    row = next(r for r in compare(["toy:words", "toy:tiny"], photos, folds=3).rows if r.id == "toy:words")
    assert (row.status, row.reason) == ("failed", "does not take image data")
    chosen = select(photos, candidates=["toy:words", "toy:tiny"], folds=3)
    assert chosen.explain("toy:words") == "toy:words is failed: does not take image data"


def test_benchmark_takes_names_and_files_alike(photos: Path, tmp_path: Path) -> None:
    found = select(photos, candidates=["toy:tiny"], folds=3, out=tmp_path / "pick")
    path = tmp_path / "pick" / "model.onnx"
    costs = benchmark(["toy:tiny", path, tmp_path / "gone.onnx"], batch_sizes=(1, 4), min_seconds=0.05)
    assert [(c.id, c.batch_size) for c in costs] == [
        (name, size) for name in ("toy:tiny", str(path), str(tmp_path / "gone.onnx")) for size in (1, 4)
    ]
    assert costs[2].params == found.cost.params
    assert costs[0].error is None and "no file" in costs[-1].error
