"""Names become graphs on disk: exported, cut, in the precisions asked for, checked; what fails is a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from zoo import errors
from zoo.cards import ModelId, Precision, fingerprint
from zoo.choose import derived
from zoo.choose.artefacts import Artefact, export_families, takes
from zoo.choose.candidates import Family
from zoo.choose.stages.state import State
from zoo.data import Dataset
from zoo.errors import (
    ExportError,
    FrameworkBrokenError,
    FrameworkMissingError,
    InputError,
    WeightsError,
    WeightsUnavailableError,
    WorkerError,
    ZooError,
)
from zoo.graph.calibrating import calibration_set
from zoo.graph.precision import CalibrationSet

SHARED = (WeightsUnavailableError, WeightsError, FrameworkMissingError, FrameworkBrokenError, WorkerError)
FINISHED = (ExportError, WorkerError)
"""What a resumed run would only see again. Missing weights and frameworks may have come meanwhile."""
CATALOGUE, STATIC = "catalogue", "static cost"


def make_graphs(
    state: State, families: Sequence[Family], lost: Sequence[tuple[str, ZooError]]
) -> list[Artefact]:
    """Every candidate's graph. Raises the kind of error that all candidates share where there is none."""
    for name, error in lost:
        state.lose(name, error, CATALOGUE)
    known = dict(state.journal.items("failed/"))
    again = [family for family in families if _key(family) not in known]
    artefacts, failed = export_families(
        again, state.work, len(state.parts.train.classes), say=state.say, executor=state.executor
    )
    state.executor.rest()  # what is measured next has the memory to itself
    failed += [(key, _raised(known[key])) for key in map(_key, families) if key in known]
    for key, error in failed:
        state.lose(key, error, STATIC)
        if isinstance(error, FINISHED) and key not in known:
            state.journal.put(f"failed/{key}", {"kind": type(error).__name__, "text": str(error)})
    good = [artefact for artefact in artefacts if _reads(state, artefact)]
    owners = {(str(family.id), family.depths is None): family for family in families}
    candidates = []
    for artefact in good:
        network = str(dataclasses.replace(ModelId.parse(artefact.id), depth=None))
        candidates += _in_precisions(state, artefact, owners[network, artefact.depth is None])
    if not candidates:
        raise _none_left(state, [error for _, error in (*lost, *failed)])
    return candidates


def _key(family: Family) -> str:
    """As `export_families` calls it."""
    return str(family.id) + ("" if family.depths is None else ",depth=all")


def _raised(kept: dict[str, str]) -> ZooError:
    found: ZooError = getattr(errors, kept["kind"])(kept["text"])
    return found


def _none_left(state: State, lost: Sequence[ZooError]) -> ZooError:
    """One error for all candidates: of the kind that they share, else an InputError."""
    reasons = "; ".join(f"{row.id}: {row.reason}" for row in state.rows.values())
    shared = next((k for k in SHARED if lost and all(isinstance(e, k) for e in lost)), InputError)
    return shared(f"no candidate could be loaded. {reasons}")


def _reads(state: State, artefact: Artefact) -> bool:
    """Whether it takes the data; a row says so where not."""
    kind = state.parts.train.kind
    if takes(artefact.preprocess, kind):
        return True
    state.row(artefact.id, "failed", f"does not take {kind} data", STATIC)
    return False


# --- precisions
def _in_precisions(state: State, artefact: Artefact, owner: Family) -> list[Artefact]:
    """The artefact in each precision asked for; where fp32 is not, it is a parent alone."""
    found = []
    for precision in owner.precisions(artefact.depth):
        if precision == "fp32":
            found.append(artefact)
            continue
        name = str(owner.member(artefact.depth, precision))
        try:
            found.append(_variant(state, artefact, precision, name))
        except ZooError as error:
            state.lose(name, error, STATIC)
    return found


def _variant(state: State, artefact: Artefact, precision: Precision, name: str) -> Artefact:
    """A file of its own, with features of its own: a quantised backbone gives others."""
    path = artefact.path.with_name(f"{artefact.path.stem}-{precision}.onnx")
    state.say(f"{name}: written")
    calibration = ranges_of(state.parts.train, state.wanted.seed) if precision == "int8-static" else None
    derived.variant(artefact.path, precision, path, calibration)
    return Artefact(name, path, path, None, fingerprint(["variant", derived.digest(path)]))


def ranges_of(train: Dataset, seed: int) -> CalibrationSet:
    """What int8 ranges are found on: training inputs alone, without their labels."""
    return calibration_set(train, train.kind, seed=seed)
