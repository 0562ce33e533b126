"""`zoo bench --graph` and `zoo info model.onnx`: what a graph says of itself, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.cards import Cost
from zoo.cli import tables

HEADERS = ("model", "batch", "weights MB", "activations MB", "nodes", "Transposes", "operators")
COMMONEST = 4


def show(costs: Sequence[Cost]) -> None:
    """The second table of `zoo bench --graph`."""
    rows = [_cells(cost) for cost in costs if cost.operators]
    if rows:
        tables.print_table(HEADERS, rows, right=HEADERS[1:-1])


def _cells(cost: Cost) -> tuple[str, ...]:
    return (
        cost.id,
        str(cost.batch_size),
        _mb(cost.weight_bytes),
        _mb(cost.activation_bytes),
        str(sum(cost.operators.values())),
        "" if cost.transposes is None else str(cost.transposes),
        listed(cost.operators, COMMONEST),
    )


def listed(operators: Mapping[str, int], most: int) -> str:
    """ "Conv 53, Relu 49, 12 more types", without Constant, which is no work."""
    work = ((name, count) for name, count in operators.items() if name != "Constant")
    items = sorted(work, key=lambda item: (-item[1], item[0]))
    rest = len(items) - most
    text = ", ".join(f"{name} {count}" for name, count in items[:most])
    return text + (f", {rest} more type{'s' if rest > 1 else ''}" if rest > 0 else "")


def _mb(size: int | None) -> str:
    return "" if size is None else tables.number(size, factor=1e-6)


# --- zoo info
def show_file(path: Path, *, json: bool) -> None:
    """What `zoo info model.onnx` prints. Raises ModelFileError."""
    card = read_card(path)
    if json:
        tables.print_json(card)
    else:
        tables.print_pairs(_lines(card))


def read_card(path: Path) -> dict[str, Any]:
    """The graph's facts, read in a process of their own: a file that crashes onnx takes that one along."""
    from zoo.process import Worker

    with Worker("graph facts") as worker:
        card: dict[str, Any] = worker.call("zoo.cost.facts:card", {"path": str(path)}, timeout_s=300)
    return card


def _lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("file", f"{card['path']} ({card['file_bytes'] / 1e6:.3g} MB)"),
        ("made by", card["producer"]),
        ("opset", ", ".join(f"{domain} {version}" for domain, version in card["opsets"].items())),
        ("inputs", "\n".join(card["inputs"])),
        ("outputs", "\n".join(card["outputs"])),
        ("parameters", f"{tables.number(card['params'] / 1e6)} M, {_mb(card['weight_bytes'])} MB"),
        ("MACs", _macs(card["macs"])),
        ("activations", _live(card["activation_bytes"], card["batch_size"])),
        ("operators", listed(card["operators"], 12)),
        ("Transposes", str(card["transposes"])),
        ("refused", card["error"] or ""),
    ]
    return [(name, value) for name, value in lines if value]


def _macs(count: int | None) -> str:
    return (
        "not counted (see docs/measuring.md)"
        if count is None
        else f"{tables.number(count / 1e9)} G for one input"
    )


def _live(size: int | None, batch: int) -> str:
    if size is None:
        return "not counted (see docs/measuring.md)"
    return f"{_mb(size)} MB at most at once, at batch {batch}"
