"""The page: one HTML file that asks the network for nothing, and says so to the browser.

Its Content-Security-Policy lets run what carries the digest of our own scripts, and nothing else: a class called
`<script>` is text, and would not run if it were not. Plotly, from its package, lies in the page gzipped (2.0 MB as
text in place of 4.8) and is unpacked by the browser; without plotly the page has no chart, and says so.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from zoo.errors import FrameworkMissingError, InputError
from zoo.files import atomic_file
from zoo.report import view
from zoo.report.view import Content

ASSETS = resources.files("zoo.report") / "assets"
STAGES = ("catalogue", "static cost", "measured cost", "cheap scores", "probe", "fine-tuning", "shipped")


class Told(Protocol):
    """A `zoo.Selection`, or whatever else tells its content."""

    def to_dict(self) -> dict[str, Any]:
        """As selection.json holds it."""
        ...


def write(selection: Content | Told, path: str | Path) -> Path:
    """Write the page of a selection, or of what a selection.json holds. Raises as `page`, and StorageError."""
    text = page(selection if isinstance(selection, Mapping) else selection.to_dict())
    with atomic_file(Path(path)) as file:
        file.write_text(text, encoding="utf-8")
    return Path(path)


def page(content: Content) -> str:
    """The HTML. content: what selection.json holds; `details` of its candidates may be absent, whole or in part.

    Pictures of errors are read from their paths now; one that is gone is said to be.
    Raises InputError for content of another form, FrameworkMissingError without Jinja.
    """
    missing = {"best", "why", "budget", "settings", "candidates"} - set(content)
    if missing:
        raise InputError(
            f"no selection: {', '.join(sorted(missing))} missing. Give what selection.json holds."
        )
    pictures = view.Pictures()
    rows = view.candidates(content, pictures)
    packed = _plotly()
    code = _asset("rule.js") + _asset("page.js")
    allowed = [_digest(code)] + ([packed[1]] if packed else [])
    text: str = _template().render(
        content=content,
        cost=content.get("cost"),
        heading=_heading(content),
        lead=_lead(content),
        settings=content["settings"],
        rows=rows,
        chosen=next((row for row in rows if row.id == content["best"]), None),
        figures=view.key_figures(content),
        axes=view.axes(content["budget"]),
        sizes={key: picture_size(uri) for key, uri in pictures.found.items()},
        pictures=pictures.found,
        bill=_bill(content),
        total=clock(sum((content.get("seconds") or {}).values())),
        left=_left(content),
        machine=_machine(content),
        data=_embedded(content, rows),
        sliders=bool((content["settings"].get("ranking") or {}).get("order")),
        css=_asset("page.css"),
        code=code,
        plotly=packed[0] if packed else "",
        allowed=" ".join(f"'{digest}'" for digest in allowed),
    )
    return text


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _template() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise FrameworkMissingError(
            "the HTML report needs Jinja, which is not installed (no module 'jinja2'): "
            "pip install 'backbone-zoo[train]'"
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html"))


def _lead(content: Content) -> str:
    """The reasons, without what the headline has just said."""
    said = str(content["why"]).removeprefix(f"Ship {content['best']}: ")
    return said[:1].upper() + said[1:]


def _heading(content: Content) -> str:
    """`14 candidates, 2 baselines`."""
    rows = content["candidates"]
    floors = sum(row["status"] == "baseline" for row in rows)
    said = [(len(rows) - floors, "candidate"), (floors, "baseline")]
    return ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in said if count) or "No candidate"


def picture_size(uri: str) -> tuple[int, int]:
    """Width and height of a picture in a data URI."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return image.size


def _digest(code: str) -> str:
    """As a Content-Security-Policy names a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


@functools.cache
def _plotly() -> tuple[str, str] | None:
    """(plotly.min.js gzipped, as base64, its digest unpacked), or None where plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        return None
    code: str = get_plotlyjs()
    return base64.b64encode(gzip.compress(code.encode(), mtime=0)).decode(), _digest(code)


# --- what the page's script reads
def _embedded(content: Content, rows: list[view.Candidate]) -> str:
    """JSON that no text in it can end, as `<` is written \\u003c."""
    ranking = content["settings"].get("ranking") or {}
    data = {
        "best": content["best"],
        "axes": [
            {"key": a.key, "label": a.label, "unit": a.unit, "limit": content["budget"].get(a.field)}
            for a in view.axes(content["budget"])
        ],
        "order": list(ranking.get("order", ())),
        "ties": dict(ranking.get("ties", {})),
        "candidates": [
            _point(row, shown, content["budget"])
            for row, shown in zip(content["candidates"], rows, strict=True)
        ],
    }
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _point(row: Content, shown: view.Candidate, budget: Content) -> Mapping[str, Any]:
    cost = row["cost"] or {}
    return {
        "id": row["id"],
        "anchor": shown.anchor,
        "status": row["status"],
        "quality": row["accuracy"],
        "low": row["accuracy_low"],
        "high": row["accuracy_high"],
        "cost": {axis.key: axis.read(cost) for axis in view.axes(budget)},
        "p50": cost.get("latency_p50_ms"),
        "p50_low": cost.get("latency_p50_low_ms"),
        "p50_high": cost.get("latency_p50_high_ms"),
        "spread": cost.get("spread"),
        "bytes": cost.get("file_bytes"),
    }


# --- the bill, and where it was run up
@dataclass(frozen=True)
class Stage:
    """One line of the bill. entered and left: candidates before and after it, None where nobody counted.

    share: of the longest stage, in percent.
    """

    name: str
    seconds: str
    share: float
    entered: int | None
    left: int | None


def _bill(content: Content) -> list[Stage]:
    """From `bill`, or from `seconds` alone."""
    lines = content.get("bill") or [
        {"stage": k, "seconds": v} for k, v in (content.get("seconds") or {}).items()
    ]
    longest = max((line["seconds"] for line in lines), default=0.0) or 1.0
    return [
        Stage(
            line["stage"], clock(line["seconds"]), round(100 * line["seconds"] / longest, 1),
            line.get("candidates"), line.get("left"),
        )
        for line in lines
    ]  # fmt: skip


def clock(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _left(content: Content) -> list[tuple[str, int, float]]:
    """(stage, candidates that ended there, share of all in percent), where rows say it."""
    stages = [row.get("stage", "") for row in content["candidates"] if row["status"] != "baseline"]
    named = [stage for stage in STAGES if stage in stages]
    return [
        (stage, stages.count(stage), round(100 * stages.count(stage) / len(stages), 1)) for stage in named
    ]


def _machine(content: Content) -> Mapping[str, str]:
    """Of the shipped file's cost, else of the first that was measured."""
    costs = [content.get("cost"), *(row["cost"] for row in content["candidates"])]
    return next((cost["machine"] for cost in costs if cost and cost.get("machine")), {})
