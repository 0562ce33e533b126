"""Measure what is new, and let kept figures stand beside it where the machine is as fast as it was then.

A session measures a reference model along with what is asked for. A kept figure is used only if the reference, in
this session, is within 3 % of what it was in the figure's own: otherwise the column would compare two days'
machines, not two models. What does not pass is measured again. Figures of the last minutes, of sessions in which the
reference was as fast, may stand without that (`recent_s`): they are this session's. Every figure goes into the record
(`zoo.cost.store`).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from zoo.cards import Cost
from zoo.cost.host import machine, provider_named, usable_cores
from zoo.cost.meter import TIME_LIMIT_S, measure
from zoo.cost.reference import ID, write_reference
from zoo.cost.store import Kept, Settings, Store, wanted
from zoo.cost.summary import with_ties
from zoo.files import sha256_file

AGREEMENT = 0.03
"""|then / now - 1| of the reference's p50, at most."""
OLD = "1970-01-01T00:00:00+00:00"
Artefacts: TypeAlias = Sequence[tuple[str, Path]]
OnCost: TypeAlias = Callable[[Cost], None]


class Meter(Protocol):
    """`zoo.cost.measure` with everything but these arguments set."""

    def __call__(
        self,
        artefacts: Artefacts,
        *,
        batch_sizes: Sequence[int],
        beside: str | None = None,
        on_cost: OnCost | None,
    ) -> list[Cost]:
        """One Cost for each artefact and batch size, in that order."""


def kept_or_measured(
    artefacts: Artefacts,
    *,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    sequence_length: int = 128,
    min_seconds: float = 1.0,
    provider: str = "cpu",
    memory_limit_mb: float | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    inputs: Sequence[str] = (),
    custom_ops: Sequence[Path | str] = (),
    fresh: bool = False,
    recent_s: float = 0.0,
    progress: Callable[[str], None] | None = None,
    on_cost: OnCost | None = None,
) -> list[Cost]:
    """As `zoo.cost.measure`, with kept figures in the place of new ones where that is fair.

    fresh: measure everything.  recent_s: where every figure is kept and none older than this, nothing is measured,
    whatever `fresh` says. on_cost gets each Cost as soon as it is final, a kept one when the reference has spoken
    for it. Every figure measured is kept, also where Ctrl-C ends the run. `measured_at` tells which is of when.
    """
    meter: Meter = functools.partial(
        measure, threads=threads, sequence_length=sequence_length, min_seconds=min_seconds, provider=provider,
        memory_limit_mb=memory_limit_mb, time_limit_s=time_limit_s, inputs=inputs, custom_ops=custom_ops,
        progress=progress,
    )  # fmt: skip
    # What is fed by hand, or run by somebody's library, is not kept: the reference could not be measured beside it.
    if not artefacts or not wanted() or inputs or custom_ops:
        return meter(artefacts, batch_sizes=batch_sizes, on_cost=on_cost)
    # All that changes a figure must be among these: a meter's new option belongs here too.
    other = {} if memory_limit_mb is None else {"memory_limit_mb": str(memory_limit_mb)}
    here = machine(provider_named(provider))
    settings = Settings(threads or usable_cores(), sequence_length, min_seconds, here, other)
    session = _Session(Store(), meter, settings, batch_sizes, on_cost or (lambda cost: None), recent_s)
    old = {} if fresh and not recent_s else _kept(artefacts, session)
    costs = session.recent(artefacts, old) or session.with_kept(artefacts, {} if fresh else old)
    return with_ties([costs[name, size] for name, _ in artefacts for size in batch_sizes])


def _kept(artefacts: Artefacts, session: _Session) -> dict[str, dict[int, list[Kept]]]:
    """By id and batch size: of artefacts with a kept figure at every batch size asked for.

    A file with weights beside it is left out: its digest does not cover them. So is everything where an id or a
    batch size is there twice: the meter refuses that.
    """
    names, sizes = [name for name, _ in artefacts], session.batch_sizes
    if len(set(names)) < len(names) or len(set(sizes)) < len(sizes) or not sizes:
        return {}
    found = {}
    for name, path in artefacts:
        if not path.is_file():
            continue
        digest, size = sha256_file(path), path.stat().st_size
        by_batch = {batch: session.store.find(digest, batch, session.settings) for batch in sizes}
        by_batch = {b: [k for k in kept if k.cost.file_bytes == size] for b, kept in by_batch.items()}
        if all(by_batch.values()):
            found[name] = by_batch
    return found


@dataclasses.dataclass
class _Session:
    """Measurements of now. reference: its p50 by batch size, as last measured; none where the machine was too noisy."""

    store: Store
    meter: Meter
    settings: Settings
    batch_sizes: Sequence[int]
    on_cost: OnCost
    recent_s: float = 0.0
    reference: dict[int, float] = dataclasses.field(default_factory=dict)

    def with_kept(
        self, artefacts: Artefacts, old: Mapping[str, Mapping[int, Sequence[Kept]]]
    ) -> dict[tuple[str, int], Cost]:
        """By id and batch size: measured now, or of `old` where the reference is as fast as it was."""
        costs = self.measure([(name, path) for name, path in artefacts if name not in old])
        again = []
        for name, path in ((name, path) for name, path in artefacts if name in old):
            agreeing = self.agreeing(name, old[name])
            if agreeing is None:
                again.append((name, path))
                continue
            costs |= {(name, cost.batch_size): cost for cost in agreeing}
            for cost in agreeing:
                self.on_cost(cost)
        return costs | self.measure(again) if again else costs

    def measure(self, artefacts: Artefacts) -> dict[tuple[str, int], Cost]:
        """By id and batch size, the reference first among them, for what is kept needs it; each is kept.

        What Ctrl-C cut short is history without a reference, so it never stands in for a whole measurement.
        """
        found: dict[tuple[str, int], Cost] = {}

        def keep(cost: Cost) -> None:
            if cost.id == ID:
                if cost.latency_p50_ms is not None and self.store.sound(cost):
                    self.reference[cost.batch_size] = cost.latency_p50_ms
                return
            # Ties are with what is measured beside it today.
            cost = dataclasses.replace(cost, ties=())
            found[cost.id, cost.batch_size] = cost
            cut = sys.exception() is not None  # Ctrl-C: of fewer rounds than the settings say, or of none
            if not (cut and cost.error):
                reference = None if cut else self.reference.get(cost.batch_size)
                self.store.put(cost, self.settings, reference_ms=reference)
            self.on_cost(cost)

        self.reference.clear()
        with tempfile.TemporaryDirectory(prefix="zoo-reference-") as folder:
            reference = write_reference(Path(folder) / "reference.onnx")
            # Alone it is wanted too: kept figures are judged by it.
            beside = ID if artefacts else None
            self.meter(
                [(ID, reference), *artefacts], batch_sizes=self.batch_sizes, beside=beside, on_cost=keep
            )
        return found

    def recent(
        self, artefacts: Artefacts, old: Mapping[str, Mapping[int, Sequence[Kept]]]
    ) -> dict[tuple[str, int], Cost]:
        """The latest of `old` by id and batch size, where it has all artefacts, none is older than `recent_s`, and the
        reference was as fast beside all of them; else nothing."""
        if not self.recent_s or len(old) < len(artefacts):
            return {}
        latest = {(name, size): kept[size][0] for name, kept in old.items() for size in self.batch_sizes}
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=self.recent_s)
        for size in self.batch_sizes:
            speeds = [k.reference_ms or 0.0 for (_, batch), k in latest.items() if batch == size]
            if not min(speeds) > 0 or max(speeds) / min(speeds) - 1 > AGREEMENT:
                return {}
        if any(datetime.datetime.fromisoformat(k.cost.measured_at or OLD) < since for k in latest.values()):
            return {}
        found = {place: dataclasses.replace(k.cost, id=place[0]) for place, k in latest.items()}
        for cost in found.values():
            self.on_cost(cost)
        return found

    def agreeing(self, name: str, kept: Mapping[int, Sequence[Kept]]) -> list[Cost] | None:
        """At every batch size the latest kept figure in whose session the reference was as fast as it is now.

        None where one has no such figure.
        """
        found = []
        for size in self.batch_sizes:
            here = self.reference.get(size)
            good = [k for k in kept[size] if here and abs((k.reference_ms or 0) / here - 1) <= AGREEMENT]
            if not good:
                return None
            found.append(dataclasses.replace(good[0].cost, id=name))
        return found
