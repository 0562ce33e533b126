"""What publishers state of the catalogue's models, held against a budget: what is worth measuring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zoo import registry
from zoo.cards import IMAGE_TASK, Budget, Cost, ModelId
from zoo.catalogue import Entry, Wanted, check_licence, entries, licence_matcher
from zoo.choose.candidates import Family, expand
from zoo.choose.catalogue_limits import STAGE, members
from zoo.choose.limits import describe
from zoo.choose.rows import Row
from zoo.choose.whereabouts import FLOAT32_BYTES, whereabouts
from zoo.errors import NothingFitsError

HERE = "its weights are not on this machine"


def promising(names: Sequence[str] | None, budget: Budget, *, offline: bool) -> tuple[list[Entry], list[Row]]:
    """Entries with a published ImageNet-1K top-1 that no card rules out, the most accurate first; rows of the others.

    names: as for `zoo.select`; None: every entry of the catalogue. Raises InputError, UnknownModelError as `expand`,
    NothingFitsError where no entry is left.
    """
    if budget.licence is not None:
        check_licence(budget.licence)
    found, rows = _entries(names)
    kept = []
    for entry in found:
        reason = _ruled_out(entry, budget, offline=offline)
        if reason:
            rows.append(row_of(entry, "left out", reason, None, STAGE))
        else:
            kept.append(entry)
    if not kept:
        raise NothingFitsError(
            f"none of {len(rows)} candidate(s) is left before anything is measured ({describe(budget)}"
            f"{', offline' if offline else ''}). {counted(rows)}.",
            nearest=rows[0].id,
        )
    return sorted(kept, key=lambda entry: (-(entry.top1 or 0.0), entry.id)), rows


def _entries(names: Sequence[str] | None) -> tuple[list[Entry], list[Row]]:
    """Entries that are asked for, and rows of what is no entry."""
    if names is None:
        return entries(Wanted(task=IMAGE_TASK)), []
    families, lost = expand(names, "image")
    rows = [Row(name, "failed", str(error).splitlines()[0], stage=STAGE) for name, error in lost]
    found = []
    for family in families:
        entry = _entry(family)
        if entry is None:
            reason = "no ImageNet-1K top-1 is published of it as it is asked for"
            rows += [Row(name, "left out", reason, stage=STAGE) for name in members(family)]
        else:
            found.append(entry)
    return found, rows


def _entry(family: Family) -> Entry | None:
    """None for local models, for cut networks, and for another size than the figure is of."""
    card = registry.card(family.id)
    if card is None or family.depths is not None:
        return None
    entry = Entry(card, registry.weights_card(family.id))
    return entry if family.id.size in (None, entry.input) else None


def _ruled_out(entry: Entry, budget: Budget, *, offline: bool) -> str:
    """Why an entry leaves by what is published, or ""; as published: with its own head."""
    params, macs, weights = (entry.card.params or 0) / 1e6, entry.macs_g or 0.0, entry.weights
    if entry.top1 is None or weights is None:
        return "no ImageNet-1K top-1 is published of it"
    if entry.top1_at:
        return f"its top-1 is published at {entry.top1_at}, not at its own input size"
    if budget.licence is not None and not licence_matcher(budget.licence)(weights.licence):
        return f"licence {weights.licence}, not {budget.licence}"
    for name, value, limit, unit in (
        ("params", params, budget.params_m, "M"),
        ("MACs", macs, budget.macs_g, "G"),
        ("size of float32 weights", FLOAT32_BYTES * params, budget.size_mb, "MB"),
    ):
        if limit is not None and value > limit:
            return f"{name} {value:.3g} {unit} > {limit:.3g} {unit}"
    return _out_of_reach(ModelId(entry.card.framework, entry.card.name, weights.tag), budget, offline=offline)


def _out_of_reach(model: ModelId, budget: Budget, *, offline: bool) -> str:
    if budget.download_mb is None and not offline:
        return ""
    place = whereabouts(model)
    if place.here:
        return ""
    if offline:
        return f"{HERE} ({place.file})"
    size = place.download_mb
    if size is None or size > (budget.download_mb or 0.0):
        return f"download {'unknown' if size is None else f'{size:.0f} MB'} > {budget.download_mb:g} MB"
    return ""


def network_of(entry: Entry) -> str:
    """What is measured for an entry: the architecture with random weights, at the size that its weights want."""
    other = entry.input is not None and entry.input != entry.card.size
    size = entry.input if other else None
    return str(ModelId(entry.card.framework, entry.card.name, "none", size=size))


def row_of(entry: Entry, status: str, reason: str, cost: Cost | None, stage: str) -> Row:
    """An entry's row, with what is published of it in details["published"]."""
    weights = entry.weights
    published = {} if weights is None or weights.value is None else {
        "metric": weights.metric, "value": weights.value, "dataset": weights.dataset, "source": weights.source,
    }  # fmt: skip
    return Row(entry.id, status, reason, cost=cost, stage=stage, details={"published": published})


def top1_of(row: Row) -> float | None:
    """The published top-1 in percent."""
    value = row.details.get("published", {}).get("value")
    return float(value) if value is not None else None


def counted(rows: Sequence[Row]) -> str:
    """How many were not measured for which reason, figures taken out of the reasons."""
    kinds = Counter(_kind(row.reason) for row in rows if row.cost is None)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _kind(reason: str) -> str:
    for start in ("licence", "params", "MACs", "size", "download"):
        if reason.startswith(start):
            return f"by {start}"
    return "without weights here" if reason.startswith(HERE) else f"because {reason}"
