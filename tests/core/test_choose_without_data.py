"""Without data: others' figures, and cost measured here; real workers, real ONNX Runtime, an adapter of four sizes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.cards import IMAGE_TASK, Budget, Cost, ModelCard, WeightsCard
from zoo.catalogue import Entry
from zoo.choose import plan_without_data, select_without_data
from zoo.choose.pace import Pace
from zoo.choose.promising import promising
from zoo.choose.without_data import _Search
from zoo.cost import machine, usable_cores
from zoo.cost.store import Settings, Store
from zoo.errors import InputError, NothingFitsError
from zoo.testing.toy import forget_adapters, installed

ADAPTER = """
import os
from zoo.testing.toy import LABELS, ToyAdapter, ToyEngine

class Shop(ToyAdapter):
    framework = "shop"

    def load(self, request):
        if request.name == "broken":
            raise RuntimeError("no such layer")
        engine = ToyEngine("image", width=int(request.name[1:]), num_classes=3, seed=request.seed)
        engine.labels = LABELS
        return engine

ADAPTER = Shop()
"""


def card(width: int, top1: float | None, *, licence: str = "mit", name: str = "") -> ModelCard:
    """A toy of that width: MACs and parameters as they are; its accuracy made up, as publishers do not."""
    macs = 192 * width + 2 * width * width + 3 * width
    weights = WeightsCard(
        tag="v1", licence=licence, metric="acc@1" if top1 else None, value=top1,
        dataset="ImageNet-1K" if top1 else None, file=f"w{width}.bin", source="https://example.org/figures",
        bytes=4 * macs,
    )  # fmt: skip
    return ModelCard(
        "shop",
        name or f"w{width}",
        IMAGE_TASK,
        "toy",
        params=macs,
        macs_g=macs / 1e9,
        size=8,
        weights=(weights,),
    )


CARDS = [
    card(16, 40.0), card(64, 60.0), card(256, 70.0, licence="unknown"), card(1024, 80.0), card(32, None),
    card(128, 65.0, name="broken"),
]  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "site") as site:
        files = {
            "zoo_shop/__init__.py": ADAPTER,
            "zoo_shop/cards.json": json.dumps([dataclasses.asdict(one) for one in CARDS]),
            "zoo_shop-0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: zoo-shop\nVersion: 0.0\n",
            "zoo_shop-0.0.dist-info/entry_points.txt": "[zoo.adapters]\nshop = zoo_shop:ADAPTER\n",
        }
        for name, text in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text)
        forget_adapters()
        yield


def rows_of(found: object) -> dict:
    return {row.id: row for row in found.rows}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("shop")
def test_the_most_accurate_by_publication_that_is_within_the_budget_by_measurement() -> None:
    budget = Budget(memory_mb=1000, size_mb=0.2)
    found = select_without_data(IMAGE_TASK, budget=budget, candidates=["shop:w*", "shop:broken"])
    rows = rows_of(found)
    assert found.best == "shop:w64@v1", {name: row.reason for name, row in rows.items()}
    assert rows["shop:w1024@v1"].reason == "size of float32 weights 9.19 MB > 0.2 MB"
    assert rows["shop:w32@v1"].reason == "no ImageNet-1K top-1 is published of it"
    assert rows["shop:broken@v1"].status == "left out"
    chosen = rows["shop:w64@v1"]
    assert chosen.accuracy is None and chosen.details["published"]["value"] == 60.0
    assert chosen.cost.latency_p50_ms > 0 and found.cost.id == "shop:w64@none"
    assert rows["shop:w16@v1"].cost is None, "less accurate by publication: not measured"
    assert "By others' figures, not on your data: shop:w64@v1, top-1 60.00 % on ImageNet-1K" in found.why
    assert "measured here with random weights" in found.why and "zoo select DATA" in found.why
    json.dumps(found.to_dict())


@pytest.mark.usefixtures("shop")
def test_a_network_that_fails_is_a_row_and_the_next_is_measured() -> None:
    found = select_without_data(IMAGE_TASK, budget=Budget(params_m=0.06, licence="permissive"))
    rows = rows_of(found)
    assert found.best == "shop:w64@v1"
    assert rows["shop:broken@v1"].status == "failed" and "no such layer" in rows["shop:broken@v1"].reason
    assert rows["shop:w256@v1"].reason == "licence unknown, not permissive"


@pytest.mark.usefixtures("shop")
def test_nothing_fits_names_the_nearest() -> None:
    with pytest.raises(
        NothingFitsError, match=r"none of \d measured networks fits memory <= 0\.001 MB.*nearest is shop:"
    ):
        select_without_data(IMAGE_TASK, budget=Budget(memory_mb=0.001), candidates=["shop:w16", "shop:w64"])
    with pytest.raises(NothingFitsError, match="left before anything is measured"):
        select_without_data(IMAGE_TASK, budget=Budget(params_m=1e-6), candidates=["shop:w16"])


@pytest.mark.usefixtures("shop")
def test_the_count_ends_it_and_what_may_be_better_is_said() -> None:
    budget = Budget(memory_mb=1e-3, size_mb=50)
    with pytest.raises(NothingFitsError, match="1 networks were measured, which is the limit"):
        select_without_data(IMAGE_TASK, budget=budget, candidates=["shop:w16", "shop:w64"], most=1)


@pytest.mark.usefixtures("shop")
def test_costs_of_another_device_are_taken_and_nothing_is_measured(tmp_path: Path) -> None:
    budget = Budget(params_m=0.06)
    here = select_without_data(IMAGE_TASK, budget=budget, candidates=["shop:w16"])
    path = tmp_path / "device.json"
    one = dataclasses.replace(
        here.cost, latency_p50_ms=7.0, machine={**here.cost.machine, "cpu": "a small one"}
    )
    path.write_text(json.dumps([dataclasses.asdict(one)]))
    found = select_without_data(
        IMAGE_TASK, budget=Budget(latency_ms=8), costs=path, candidates=["shop:w16", "shop:w64"]
    )
    assert found.best == "shop:w16@v1" and found.cost.latency_p50_ms == 7.0
    assert "a small one" in found.settings["notes"][0] and "by the given costs" in found.why
    assert rows_of(found)["shop:w64@v1"].reason == "no figure of this device"


@pytest.mark.usefixtures("shop")
def test_a_plan_measures_nothing_and_names_what_nobody_published_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    asked = ["shop:w64", "shop:w256", "shop:w16", "shop:w32"]
    lines = plan_without_data(
        IMAGE_TASK, budget=Budget(latency_ms=20, licence="mit"), candidates=asked, most=3
    )
    assert lines[0] == (
        "2 candidates are left by their cards, 1 by licence, 1 because no ImageNet-1K top-1 is published of it are not."
    )
    assert lines[1].startswith("Up to 3 networks are exported with random weights and measured")
    assert [line.partition(",")[0] for line in lines[2:]] == [
        "shop:w64@none: top-1 60.00 % by its publisher",
        "shop:w16@none: top-1 40.00 % by its publisher",
    ]
    kept, rows = promising(
        ["shop:w64", "shop:wide*", "shop:w16,size=4"], Budget(latency_ms=20), offline=False
    )
    assert [entry.id for entry in kept] == ["shop:w64@v1"]
    reasons = {row.id: (row.status, row.reason) for row in rows}
    assert (
        reasons["shop:wide*"][0] == "failed"
        and "no image-classification model matches" in reasons["shop:wide*"][1]
    )
    assert reasons["shop:w16,size=4"][1] == "no ImageNet-1K top-1 is published of it as it is asked for"
    assert Store().ids() == []


def test_what_cannot_be_answered_without_data() -> None:
    with pytest.raises(InputError, match="publishers state figures of texts on another data set each"):
        select_without_data("text-classification", budget=Budget(latency_ms=5))
    with pytest.raises(InputError, match="give a limit"):
        select_without_data(IMAGE_TASK, budget=Budget(licence="mit"))
    with pytest.raises(InputError, match="no task 'detection'"):
        select_without_data("detection", budget=Budget(latency_ms=5))


def entry(top1: float, macs_g: float, family: str) -> Entry:
    weights = WeightsCard(tag="v1", metric="acc@1", value=top1, dataset="ImageNet-1K")
    name = f"{family}{macs_g:g}"
    return Entry(
        ModelCard("shop", name, IMAGE_TASK, family, macs_g=macs_g, size=8, weights=(weights,)), weights
    )


def test_the_search_measures_no_more_than_the_answer_needs() -> None:
    """A machine of 10 ms for 10^9 MACs, dense ones twice as fast, of which the search is not told."""
    entries = [
        entry(90, 40, "dense"),
        entry(85, 3, "dense"),
        entry(84, 2.4, "deep"),
        entry(80, 1, "deep"),
        entry(70, 0.1, "deep"),
    ]
    search = _Search(entries, Budget(latency_ms=20), Pace(rates={"": [10.0]}), None, lambda text: None)
    measured = []
    while (chosen := search._next()) is not None:
        measured.append(chosen.card.macs_g)
        rate = 5.0 if chosen.card.family == "dense" else 10.0
        name = f"shop:{chosen.card.name}@none"
        cost = Cost(
            name, latency_p50_ms=rate * (chosen.card.macs_g or 0), macs=int((chosen.card.macs_g or 0) * 1e9)
        )
        search.costs[name] = cost
        search.pace.learn(cost, [chosen.card.family])
    assert measured == [1, 2.4, 3], (
        "what should fit; then the better ones, the likeliest first; 40 G cannot fit"
    )
    assert search.best() is entries[1]


def test_pace_is_of_this_machines_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert not Pace.here().known and Pace.here().least_ms(5) == 0
    here = machine()
    cost = Cost(
        "torch:x@none",
        threads=usable_cores(),
        latency_p50_ms=6.0,
        macs=10**9,
        machine=here,
        measured_at="2026-01-01",
    )
    Store().put(cost, Settings(usable_cores(), 128, 1.0, here), reference_ms=1.18)
    pace = Pace.here()
    assert pace.p50_ms == {"torch:x": 6.0}
    assert pace.expected_ms(2) == pytest.approx(2 * (10 + 6) / 2), "the reference's 10 ms a GMAC, and 6"
    assert pace.least_ms(2) == pytest.approx(6.0), "twice the best pace"
