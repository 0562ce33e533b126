"""Kept figures beside new ones: only of the same bytes, and only where the reference model says so."""

from __future__ import annotations

import datetime
from pathlib import Path

import onnx
import pytest
from cost_graphs import conv_net, node, write

from zoo.cards import Cost
from zoo.cost import kept as module
from zoo.cost import kept_or_measured
from zoo.cost.kept import _Session
from zoo.cost.reference import ID, write_reference
from zoo.cost.store import Kept, Store
from zoo.errors import InputError
from zoo.files import sha256_file

ANYTHING = 1e9  # an agreement that every machine reaches, so that a test does not depend on its noise


@pytest.fixture(autouse=True)
def _own_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of one's own; figures count although the machine that runs tests is a noisy one."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Store, "sound", staticmethod(lambda cost: cost.error is None))


def run(*paths: Path, **options: object) -> tuple[dict[str, Cost], list[str]]:
    """Costs by id, and the ids that were loaded for it, the reference left out."""
    said: list[str] = []
    options = {"threads": 1, "min_seconds": 0.05, **options}
    costs = kept_or_measured([(p.stem, p) for p in paths], progress=said.append, **options)  # type: ignore[arg-type]
    loaded = [text.split()[1] for text in said if text.startswith("loading")]
    assert (ID in loaded) != all(cost.error for cost in costs)  # asked each time, but not beside nothing
    return {cost.id: cost for cost in costs}, [name for name in loaded if name != ID]


def figures(cost: Cost) -> tuple[object, ...]:
    """What no two measurements have alike."""
    return cost.latency_p50_ms, cost.load_ms, cost.throughput_per_s, cost.samples, cost.sha256, cost.machine


def test_a_second_run_measures_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGREEMENT", ANYTHING)
    a, b = conv_net(tmp_path / "a.onnx"), conv_net(tmp_path / "b.onnx", channels=9)
    first, loaded = run(a)
    assert loaded == ["a"] and first["a"].measured_at
    second, loaded = run(b, a)
    assert loaded == ["b"] and list(second) == ["b", "a"] and figures(second["a"]) == figures(first["a"])
    third, loaded = run(a, b, fresh=True)
    assert loaded == ["a", "b"] and third["a"].latency_p50_ms != first["a"].latency_p50_ms
    assert len(Store().history(id="a")) == 2


def test_no_figure_of_a_machine_that_was_faster_or_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an agreement that no two measurements reach, everything is measured again, once."""
    a, b = conv_net(tmp_path / "a.onnx"), conv_net(tmp_path / "b.onnx", channels=9)
    run(a)
    monkeypatch.setattr(module, "AGREEMENT", 0.0)
    costs, loaded = run(a, b)
    assert loaded == ["b", "a"] and list(costs) == ["a", "b"]
    assert len(Store().history(id="a")) == 2


def test_three_percent_of_the_reference_decide() -> None:
    session = _Session(None, None, None, (1, 8), None, reference={1: 1.0, 8: 10.0})  # type: ignore[arg-type]

    def kept(ms: float, size: int) -> Kept:
        return Kept(0, Cost("old", batch_size=size, latency_p50_ms=ms), ms)

    agreeing = session.agreeing("m", {1: [kept(1.04, 1), kept(0.971, 1)], 8: [kept(10.29, 8), kept(10.0, 8)]})
    assert agreeing is not None  # the latest that agrees, under the name asked for
    assert [(cost.id, cost.latency_p50_ms) for cost in agreeing] == [("m", 0.971), ("m", 10.29)]
    assert session.agreeing("m", {1: [kept(1.0, 1)], 8: [kept(10.31, 8)]}) is None
    session.reference.clear()  # the reference itself could not be measured
    assert session.agreeing("m", {1: [kept(1.0, 1)], 8: [kept(10.0, 8)]}) is None


def test_figures_of_the_last_minutes_need_no_reference() -> None:
    """All of them, all recent, and of sessions in which the reference was as fast."""
    said: list[Cost] = []
    session = _Session(None, None, None, (1,), said.append, recent_s=600.0)  # type: ignore[arg-type]
    minutes = datetime.timedelta(minutes=1)

    def kept(age: int, reference_ms: float) -> dict[int, list[Kept]]:
        when = (datetime.datetime.now(datetime.UTC) - age * minutes).isoformat(timespec="seconds")
        return {1: [Kept(0, Cost("old", latency_p50_ms=2.0, measured_at=when), reference_ms)]}

    both = [("a", Path("a.onnx")), ("b", Path("b.onnx"))]
    good = session.recent(both, {"a": kept(1, 1.0), "b": kept(9, 1.02)})
    assert [cost.id for cost in good.values()] == [cost.id for cost in said] == ["a", "b"]
    assert session.recent(both, {"a": kept(1, 1.0)}) == {}
    assert session.recent(both, {"a": kept(1, 1.0), "b": kept(11, 1.0)}) == {}
    assert session.recent(both, {"a": kept(1, 1.0), "b": kept(2, 1.04)}) == {}
    session.recent_s = 0.0
    assert session.recent(both, {"a": kept(0, 1.0), "b": kept(0, 1.0)}) == {}


def test_other_bytes_under_the_same_name_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGREEMENT", ANYTHING)
    run(conv_net(tmp_path / "a.onnx"))
    costs, loaded = run(conv_net(tmp_path / "a.onnx", channels=16))
    assert loaded == ["a"] and costs["a"].params == 16 * 27 + 16


def test_the_same_bytes_under_another_name_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGREEMENT", ANYTHING)
    first, _ = run(conv_net(tmp_path / "a.onnx"))
    costs, loaded = run((tmp_path / "a.onnx").rename(tmp_path / "b.onnx"))
    assert loaded == [] and costs["b"].latency_p50_ms == first["a"].latency_p50_ms


@pytest.mark.parametrize("options", [{"batch_sizes": (1, 2)}, {"min_seconds": 0.1}])
def test_more_than_was_measured_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict
) -> None:
    monkeypatch.setattr(module, "AGREEMENT", ANYTHING)
    path = conv_net(tmp_path / "a.onnx")
    run(path)
    _, loaded = run(path, **options)
    assert set(loaded) == {"a"}


def test_weights_beside_the_file_are_measured_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's digest does not cover them."""
    import numpy as np

    monkeypatch.setattr(module, "AGREEMENT", ANYTHING)
    weight = np.ones((300, 300), np.float32)
    path = write(tmp_path / "a.onnx", [node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 300]}, {"w": weight})
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="a.data")
    run(path)
    assert run(path)[1] == ["a"]


def test_a_failure_is_kept_as_history_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGREEMENT", ANYTHING)
    path = tmp_path / "a.onnx"
    path.write_text("no model")
    assert run(path)[0]["a"].error
    conv_net(path)
    assert not run(path)[0]["a"].error
    assert [bool(kept.cost.error) for kept in Store().history(id="a")] == [True, False]


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch 1 is final when batch 2 begins."""
    path = conv_net(tmp_path / "a.onnx")

    def interrupt(text: str) -> None:
        if text.startswith("loading a (batch 2)"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_or_measured([("a", path)], batch_sizes=(1, 2), threads=1, min_seconds=0.05, progress=interrupt)
    (kept,) = Store().history(id="a")
    assert kept.cost.batch_size == 1 and kept.reference_ms


def test_what_ctrl_c_cut_short_never_stands_in_for_a_whole_measurement(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "a.onnx")

    def interrupt(text: str) -> None:
        if text.startswith("timing") and "round 1 of" not in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_or_measured([("a", path)], threads=1, min_seconds=0.3, progress=interrupt)
    assert all(kept.reference_ms is None for kept in Store().history(id="a"))


def test_arguments_that_cannot_be_are_refused_though_all_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGREEMENT", ANYTHING)
    path = conv_net(tmp_path / "a.onnx")
    run(path)
    for options in ({"min_seconds": 0.0}, {"batch_sizes": ()}, {"batch_sizes": (1, 1)}):
        with pytest.raises(InputError):
            kept_or_measured([("a", path)], threads=1, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the same id twice: a"):
        kept_or_measured([("a", path), ("a", path)], threads=1, min_seconds=0.05)


def test_a_limit_of_zero_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "0")
    (cost,) = kept_or_measured([("a", conv_net(tmp_path / "a.onnx"))], threads=1, min_seconds=0.05)
    assert cost.error is None and not (tmp_path / "cache").exists()


def test_the_reference_is_the_same_everywhere(tmp_path: Path) -> None:
    """Another graph under this name would make every kept figure look as of a slower or faster machine."""
    first, second = write_reference(tmp_path / "1.onnx"), write_reference(tmp_path / "2.onnx")
    assert sha256_file(first) == sha256_file(second)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(first)).graph.initializer}
    assert float(weights["w0"][0, 0, 0, 1]) == pytest.approx(0.2360680 * (6 / 288) ** 0.5, rel=1e-5)
    assert sum(w.size for w in weights.values()) == 3 * 32 * 32 * 9 + 32 * 2048 + 2048 * 2048
