"""Costs that were measured elsewhere: `zoo bench model.onnx --json` on the device, taken by compare and select here.

A figure belongs to a file and a machine. So it is found by the file's sha256; else by the model's id, with a warning,
for it is of another file of that model then (another head, another export). A file of costs is of one machine and one
setting, or it is refused, and a model without a figure in it gets none of this machine's: a column never mixes two.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from zoo.cards import Cost
from zoo.choose.past_costs import day, machine_text, threads_text
from zoo.cost.store import cost_of, machine_key
from zoo.errors import InputError
from zoo.files import sha256_file

FORMAT = 1
Source: TypeAlias = str | Path | Sequence[Cost]
"""A file that `zoo bench --json` wrote, or what `zoo.benchmark` gave back there."""


@dataclass(frozen=True)
class DeviceCosts:
    """costs: at batch 1, of one machine and one number of threads.  source: what messages call them."""

    source: str
    costs: tuple[Cost, ...]

    def of(self, name: str, path: Path) -> tuple[Cost | None, str]:
        """(the cost of this file under the name `name`, a warning or ""); None where there is none, and why."""
        digest = sha256_file(path)
        if same := [cost for cost in self.costs if cost.sha256 == digest]:
            return dataclasses.replace(same[0], id=name), ""
        named = [cost for cost in self.costs if name in (cost.id, cost.model)]
        if not named:
            return None, f"no figure in {self.source}"
        if len(named) > 1:
            files = ", ".join(cost.id for cost in named)
            return None, f"{self.source} has several files of it, and none is this one: {files}"
        warning = (
            f"{name}: {self.source} has no figure of this very file (sha256 {digest[:12]}); it is that of "
            f"{_called(named[0], name)}, found by the model's id."
        )
        return dataclasses.replace(named[0], id=name), warning

    def note(self) -> str:
        """Where the figures are from, in one line."""
        good = next((cost for cost in self.costs if not cost.error), self.costs[0])
        when = sorted({day(cost) for cost in self.costs if cost.measured_at})
        span = f", measured {' to '.join(dict.fromkeys((when[0], when[-1])))} UTC" if when else ""
        setting = f"{machine_text(good)}; {threads_text(good)}"
        return f"Costs from {self.source}, not of this machine: {setting}{span}."

    def lengths(self, tokens: int) -> str:
        """A warning where texts of another length were measured; "" else."""
        there = sorted({cost.sequence_length for cost in self.costs if cost.sequence_length} - {tokens})
        if not there:
            return ""
        return (
            f"Costs are of texts of {', '.join(map(str, there))} tokens; the median of this data is {tokens}: "
            f"measure with --sequence-length {tokens} there."
        )

    def check(self, found: Mapping[str, Cost | None]) -> None:
        """Raise InputError where none of the models has a figure."""
        if any(cost is not None for cost in found.values()):
            return
        names = [cost.id for cost in self.costs]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise InputError(
            f"{self.source} has no figure of {', '.join(found) or 'any model here'}: "
            f"it has {', '.join(names[:5])}{more}. "
            "Give the models that were measured, or measure these on the device: zoo bench MODEL... --json"
        )


def _called(cost: Cost, name: str) -> str:
    return (
        f"{cost.id} (sha256 {(cost.sha256 or 'unknown')[:12]})"
        if cost.id != name
        else (f"sha256 {(cost.sha256 or 'unknown')[:12]}")
    )


def device_costs(source: Source) -> DeviceCosts:
    """Read and check them. Raises InputError: no such file, no JSON, another format or version, no cost at batch 1,
    two machines or settings, one model twice.
    """
    if not isinstance(source, str | Path):
        return _checked("the given costs", tuple(source))
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the costs {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _no_costs(path, "it is no text") from error
    try:
        values = json.loads(text)
    except ValueError as error:
        raise _no_costs(path, f"it is no JSON ({error})") from error
    return _checked(path.name, tuple(_cost(one, path) for one in _listed(values, path)))


def _no_costs(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} holds no costs: {why}. `zoo bench MODEL... --json > {path.name}` on the device writes them."
    )


def _listed(values: Any, path: Path) -> list[Any]:
    """The costs of a list, or of {"format": 1, "costs": [...]}."""
    if isinstance(values, dict) and "costs" in values:
        if (version := values.get("format", FORMAT)) != FORMAT:
            raise InputError(
                f"{path} is of format {version}, this Backbone Zoo reads {FORMAT}: use the same version here and there"
            )
        values = values["costs"]
    if not isinstance(values, list) or not values:
        raise _no_costs(
            path, "it is no list of them" if not isinstance(values, list) else "its list is empty"
        )
    return values


def _cost(values: Any, path: Path) -> Cost:
    known = {field.name for field in dataclasses.fields(Cost)}
    if not isinstance(values, dict) or not isinstance(values.get("id"), str) or not _described(values):
        raise _no_costs(path, "an entry has no id or no machine")
    if unknown := sorted(values.keys() - known):
        raise InputError(
            f"{path} was written by another version of Backbone Zoo: it says {', '.join(unknown)} of {values['id']}, "
            "which this one does not know. Use the same version here and there."
        )
    cost = cost_of(values)
    numbers = [getattr(cost, name) for name in ("batch_size", "threads")]
    figures = [cost.latency_p50_ms, cost.peak_memory_mb, cost.file_bytes, cost.params, cost.macs]
    if not all(isinstance(n, int) for n in numbers) or not all(
        isinstance(f, int | float | None) for f in figures
    ):
        raise _no_costs(path, f"a figure of {cost.id} is no number")
    return cost


def _described(values: Mapping[str, Any]) -> bool:
    """Whether it says on which machine, in text."""
    machine = values.get("machine")
    return isinstance(machine, dict) and bool(machine) and all(isinstance(v, str) for v in machine.values())


def _checked(source: str, costs: tuple[Cost, ...]) -> DeviceCosts:
    single = [cost for cost in costs if cost.batch_size == 1]
    if not single:
        sizes = ", ".join(sorted({str(cost.batch_size) for cost in costs}))
        raise InputError(
            f"{source} has no cost at batch 1, only at {sizes or 'none'}: measure with --batch-size 1 there"
        )
    good = [cost for cost in single if not cost.error] or single
    machines = {machine_key(cost.machine): machine_text(cost) for cost in good}
    threads = sorted({cost.threads for cost in good})
    if len(machines) > 1 or len(threads) > 1:
        found = (
            "; ".join(machines.values()) if len(machines) > 1 else f"{', '.join(map(str, threads))} threads"
        )
        raise InputError(
            f"{source} mixes figures that cannot stand in one column: {found}. Give a file for each."
        )
    names = [cost.id for cost in single]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{source} has {', '.join(twice)} twice at batch 1: keep one of each")
    return DeviceCosts(source, tuple(single))
