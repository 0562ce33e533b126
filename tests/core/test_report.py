"""The report's page without a browser: what is in it, what may be missing, what is escaped, what it weighs."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_samples import TOLERANCE, photograph, sample

from zoo.cards import Budget
from zoo.choose.details import card, learning_curve, mistakes, provenance, ranking
from zoo.choose.limits import excesses
from zoo.choose.rows import Row
from zoo.choose.rule import judge
from zoo.choose.selection import Selection
from zoo.data import Dataset, folds
from zoo.errors import InputError
from zoo.report import page, thumbnail
from zoo.report.confusion import confusion
from zoo.report.page import clock
from zoo.report.view import curve

HOSTILE = "<script>alert(1)</script>"


def embedded(text: str) -> dict[str, object]:
    """What the page's own script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    loaded: dict[str, object] = json.loads(found[1])
    return loaded


# --- the page
def test_it_is_one_file_with_the_answer_the_table_and_the_bill(tmp_path: Path) -> None:
    made = sample(12)
    path = made.selection.report(tmp_path / "deep" / "report.html")
    text = path.read_text(encoding="utf-8")
    assert f'<span class="verb">Ship</span> {made.selection.best}</h1>' in text
    for row in made.selection.rows:
        assert text.count(row.id) >= 2
    assert "1 min 04 s" in text and "1 min 50 s" in text, "a stage, and all of them"
    assert embedded(text)["order"] == made.selection.settings["ranking"]["order"]
    outside = re.findall(
        r'(?:src|href|url)\s*[=(]\s*["\']?(?!#|data:)([^"\')> ]+)', text.partition("<script")[0]
    )
    assert outside == [], "nothing is loaded from anywhere"
    assert path.stat().st_size < 2.5e6


def test_plotly_lies_in_it_packed_and_its_digest_is_allowed() -> None:
    from plotly.offline import get_plotlyjs

    text = page(sample(3).selection.to_dict())
    packed = re.search(r'<script type="text/plain" id="plotly">(.*?)</script>', text)
    assert packed is not None
    assert gzip.decompress(base64.b64decode(packed[1])).decode() == get_plotlyjs()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;") or policy[1].startswith("default-src 'none'")
    own = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert own is not None
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()) for code in (own[1], get_plotlyjs())]
    assert re.findall(r"sha256-([^&' ]+)", policy[1]) == [digest.decode() for digest in digests]


def test_names_and_texts_of_others_are_escaped() -> None:
    texts = [f'{HOSTILE} & "quoted" {i}' for i in range(60)]
    made = sample(4, classes=(HOSTILE, "b", "c"), examples=60, inputs=texts)
    content = json.loads(json.dumps(made.selection.to_dict()))
    content["candidates"][1]["id"] = content["candidates"][1]["reason"] = HOSTILE
    content["settings"]["source"] = content["settings"]["command"] = HOSTILE
    text = page(content)
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert HOSTILE in {c["id"] for c in embedded(text)["candidates"]}, "and is itself again for the script"


def test_todays_selection_without_details_or_ranking_has_a_page() -> None:
    made = sample(5).selection
    bare = [
        Row(r.id, r.status, r.reason, r.accuracy, r.accuracy_low, r.accuracy_high, r.cost) for r in made.rows
    ]
    text = page(Selection(made.best, made.why, made.budget, tuple(bare)).to_dict())
    assert 'id="sliders"' not in text and 'id="chart"' in text
    assert "Confusion matrix" not in text and "The bill" not in text


def test_a_selection_that_chose_nothing_says_so() -> None:
    lost = Row("toy:a", "over budget", "size 9 MB > 1 MB")
    text = page(Selection("", "not finished", Budget(size_mb=1), (lost,)).to_dict())
    assert "<h1>Nothing is chosen</h1>" in text and "size 9 MB &gt; 1 MB" in text
    assert "There was no candidate" in page(Selection("", "none", Budget(), ()).to_dict())


def test_each_picture_is_there_once_and_one_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    paths = [photograph(tmp_path / f"{i}.png", i) for i in range(3)]
    made = sample(8, examples=90, inputs=[paths[i % 3] for i in range(90)])
    paths[2].unlink()
    text = page(made.selection.to_dict())
    assert text.count("data:image/jpeg") == 2
    assert text.count("<use href=") > 8
    assert "2.png: the picture cannot be read any more" in text
    assert str(tmp_path) not in text, "names of files, not where they lie"


def test_content_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no selection: best, budget, candidates, settings, why missing"):
        page({"rows": []})
    with pytest.raises(InputError, match=r"x\.pdf: its name must end in \.html or \.md"):
        sample(2).selection.report(tmp_path / "x.pdf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


# --- what is drawn
def test_thumbnails_are_small_upright_and_bare(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret"
    Image.new("RGB", (800, 400), (10, 200, 30)).save(tmp_path / "turned.jpg", exif=exif)
    made = thumbnail(tmp_path / "turned.jpg")
    content = base64.b64decode(made.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (80, 160)
        assert dict(image.getexif()) == {}


def test_a_confusion_matrix_shows_figures_or_a_picture() -> None:
    few = confusion([[0, 0, 5], [0, 1, 3], [1, 0, 4]], ("ants", "bees"))
    assert few is not None and few.picture == ""
    assert [[cell.count for cell in row] for row in few.rows] == [[5, 3], [4, 0]]
    assert few.rows[0][1].share == 0.375
    assert few.pairs == ((4, "bees", "ants"), (3, "ants", "bees"))
    many = confusion([[i, i, 2] for i in range(100)] + [[7, 9, 1]], [f"class-{i}" for i in range(100)])
    assert many is not None and many.rows == () and many.pairs == ((1, "class-7", "class-9"),)
    with Image.open(io.BytesIO(base64.b64decode(many.picture.partition(",")[2]))) as image:
        assert image.size == (100, 100)
        assert image.getpixel((3, 3))[3] == 255 and image.getpixel((3, 4))[3] == 0
        assert 0 < image.getpixel((9, 7))[3] < image.getpixel((7, 7))[3], "column 9 of row 7"
    assert confusion(None, ()) is None


def test_a_curve_rises_to_the_right() -> None:
    points = [
        {"examples": n, "accuracy": a, "low": a - 0.1, "high": a + 0.05} for n, a in ((10, 0.5), (100, 0.9))
    ]
    drawn = curve(points)
    assert drawn is not None
    (x, y, _), (x_last, y_last, said) = drawn.dots
    assert x < x_last and y > y_last and said == "0.900 with 100 examples"
    assert [text for _, text in drawn.y_ticks] == ["0.4", "0.6", "0.8", "1"]
    assert curve(points[:1]) is None


# --- what is told of a candidate
def test_mistakes_are_counted_and_the_surest_come_first() -> None:
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.4, 0.6]], np.float32)
    found = mistakes(probabilities, targets, ["a", "b" * 400, "c", "d"])
    assert found["confusion"] == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert [(e["index"], e["true"], e["predicted"]) for e in found["errors"]] == [(2, 1, 0), (1, 0, 1)]
    assert found["errors"][1]["text"] == "b" * 300 + " ..."
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    assert mistakes(probabilities, targets, list(pixels))["errors"][0]["thumbnail"].startswith(
        "data:image/jpeg"
    )
    json.dumps(found)
    assert mistakes(np.empty((0, 0), np.float32), targets, list(pixels)) == {}


def test_the_learning_curve_ends_with_all_and_learns() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(240) % 3
    features = rng.normal(0, 1, (240, 20)).astype(np.float32)
    features[np.arange(240), targets] += 1.6
    found = learning_curve(features, targets, folds(targets, 4, seed=0), seed=0)
    assert [point["examples"] for point in found] == [11, 22, 45, 90, 180]
    assert found[-1]["accuracy"] > found[0]["accuracy"] + 0.05
    assert all(point["low"] < point["accuracy"] < point["high"] for point in found)


def test_the_ranking_picks_as_the_rule_does_within_any_budget() -> None:
    """Only with ties: the best of what fits, those that tie with it, and of them what `judge` takes."""
    made = sample(25, examples=150)
    table = ranking(made.evidence, made.costs, functools.partial(judge, tolerance=TOLERANCE))
    rng = np.random.default_rng(0)
    assert sum(len(tied) for tied in table["ties"].values()) > 10
    for _ in range(100):
        memory_mb = float(rng.uniform(50, 600)) if rng.random() < 0.5 else None
        budget = Budget(float(rng.uniform(0.4, 20)), float(rng.uniform(5, 200)), memory_mb)
        fitting = {n: e for n, e in made.evidence.items() if not excesses(made.costs[n], budget)}
        if not fitting:
            continue
        top = next(name for name in table["order"] if name in fitting)
        tied = {table["order"][i] for i in table["ties"].get(top, ())} & fitting.keys() | {top}
        assert judge(fitting, made.costs, tolerance=TOLERANCE).tied == tied


def test_a_card_assumes_nothing() -> None:
    assert card("majority class") == {}
    known = card("torch:resnet18")
    assert known["source"] == "torchvision" and known["licence"] and known["preprocessing"]
    assert "licence" not in card("torch:resnet18@/nowhere/weights.pth")


def test_provenance_names_the_data_and_the_versions_of_what_was_used() -> None:
    data = Dataset("text", ["a", "b", "c"], np.array([0, 1, 0]), ("no", "yes"))
    found = provenance(
        {"train": data, "validation": None, "test": data}, ["torch:resnet18", "majority class"]
    )
    assert found["examples"] == {"train": 3, "test": 3}
    assert found["classes"] == ["no", "yes"] and len(found["fingerprints"]["train"]) == 12
    assert {"python", "numpy", "onnxruntime"} <= found["versions"].keys()
    assert "tensorflow" not in found["versions"]
    other = provenance({"train": data.subset([0, 1])}, [])
    assert other["fingerprints"] != found["fingerprints"]
