"""What `zoo check` found: faults with their evidence, everything that was tried, and how sure 'nothing' is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.cards import ImagePreprocess, Preprocess


@dataclass(frozen=True)
class Trial:
    """One hypothesis. Figures are on `examples`; reason says why there are none, or why it went no further."""

    fault: str
    right: str
    accuracy: float | None = None
    log_loss: float | None = None
    gained: int | None = None
    lost: int | None = None
    p: float | None = None
    examples: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Finding:
    """A fault. accuracy_before, accuracy_after: as given and corrected, on the same examples.

    low, high: paired 95 % interval of the gain.  gained, lost: examples right only after, only before.
    p: that it is chance, corrected for the number of hypotheses.  log_loss: at the best temperature.
    values_before, values_after: what the network is given.  change: the fields to change.
    alternatives: what explains it as well.
    """

    fault: str
    right: str
    accuracy_before: float
    accuracy_after: float
    low: float
    high: float
    gained: int
    lost: int
    p: float
    log_loss_before: float
    log_loss_after: float
    values_before: str = ""
    values_after: str = ""
    change: str = ""
    alternatives: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The fault for a person."""
        found = [
            f"FAULT: {self.fault}. Right would be: {self.right}.",
            f"  accuracy {self.accuracy_before:.3f} as given, {self.accuracy_after:.3f} corrected: "
            f"{100 * (self.accuracy_after - self.accuracy_before):+.1f} points (paired 95 % interval "
            f"{100 * self.low:.1f} to {100 * self.high:.1f}); {self.gained} examples gained, {self.lost} lost "
            f"(p = {self.p:.1g}); log loss {self.log_loss_before:.3f}, corrected {self.log_loss_after:.3f}",
        ]
        if self.values_before:
            found.append(f"  the network is given {self.values_before}")
            found.append(f"  corrected it would be {self.values_after}")
        found += [f"  as well explained by: {other}" for other in self.alternatives]
        return [*found, f"  to mend: {self.change}"]


@dataclass(frozen=True)
class CheckReport:
    """findings: faults in the order found, each with those before it mended.  facts: what the file says itself.

    accuracy with its Wilson 95 % interval and log_loss: as given, on `examples` of `data`.
    smallest: gain in accuracy that could have been told from chance.  preprocess: as given, all faults mended.
    verdict: "fault", "no fault found", or "unclear": the model is no better than chance, whatever is tried.
    """

    model: str
    data: str
    examples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    verdict: str
    findings: tuple[Finding, ...]
    tried: tuple[Trial, ...]
    facts: tuple[str, ...]
    smallest: float
    preprocess: Preprocess
    shift: int = 0

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """The report for a person, a line each."""
        found = [
            f"{self.model} on {self.examples} examples of {self.data}: accuracy {self.accuracy:.3f} (95 % interval "
            f"{self.accuracy_low:.3f} to {self.accuracy_high:.3f}), log loss {self.log_loss:.3f}"
        ]
        found += self.facts
        for finding in self.findings:
            found += ["", *finding.lines()]
        return [*found, "", self.conclusion()]

    def conclusion(self) -> str:
        """The last line."""
        named = (*(finding.fault for finding in self.findings), *(trial.fault for trial in self.tried))
        kinds = ", ".join(dict.fromkeys(named))
        if self.verdict == "unclear":
            return (
                "Unclear: the model is no better than chance on this data, whatever is tried. Either it was not "
                f"trained for these classes, or the fault is none of these: {kinds}."
            )
        if self.findings:
            count = len(self.findings)
            return f"{count} fault{'s' if count > 1 else ''} found among: {kinds}."
        return (
            f"No fault found among: {kinds}. With {self.examples} examples one that costs "
            f"{100 * self.smallest:.0f} points or more would have been seen."
        )


def describe_change(given: Preprocess, right: Preprocess, step: int) -> str:
    """What to change, field by field."""
    if step:
        return f"take output number c {'+' if step > 0 else '-'} 1 for class c, or move the labels by one"
    if not isinstance(given, ImagePreprocess) or not isinstance(right, ImagePreprocess):
        return ""
    before, after = _fields(given), _fields(right)
    changed = [f"{name} {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    return "in the preprocess, " + "; ".join(changed)


def _fields(preprocess: ImagePreprocess) -> Mapping[str, str]:
    values = dataclasses.asdict(preprocess)
    return {name: _short(value) for name, value in values.items()}


def _short(value: object) -> str:
    if isinstance(value, tuple | list):
        return "(" + ", ".join(_short(v) for v in value) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
