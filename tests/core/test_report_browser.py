"""The report in a real headless browser, from a file, without a network: Playwright drives a Chromium or Chrome.

Skipped with the reason where there is neither; with ZOO_REQUIRE=browser that is a failure.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from present import required
from report_samples import TOLERANCE, Sample, photograph, sample

from zoo.cards import Budget, Cost
from zoo.choose.details import ranking
from zoo.choose.evidence import Evidence
from zoo.choose.limits import excesses
from zoo.choose.rule import judge

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# No sandbox of its own inside a container, and no call home, which a closed network would refuse many at a time.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
HOSTILE = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"


def lacking(reason: str) -> None:
    """Skip, or fail where the browser is required."""
    if "browser" in required():
        pytest.fail(f"ZOO_REQUIRE names the browser, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running browser."""
    path = os.environ.get("ZOO_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        lacking("no Chromium or Chrome on the PATH (apt-get install chromium, or ZOO_BROWSER=/path/to/it)")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        lacking("no module playwright (pip install playwright)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


class Opened:
    """A page, and everything that went wrong on it."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.wrong: list[str] = []
        self.context = browser.new_context(offline=True, **settings)
        self.page = self.context.new_page()
        self.page.on(
            "console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on(
            "request",
            lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else self.wrong.append(r.url),
        )
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-chart=drawn]", timeout=60_000)

    def pick(self) -> str:
        """The id that the sliders pick, "" where nothing fits."""
        found: str = self.page.locator("[data-pick]").get_attribute("data-pick")
        return found

    def slide(self, axis: str, step: int) -> str:
        """Move a slider as a hand does, and see the pick."""
        slider = self.page.locator(f"#s-{axis}")
        slider.evaluate(
            "(node, step) => { node.value = step; node.dispatchEvent(new Event('input')); }", step
        )
        self.page.evaluate("() => new Promise(requestAnimationFrame)")
        return self.pick()


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, Path]:
    """A report of forty candidates whose examples are photographs; one class has a hostile name."""
    folder = tmp_path_factory.mktemp("report")
    pictures = [photograph(folder / "photos" / f"{i}.png", i) for i in range(12)]
    inputs = [pictures[i % 12] for i in range(400)]
    made = sample(40, classes=("ants", "bees", HOSTILE), inputs=inputs)
    return made, made.selection.report(folder / "report.html")


@pytest.fixture
def opened(browser: Any, forty: tuple[Sample, Path]) -> Iterator[Opened]:
    """That report in a tab."""
    tab = Opened(browser, forty[1], viewport={"width": 1280, "height": 900})
    yield tab
    assert not tab.wrong
    tab.context.close()


def test_it_opens_with_the_pick_and_hostile_names_stay_text(
    opened: Opened, forty: tuple[Sample, Path]
) -> None:
    assert opened.pick() == forty[0].selection.best
    assert opened.page.locator("h1").inner_text() == f"Ship {forty[0].selection.best}"
    assert opened.page.evaluate("window.ran") is None
    assert opened.page.locator(".confusion th", has_text="window.ran").count() > 0, "as text"
    assert opened.page.locator("#chart .scatterlayer .point").count() >= 40


def test_a_slider_moves_the_pick_and_the_button_brings_it_back(
    opened: Opened, forty: tuple[Sample, Path]
) -> None:
    best = forty[0].selection.best
    opened.slide("size", 400)
    assert opened.slide("latency", 400) != best, "without these limits a better one fits"
    cheap = opened.slide("latency", 60)
    assert cheap not in ("", best)
    assert opened.slide("latency", 0) == ""
    assert "Nothing that was judged fits" in opened.page.locator("#pick").inner_text()
    opened.page.locator("#reset").click()
    assert opened.pick() == best
    opened.page.locator("#s-latency").press("ArrowLeft")
    opened.page.wait_for_selector("#s-latency[aria-valuetext*='7.']", timeout=5000)  # by keyboard, from 8 ms


def random_budgets(made: Sample, count: int) -> list[Budget]:
    """Limits at, just below and around what candidates cost, some absent."""
    rng = np.random.default_rng(1)
    values = {
        "latency_ms": [c.latency_p50_ms for c in made.costs.values()],
        "size_mb": [c.size_mb for c in made.costs.values()],
        "memory_mb": [c.peak_memory_mb for c in made.costs.values() if c.peak_memory_mb],
        "macs_g": [c.macs / 1e9 for c in made.costs.values() if c.macs],
        "params_m": [c.params / 1e6 for c in made.costs.values() if c.params],
    }
    found = []
    for _ in range(count):
        limits = {
            name: float(rng.choice(known)) * float(rng.choice([1.0, 1 - 1e-12, 1.3]))
            for name, known in values.items()
            if rng.random() < 0.5
        }
        found.append(Budget(**limits))
    return found


def by_rule(made: Sample, budget: Budget) -> str:
    """What Python picks, "" where nothing fits."""
    fitting = {name: e for name, e in made.evidence.items() if not excesses(made.costs[name], budget)}
    return judge(fitting, made.costs, tolerance=TOLERANCE).order[0] if fitting else ""


def test_the_page_picks_as_the_rule_does_within_any_budget(
    opened: Opened, forty: tuple[Sample, Path]
) -> None:
    budgets = random_budgets(forty[0], 500)
    fields = {
        "latency": "latency_ms",
        "size": "size_mb",
        "memory": "memory_mb",
        "macs": "macs_g",
        "params": "params_m",
    }
    limits = [{axis: asdict(budget)[name] for axis, name in fields.items()} for budget in budgets]
    code = """(all) => {
        const data = JSON.parse(document.getElementById("data").textContent);
        const judged = data.order.map((id) => data.candidates.find((c) => c.id === id));
        return all.map((limits) => ZooRule.choose(judged, data.ties, limits)?.pick.id ?? "");
    }"""
    expected = [by_rule(forty[0], budget) for budget in budgets]
    assert opened.page.evaluate(code, limits) == expected
    assert len(set(expected)) >= 8 and "" in expected, "the budgets are no easy ones"


SAME = Evidence(np.arange(100) < 90)
TIES = {
    "noise by the rounds' spread": [
        Cost("a", latency_p50_ms=2.05, file_bytes=30),
        Cost("b", latency_p50_ms=2.0, file_bytes=30, spread=0.2),
        Cost("c", latency_p50_ms=2.1, file_bytes=20),
    ],
    "noise by the interval": [
        Cost("a", latency_p50_ms=2.0, latency_p50_low_ms=1.8, latency_p50_high_ms=2.2, file_bytes=30),
        Cost("b", latency_p50_ms=2.15, file_bytes=20),
        Cost("c", latency_p50_ms=2.3, file_bytes=1),
    ],
    "no noise": [
        Cost("a", latency_p50_ms=2.1, file_bytes=1),
        Cost("b", latency_p50_ms=2.0, file_bytes=30, spread=0.0),
    ],
    "all equal": [Cost("b", latency_p50_ms=2.0, file_bytes=5), Cost("a", latency_p50_ms=2.0, file_bytes=5)],
    "one not measured": [Cost("a", file_bytes=1), Cost("b", latency_p50_ms=9.0, file_bytes=30)],
}


def test_among_the_tied_the_page_takes_the_cheapest_as_the_rule_does(opened: Opened) -> None:
    picks = {}
    for case, costs in TIES.items():
        by_id = {cost.id: cost for cost in costs}
        table = ranking(dict.fromkeys(by_id, SAME), by_id, functools.partial(judge, tolerance=TOLERANCE))
        points = [
            {"id": c.id, "p50": c.latency_p50_ms, "p50_low": c.latency_p50_low_ms, "p50_high": c.latency_p50_high_ms,
             "spread": c.spread, "bytes": c.file_bytes, "cost": {}}
            for c in (by_id[name] for name in table["order"])
        ]  # fmt: skip
        code = "([judged, ties]) => ZooRule.choose(judged, ties, {}).pick.id"
        picks[case] = opened.page.evaluate(code, [points, table["ties"]])
        assert picks[case] == judge(dict.fromkeys(by_id, SAME), by_id, tolerance=TOLERANCE).order[0], case
    assert list(picks.values()) == ["c", "b", "b", "a", "b"]


def test_the_table_sorts_and_filters(opened: Opened) -> None:
    page = opened.page
    latency = page.locator("#table th", has_text="Latency")
    column = "[...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[2].dataset.v)"
    for direction, sign in (("ascending", 1), ("descending", -1)):
        latency.locator("button").click()
        assert latency.get_attribute("aria-sort") == direction
        found = page.evaluate(column)
        values = [sign * float(text) for text in found if text]
        assert values == sorted(values) and len(values) == 40
        assert found[-1] == "", "unknown ones go last"
    page.locator("#filter").fill("network-07")
    assert page.locator("#table tbody tr:visible").count() == 1
    page.locator("#filter").fill("no such thing")
    assert page.locator("#none").is_visible()
    page.locator("#filter").fill("")
    page.locator("#status").select_option("baseline")
    assert page.locator("#table tbody tr:visible .id").all_inner_texts() == ["majority class"]


def test_a_row_leads_to_its_card(opened: Opened) -> None:
    link = opened.page.locator("#table tbody tr.within a.id").first
    anchor = link.get_attribute("href")[1:]
    card = opened.page.locator(f"details#{anchor}")
    assert card.get_attribute("open") is None
    link.click()
    opened.page.wait_for_selector(f"details#{anchor}[open]", timeout=5000)
    assert card.locator("svg.thumb").first.is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_a_picture_of_it_shows_something_and_nothing_sticks_out(
    browser: Any, forty: tuple[Sample, Path], width: int, scheme: str
) -> None:
    tab = Opened(browser, forty[1], viewport={"width": width, "height": 900}, color_scheme=scheme)
    pixels = np.asarray(Image.open(io.BytesIO(tab.page.screenshot())).convert("L"), dtype=np.float64)
    assert (pixels.mean() > 128) == (scheme == "light")
    assert pixels.std() > 10 and len(np.unique(pixels)) > 30
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, "no scrolling to the side"
    assert not tab.wrong
    tab.context.close()


def test_it_goes_on_paper(browser: Any, forty: tuple[Sample, Path]) -> None:
    tab = Opened(browser, forty[1], color_scheme="dark")
    paper = tab.page.pdf(format="A4", print_background=True)
    assert paper.startswith(b"%PDF") and len(paper) > 20_000
    assert not tab.wrong
    tab.context.close()
