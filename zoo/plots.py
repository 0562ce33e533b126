"""Figures of training, as plotly's or as one HTML file that needs no network. plotly is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import FrameworkMissingError
from zoo.files import atomic_file

Series = tuple[str, Sequence[float], Sequence[float | None], Mapping[str, Any]]
"""Name, x, y, and how plotly's Scatter draws it."""


def plotly() -> Any:
    """plotly with graph_objects and subplots. Raises FrameworkMissingError where it is not installed."""
    try:
        import plotly.graph_objects
        import plotly.subplots
    except ModuleNotFoundError as error:
        raise FrameworkMissingError(
            f"plots need plotly, which is not installed (no module {error.name!r}): "
            "pip install 'backbone-zoo[train]'"
        ) from error
    return plotly


def curves(title: str, panels: Sequence[tuple[str, Sequence[Series]]], *, x: str, log_x: bool = False) -> Any:
    """A plotly Figure: panels one under another, on one x axis. panels: (name of the y axis, its series)."""
    lib = plotly()
    figure = lib.subplots.make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, (name, series) in enumerate(panels, start=1):
        for label, xs, ys, style in series:
            figure.add_trace(
                lib.graph_objects.Scatter(x=list(xs), y=list(ys), name=label, **style), row=row, col=1
            )
        figure.update_yaxes(title_text=name, row=row, col=1)
    figure.update_xaxes(title_text=x, row=len(panels), col=1)
    if log_x:
        figure.update_xaxes(type="log")
    figure.update_layout(title=title, template="plotly_white", height=120 + 260 * len(panels))
    return figure


def save(figure: Any, path: Path) -> None:
    """HTML with plotly's script inside (5 MB). Raises StorageError; nothing half-written stays."""
    with atomic_file(path) as temporary:
        temporary.write_text(figure.to_html(include_plotlyjs=True, full_html=True), encoding="utf-8")


def smoothed(values: Sequence[float], share: float) -> list[float]:
    """Exponential moving average that keeps `share` of the past, its start corrected (Kingma & Ba 2015)."""
    found, mean = [], 0.0
    for i, value in enumerate(values, start=1):
        mean = share * mean + (1 - share) * value
        found.append(mean / (1 - share**i))
    return found
