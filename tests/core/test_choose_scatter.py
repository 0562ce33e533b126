"""The Pareto front, the plots of `zoo compare`, and the catalogue by its published figures."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cost_graphs import conv_net
from errors_table import fails, here, photographs
from PIL import Image

import zoo
from zoo.cards import Cost
from zoo.catalogue import Wanted, entries
from zoo.choose import plots
from zoo.choose.pareto import front
from zoo.choose.publishers import PublishedRow, _cost, published
from zoo.choose.rows import Row
from zoo.choose.scatter import Point, of_rows, scatter
from zoo.cost import machine, usable_cores
from zoo.cost.store import Settings, Store
from zoo.errors import InputError
from zoo.testing import toy

Capture = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("empty_folder")


# --- the front
def test_the_front_is_what_the_definition_says() -> None:
    """Against the definition itself, on every set of up to four points of a small grid."""

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    grid = list(itertools.product((1.0, 2.0, 3.0), repeat=2))
    for count in range(1, 5):
        for points in itertools.product(grid, repeat=count):
            wanted = {i for i, p in enumerate(points) if not any(beats(q, p) for q in points)}
            found = front(points)
            assert set(found) == wanted, points
            assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


# --- plots
POINTS = [
    Point("torch:small", 1.0, 0.7, 0.65, 0.75),
    Point("tf:large", 100.0, 0.9, 0.85, 0.95),
    Point("tf:beaten", 50.0, 0.6, 0.55, 0.65),
]
DRAWN = scatter(POINTS, title="T", x="cost", y="quality", floor=("colours", 0.58))


def test_svg_holds_every_point_its_name_and_the_front() -> None:
    text = plots.svg(DRAWN)
    assert text.count("<circle") == len(POINTS) + 2  # and the legend's two frameworks
    for point in POINTS:
        assert f"<title>{point.name}</title>" in text and f">{point.name}</text>" in text
    paths = re.findall(r'<path d="M([^"]*)" fill="none" stroke="#555555"(.*?)/>', text)
    corners = [tuple(map(float, corner.split())) for corner in paths[0][0].split("L")]
    small, large = corners[0], corners[-1]
    assert corners == [
        small,
        (large[0], small[1]),
        large,
    ]  # a step: no budget between the two buys the dearer
    assert "stroke-dasharray" in paths[1][1] and "dashed: colours" in text


def test_png_shows_the_points_where_the_svg_has_them() -> None:
    image = Image.open(io.BytesIO(plots.png(DRAWN)))
    assert image.format == "PNG" and image.size == (2 * plots.WIDTH, 2 * plots.HEIGHT)
    pixels = np.asarray(image.convert("RGB"))
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4" fill="#(\w+)"', plots.svg(DRAWN))
    assert len(circles) == 5
    for x, y, colour in circles:
        there = pixels[round(2 * float(y)), round(2 * float(x))]
        assert there.tolist() == [int(colour[i : i + 2], 16) for i in (0, 2, 4)]


def test_html_needs_no_network(folder: Path) -> None:
    plots.save(DRAWN, folder / "plot.html")
    text = (folder / "plot.html").read_text()
    assert "tf:large" in text and len(text) > 1_000_000  # plotly itself is inside
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="', text)


def test_of_many_points_those_of_the_front_are_named() -> None:
    many = [Point(f"torch:timm/m{i}@tag", 1.0 + i, 0.5 + (i == 70) * 0.4) for i in range(100)]
    text = plots.svg(scatter(many, title="T", x="x", y="y"))
    assert re.findall(r">(m\d+)</text>", text) == ["m0", "m70"]
    assert text.count('r="2"') == 100


def test_rows_without_a_figure_are_left_out_of_the_plot() -> None:
    cost = Cost("torch:a", latency_p50_ms=2.0)
    rows = [
        Row("torch:a", "measured", "", 0.8, 0.7, 0.9, cost),
        Row("torch:b", "measured", "no figure in device.json", 0.9, 0.8, 1.0, None),
        Row("torch:c", "failed", "crashed", cost=Cost("torch:c", error="crashed")),
        Row("majority class", "baseline", "no backbone", 0.5, 0.4, 0.6),
        Row("colours", "baseline", "no backbone", 0.6, 0.5, 0.7),
    ]
    plot = of_rows(rows, machine="Z80")
    points = [series for series in plot.series if not series.line]
    assert [(s.name, s.x, s.y) for s in points] == [("torch", (2.0,), (0.8,))]
    assert "dashed: colours" in plot.title and "Z80" in plot.x
    with pytest.raises(InputError, match="nothing to plot"):
        of_rows(rows[1:], machine="Z80")


def test_compare_draws_quality_against_cost(capsys: Capture, tmp_path: Path) -> None:
    photographs(Path("photos"), count=10)
    with toy.installed(tmp_path / "site"):
        arguments = ["compare", "toy:tiny,depth=1", "toy:tiny", "--data", "photos", "--plot", "out.svg"]
        said = here(capsys, *arguments, "--threads", "1")
    assert said.code == 0 and "wrote out.svg" in said.err, said.err
    assert "Costs measured on this machine: " in said.out
    text = Path("out.svg").read_text()
    assert "<title>toy:tiny,depth=1</title>" in text and machine()["cpu"] in text


def test_a_name_of_several_frameworks_is_a_row_of_each() -> None:
    """Without weights or frameworks to load: both fail here in the same way, each in its own row."""
    from zoo.choose.comparison import _spread

    conv_net(Path("a.onnx"))
    models, notes = _spread(["resnet50", "torch:vgg11", "a.onnx"])
    assert models == ["tf:resnet50", "torch:resnet50", "torch:vgg11", "a.onnx"]
    assert notes == ["resnet50 is in 2 frameworks: tf:resnet50, torch:resnet50."]


# --- published
def test_published_figures_are_the_catalogues() -> None:
    found = published(["torch:resnet18", "torch:resnet50", "torch:vgg16"])
    known = {entry.id: entry for entry in entries(Wanted("torch:resnet18,torch:resnet50,torch:vgg16"))}
    assert {row.id for row in found.rows} <= known.keys() and len(found.rows) > 4
    for row in found.rows:
        assert (row.top1, row.macs_g) == (known[row.id].top1, known[row.id].macs_g)
    assert [row.top1 for row in found.rows] == sorted((row.top1 for row in found.rows), reverse=True)
    assert not any(row.front for row in found.rows if row.id.startswith("torch:vgg16"))  # 15.5 G and 71.6 %
    assert found.notes[0].startswith("Top-1 in percent on ImageNet-1K as the publishers state it")


def test_no_point_of_the_front_mixes_two_input_sizes() -> None:
    """A top-1 at 288 px beside MACs at 224 px is no point; for parameters it is."""
    mixed = PublishedRow("torch:x", 90.0, "288 px", 1.0, 2.0, 3.0, False)
    assert [_cost(mixed, by) for by in ("macs", "latency", "params")] == [None, None, 1.0]
    same = dataclasses.replace(mixed, top1_at="")
    assert [_cost(same, by) for by in ("macs", "latency", "params")] == [2.0, 3.0, 1.0]
    rows = published(["*"]).rows
    assert any(row.top1_at and row.macs_g for row in rows)  # there are such
    best = [row for row in rows if row.front]
    assert max(row.top1 for row in rows if row.macs_g and not row.top1_at) == best[0].top1


def test_latency_where_it_was_measured(tmp_path: Path) -> None:
    """Kept figures of sessions in which this machine was as fast; random weights cost the same."""
    settings = Settings(usable_cores(), 128, 1.0, machine())
    kept = {"torch:resnet18@none": (7.0, 1.00), "torch:resnet50": (20.0, 1.02), "torch:vgg16": (90.0, 1.2)}
    for day, (name, (p50, reference)) in enumerate(reversed(kept.items()), start=1):
        cost = Cost(
            name, threads=usable_cores(), latency_p50_ms=p50, machine=machine(), measured_at=f"2026-01-0{day}"
        )
        Store().put(cost, settings, reference_ms=reference)
    found = published(["torch:resnet18", "torch:resnet50", "torch:vgg16"], by="latency")
    p50s = {row.id.partition("@")[0]: row.p50_ms for row in found.rows if "timm/" not in row.id}
    assert p50s == {"torch:resnet18": 7.0, "torch:resnet50": 20.0, "torch:vgg16": None}
    assert "within 3 %" in found.notes[-1] and all(row.p50_ms for row in found.rows if row.front)


def test_latency_of_a_device(capsys: Capture) -> None:
    board = {"cpu": "Cortex-A76"}
    costs = [Cost("/home/pi/r.onnx", model="torch:resnet18", latency_p50_ms=70.0, machine=board)]
    found = zoo.choose.published(["torch:resnet18", "torch:resnet50"], by="latency", costs=costs)
    assert {row.p50_ms for row in found.rows if row.id.startswith("torch:resnet50")} == {None}
    assert any(row.p50_ms == 70.0 and row.front for row in found.rows) and "Cortex-A76" in found.notes[-1]


def test_published_on_the_command_line(capsys: Capture) -> None:
    said = here(capsys, "compare", "--published", "torch:resnet*", "--front", "--plot", "p.png", "-o", "t.md")
    assert said.code == 0 and Path("p.png").read_bytes().startswith(b"\x89PNG")
    assert "as the publishers state it" in said.out and "| front |" in said.out
    assert all("| front |" in line for line in said.out.splitlines() if line.startswith("| torch:"))
    assert Path("t.md").read_text() == said.out
    rows = json.loads(
        here(capsys, "compare", "--published", "tf:mobilenet*", "--by", "params", "--json").out
    )["rows"]
    assert any(row["front"] for row in rows) and not all(row["front"] for row in rows)


# --- what cannot be
@pytest.mark.parametrize("ending", ["pdf", ""])
def test_a_plot_of_an_unknown_ending(capsys: Capture, ending: str) -> None:
    conv_net(Path("a.onnx"))
    said = here(capsys, "compare", "a.onnx", "--data", "photos", "--plot", f"plot.{ending}")
    assert said.code == 2 and "a plot ends in .html, .png or .svg" in said.err and "loading" not in said.err


def test_plot_endings_are_told(capsys: Capture) -> None:
    arguments = ["compare", "a.onnx", "--data", "photos", "--plot", "out.pdf"]
    says = ["cannot draw out.pdf: a plot ends in .html, .png or .svg"]
    fails(capsys, "Plot with an unknown ending", arguments, code=2, says=says)


def test_a_plot_without_quality(capsys: Capture) -> None:
    arguments = ["compare", "a.onnx", "--plot", "out.png"]
    fails(capsys, "Plot of quality without data", arguments, code=2, says=["give --data, or --published"])


def test_nothing_to_compare(capsys: Capture) -> None:
    fails(capsys, "Nothing to compare", ["compare"], code=2, says=["name models, or --published"])


def test_published_and_data(capsys: Capture) -> None:
    arguments = ["compare", "--published", "--data", "photos"]
    fails(capsys, "Published figures and data at once", arguments, code=2, says=["leave one out"])


def test_published_of_an_unknown_name(capsys: Capture) -> None:
    arguments = ["compare", "--published", "torch:resnot18"]
    says = ["no model matches 'torch:resnot18'. Did you mean resnet18"]
    fails(capsys, "Published figures of an unknown name", arguments, code=2, says=says)


def test_published_of_texts(capsys: Capture) -> None:
    arguments = ["compare", "--published", "hf:roberta"]
    says = ["has a published ImageNet top-1", "--data"]
    fails(capsys, "Published figures of text models", arguments, code=2, says=says)


def test_published_latency_without_a_measurement(capsys: Capture) -> None:
    arguments = ["compare", "--published", "torch:resnet18", "--by", "latency"]
    says = ["has a measured latency here: zoo bench MODEL... first, or --by macs"]
    fails(capsys, "Published figures by a latency never measured", arguments, code=2, says=says)
