"""The cheap scores before the probes: who leaves by them, on how many examples, and who is called back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from errors_table import photographs
from made_up import device

import zoo
from zoo.choose.evidence import Evidence
from zoo.choose.ladder import called_back
from zoo.choose.parts import Judged
from zoo.choose.selection import Selection
from zoo.choose.stages import scores
from zoo.choose.stages.scores import SCORES, rungs
from zoo.testing.toy import installed


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: 100 photographs of each of two classes, and `blind`, a network that sees nothing."""
    work = tmp_path / "work"
    photographs(work / "photos", count=100)
    monkeypatch.chdir(work)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with installed(tmp_path / "site"):
        model = zoo.get("toy:tiny", num_classes=2)
        state = model.state()
        stem = next(name for name in state if name.startswith("stem") and state[name].ndim == 2)
        model.engine.load_state(state | {stem: np.zeros_like(state[stem])})
        model.save("blind")
        yield work


def select(**options: object) -> Selection:
    return zoo.select("photos", candidates=["toy:tiny", "blind"], folds=3, **options)  # type: ignore[arg-type]


def test_who_cannot_win_is_not_probed_and_stays_in_the_table() -> None:
    found = select()
    assert found.best == "toy:tiny"
    (blind,) = [row for row in found.rows if "blind" in row.id]
    assert (blind.status, blind.stage) == ("within", SCORES)
    assert blind.accuracy is not None and blind.accuracy < 0.7
    assert "points below" in blind.reason and blind.reason.endswith(", by the cheap score")
    bill = {entry["stage"]: (entry["candidates"], entry["left"]) for entry in found.bill}
    assert bill[SCORES] == (2, 1) and bill["probe"] == (1, 1)
    assert sorted(found.settings["ranking"]["order"]) == sorted([found.best, blind.id]), (
        "a tighter budget may want it"
    )
    assert "curve" not in blind.details and "card" in blind.details
    page = found.report("report.html").read_text(encoding="utf-8")
    assert "macro-f1" in page and "'low'" not in page and "&#39;low" not in page, "figures, not a dictionary"


def test_on_a_part_of_the_examples_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "FIRST", 40)
    monkeypatch.setattr(scores, "OF_A_CLASS", 5)
    costly = {"toy:tiny": 1.0, "toy:blind": 2.0}
    found = select(costs=device(Path("device.json"), costly))
    (blind,) = [row for row in found.rows if "blind" in row.id]
    assert "on 40 examples" in blind.reason and blind.stage == SCORES
    assert blind.id not in found.settings["ranking"]["order"]
    cheap = select(costs=device(Path("device.json"), {**costly, "toy:blind": 0.5}))
    (blind,) = [row for row in cheap.rows if "blind" in row.id]
    assert "on 40 examples" not in blind.reason, "nobody is as fast: a tighter budget would want it"


@pytest.mark.parametrize("kinds", ["cross-validation", "validation"])
def test_rungs_are_stratified_and_nested(kinds: str) -> None:
    targets = np.repeat([0, 1, 2], [3000, 1500, 500])[np.random.default_rng(0).permutation(5000)]
    places = np.arange(5000)
    halves = [(places[::2], places[1::2]), (places[1::2], places[::2])]
    splits = halves if kinds == "cross-validation" else [(places[:4000], places[4000:])]
    groups = np.arange(5000 if kinds == "cross-validation" else 4000) // 2
    found = list(rungs(Judged(list(range(5000)), targets, splits), groups, seed=0))
    assert [len(judged.inputs) for judged, _ in found] == [512, 2048, 5000]
    for (small, together), (large, _) in itertools.pairwise(found):
        assert set(small.inputs) < set(large.inputs)
        shares = np.bincount(small.targets) / len(small.targets)
        assert np.abs(shares - [0.6, 0.3, 0.1]).max() < 0.01
        inputs = np.array(small.inputs)
        assert (small.targets == targets[inputs]).all()
        pairs = together[:, None] == together[None]
        assert (pairs == (_group(inputs, groups)[:, None] == _group(inputs, groups)[None])).all()
        if kinds == "validation":
            ((fitted, held),) = small.splits
            assert (inputs[fitted] < 4000).all() and (inputs[held] >= 4000).all()
            assert len(held) / len(inputs) == pytest.approx(0.2, abs=0.01)
        assert sorted(np.concatenate([held for _, held in small.splits])) == (
            list(range(len(inputs))) if kinds == "cross-validation" else sorted(small.splits[0][1])
        )


def _group(inputs: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.array([groups[i] if i < len(groups) else 10**6 + i for i in inputs])


def test_few_examples_have_one_rung() -> None:
    places = np.arange(1000)
    judged = Judged(list(range(1000)), places % 2, [(places[::2], places[1::2]), (places[1::2], places[::2])])
    ((only, _),) = rungs(judged, places, seed=0)
    assert only is judged


def test_who_is_near_the_best_probe_is_called_back() -> None:
    """The probes came out lower than the cheap scores had it: whoever left may win."""
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    out = {"near": Evidence(hard < 0.8), "far": Evidence(hard < 0.6)}
    assert called_back(out, {"best": Evidence(hard < 0.82)}) == ["near"]
    assert called_back(out, {"best": Evidence(hard < 0.95), "near": Evidence(hard < 0.7)}) == []
