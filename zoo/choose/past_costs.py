"""What was measured of a model before, from the record on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo import registry
from zoo.cards import Cost
from zoo.cost.store import Store
from zoo.errors import UnknownModelError, ZooError
from zoo.files import sha256_file

SHOWN = {"cpu": "{}", "cores": "{} cores", "provider": "{}", "onnxruntime": "onnxruntime {}"}
"""Of a machine's description, in a table; --json has all of it."""


def history(models: Sequence[str | Path]) -> list[Cost]:
    """Every figure of these models that this machine's record has, the earliest first, failures among them.

    models: ids as they were measured, or ONNX files, found by their content too, whatever they were called then.
    Raises UnknownModelError with near names where there is none; StorageError for a record of a newer version.
    """
    store = Store()
    found: list[Cost] = []
    for model in map(str, models):
        path = Path(model)
        digest = sha256_file(path) if path.suffix == ".onnx" and path.is_file() else None
        kept = {one.number: one.cost for id_ in _ids(model) for one in store.history(id=id_, sha256=digest)}
        if not kept:
            raise _nothing(model, store)
        found += [cost for _, cost in sorted(kept.items()) if cost not in found]
    return found


def _ids(model: str) -> list[str]:
    """The name as it is, and the ids it stands for; random weights measured in the place of unreachable ones too."""
    try:
        full = str(registry.resolve(model))
    except ZooError:
        return [model]
    head, comma, rest = full.partition(",")
    return list(dict.fromkeys([model, full, full if "@" in head else f"{head}@none{comma}{rest}"]))


def _nothing(model: str, store: Store) -> UnknownModelError:
    known = store.ids()
    near = registry.near(model, known)
    if not known:
        text = f"nothing was measured here yet: {store.path} is where figures are kept. `zoo bench {model}` measures."
    else:
        guess = f"Did you mean {', '.join(near)}?" if near else f"There are {', '.join(sorted(known)[:5])}"
        more = f" and {len(known) - 5} more." if not near and len(known) > 5 else "" if near else "."
        text = f"{model!r} was never measured here. {guess}{more} `zoo bench {model}` measures."
    return UnknownModelError(text, near)


def kept_note(costs: Sequence[Cost], started: str) -> str:
    """Which of these figures are of before `started` (UTC, ISO 8601); "" where all are new."""
    old = [cost for cost in costs if cost.measured_at and cost.measured_at < started]
    if not old:
        return ""
    names = ", ".join(dict.fromkeys(cost.id for cost in old))
    when = sorted({day(cost) for cost in old})
    span = when[0] if len(when) == 1 else f"{when[0]} to {when[-1]}"
    return (
        f"Measured before ({span}) and not again: {names}. The reference model is within 3 % of its speed then; "
        "--fresh measures everything."
    )


def day(cost: Cost) -> str:
    """When, to the minute."""
    return (cost.measured_at or "")[:16].replace("T", " ")


def machine_text(cost: Cost) -> str:
    """What it was measured on, in a cell."""
    return ", ".join(form.format(cost.machine[name]) for name, form in SHOWN.items() if name in cost.machine)


def threads_text(cost: Cost) -> str:
    """ "1 thread", "4 threads"."""
    return f"{cost.threads} thread{'s' if cost.threads != 1 else ''}"


def short_machine(cost: Cost) -> str:
    """CPU and threads, for the title of an axis."""
    return ", ".join(filter(None, (cost.machine.get("cpu"), threads_text(cost))))
