"""Ways to choose, on equal terms: the same candidates, split and budget, each with the CPU seconds that it took.

Ours is the selector's own rule on its own probes, alone or followed by successive halving among those that may still
win; the runs that halving asks for are looked up in the truth table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from select_prepare import features
from select_space import SEEDS, Candidate
from select_table import Probe, Setting, Table, fine_tuned

from zoo.cards import Budget
from zoo.choose.evidence import Evidence, paired_interval
from zoo.choose.finals import rank
from zoo.choose.halving import promote, rungs
from zoo.choose.ladder import MARGIN, called_back, climb
from zoo.choose.limits import excesses
from zoo.choose.rule import judge
from zoo.choose.stages import fine_tune

TOLERANCE = 0.01
DRAWS = 200


@dataclass(frozen=True)
class Pick:
    """test: accuracy on the test part.  cpu: seconds up to the choice, files and their costs at hand.  full: of the
    oracle, with all its seeds.
    """

    label: str
    test: float
    cpu: float
    full: float = 0.0


@dataclass(frozen=True)
class Case:
    """One split under one budget. probes: by label, of all candidates."""

    table: Table
    split: int
    budget: Budget
    probes: Mapping[str, Probe]

    @property
    def fitting(self) -> list[Candidate]:
        """Within the budget, by what the files were measured to cost."""
        costs = self.table.costs
        return [c for c in self.table.task.candidates if not excesses(costs[c.label], self.budget)]

    @property
    def settings(self) -> list[Setting]:
        """All that the oracle tries."""
        found = []
        for candidate in self.fitting:
            found += self.table.heads(candidate, self.split) + self.table.whole(candidate, self.split)
        return found

    @property
    def passes(self) -> float:
        """CPU seconds of the features of everything that fits: all depths of a network from one pass."""
        each: dict[str, float] = {}
        task = self.table.task
        split = task.split(self.split)
        count = len(split.train) + len(split.validation)
        for candidate in self.fitting:
            whole = candidate.network.id.partition(",depth=")[0] + candidate.precision
            each[whole] = max(each.get(whole, 0.0), features(task, candidate)[1] * count)
        return sum(each.values())

    def best(self, settings: Sequence[Setting]) -> Setting:
        """By validation, as `zoo tune` ranks: accuracy, then loss."""
        return max(settings, key=lambda setting: rank(setting.score))


def oracle(case: Case) -> Pick:
    """Everything trained; the best on the validation part."""
    settings = case.settings
    best = case.best(settings)
    seen: dict[tuple[str, str], float] = {}
    for s in settings:  # the same run stands for two frameworks: paid once
        name = fine_tuned(s.candidate.network) if s.arm.part == "all" else s.candidate.label
        seen[name, s.arm.key] = s.cpu
    trained = sum(seen.values())
    full = case.passes + trained * len(SEEDS) / len(best.runs)
    return Pick(best.candidate.label, best.test, case.passes + trained, full)


@dataclass(frozen=True)
class Judged:
    """What the selector's ladder comes to. probed: labels, the others being judged by the cheap score alone.
    cpu: seconds of features, scores, probes and a head.
    """

    evidence: dict[str, Evidence]
    probed: set[str]
    cpu: float


def ladder(case: Case, margin: float = MARGIN) -> Judged:
    """Cheap scores of everyone, then probes of those that may still win, as `zoo.choose.pipeline` has it."""
    all_of_it = {candidate.label: case.probes[candidate.label] for candidate in case.fitting}
    cheap = {name: probe.cheap for name, probe in all_of_it.items()}
    ties = {name: probe.scores["LogME"] for name, probe in all_of_it.items()}
    todo, judged = climb(cheap, margin=margin, tie_break=ties).stay, dict[str, Evidence]()
    while todo:
        judged |= {name: all_of_it[name].evidence for name in todo}
        todo = tuple(called_back(cheap, judged, margin=margin))
    seconds = sum(probe.cpu["ridge"] for probe in all_of_it.values())
    seconds += sum(all_of_it[name].cpu["logistic"] for name in judged)
    heads = max(probe.cpu["head"] for probe in all_of_it.values())
    return Judged(cheap | judged, set(judged), case.passes + seconds + heads)


def ours(case: Case) -> Pick:
    """Ladder and rule."""
    found = ladder(case)
    costs = {name: case.table.costs[name] for name in found.evidence}
    chosen = judge(found.evidence, costs, tolerance=TOLERANCE).order[0]
    return Pick(chosen, float(case.probes[chosen].test.mean()), found.cpu)


def ours_tuned(case: Case, *, most: int, margin: float = MARGIN, near_by: float = fine_tune.MARGIN) -> Pick:
    """The same, then halving over all layers of `most` networks that are no further than `near_by` from the best probe;
    then the rule on what each does best.
    """
    found = ladder(case, margin)
    top = max(one.accuracy for one in found.evidence.values())
    near = [
        c
        for c in case.fitting
        if c.label in found.probed and found.evidence[c.label].accuracy >= top - near_by
    ]
    near.sort(
        key=lambda c: (-found.evidence[c.label].accuracy, case.table.costs[c.label].latency_p50_ms, c.label)
    )
    left: dict[str, Candidate] = {}
    for (
        candidate
    ) in near:  # one framework of the same weights; the float32 network of a precision, if it fits
        if candidate.precision == "fp32" and len(left) < most:
            left.setdefault(fine_tuned(candidate.network), candidate)
    tuned, cpu = halve(case, list(left.values()))
    best = {name: (one, float(case.probes[name].test.mean())) for name, one in found.evidence.items()}
    for setting in tuned:
        one = Evidence(setting.runs[0].validation)
        if one.accuracy > best[setting.candidate.label][0].accuracy:
            best[setting.candidate.label] = one, setting.test
    costs = {name: case.table.costs[name] for name in best}
    verdict = judge({name: one for name, (one, _) in best.items()}, costs, tolerance=TOLERANCE)
    return Pick(verdict.order[0], best[verdict.order[0]][1], found.cpu + cpu)


def gap_low(probed: Mapping[str, Probe], leader: str, name: str) -> float:
    """The low end of the paired 95 % interval of (leader - it), by the cheap score; 0 for the leader itself."""
    if name == leader:
        return 0.0
    return paired_interval(probed[leader].cheap.correct, probed[name].cheap.correct)[0]


def halve(case: Case, candidates: Sequence[Candidate]) -> tuple[list[Setting], float]:
    """Each candidate's best setting, and the CPU seconds of all runs; by `zoo.choose.halving`, seed 0.

    AdamW's rates alone, as the selector has it, which promotes on a part of the training examples, not on validation.
    """
    table, split, epochs = case.table, case.split, case.table.task.epochs
    full = {_name(s): s for c in candidates for s in table.whole(c, split) if s.arm.optimizer == "adamw"}
    brief = [s for c in candidates for s in table.whole(c, split, short=True)]
    left = {_name(s): s for s in brief if _name(s) in full}
    stratum = {name: s.candidate.label for name, s in left.items()}
    cpu = 0.0
    for rung in rungs(len(left), len(candidates), epochs) if candidates else []:
        if rung.epochs == epochs:
            left = {name: _first_seed(full[name]) for name in left}
        cpu += sum(s.cpu for s in left.values())
        kept = promote({name: s.score for name, s in left.items()}, stratum, rung.keep)
        left = {name: left[name] for name in kept}
    return list(left.values()), cpu


def _name(setting: Setting) -> str:
    return f"{setting.candidate.label}/{setting.arm.key}"


def _first_seed(setting: Setting) -> Setting:
    return replace(setting, runs=setting.runs[:1])


def by_score(case: Case, name: str) -> Pick:
    """The highest of one cheap score, with the probe's head."""
    probed = _probed(case)
    chosen = max(probed, key=lambda label: (probed[label].scores[name], label))
    spent = {"head": probed[chosen].cpu["head"], name: sum(p.cpu[name] for p in probed.values())}
    return Pick(chosen, float(probed[chosen].test.mean()), case.passes + sum(spent.values()))


def largest(case: Case, *, tuned: bool) -> Pick:
    """The most multiply-accumulates that fit, in float32 if that fits; with the probe's head, or its best setting."""
    return _one(case, max(case.fitting, key=lambda c: _size(case, c)), tuned=tuned)


def published(case: Case, *, tuned: bool) -> Pick:
    """The highest published top-1 that fits; without a figure, last; of equal ones the largest."""
    found = max(case.fitting, key=lambda c: (c.network.published or 0.0, *_size(case, c)))
    return _one(case, found, tuned=tuned)


def _size(case: Case, candidate: Candidate) -> tuple[float, int, str]:
    cost = case.table.costs[candidate.label]
    return float(cost.macs or 0), cost.file_bytes or 0, candidate.label


def _one(case: Case, candidate: Candidate, *, tuned: bool) -> Pick:
    task, probe = case.table.task, case.probes[candidate.label]
    split = task.split(case.split)
    once = features(task, candidate)[1] * (len(split.train) + len(split.validation))
    if not tuned:
        return Pick(candidate.label, float(probe.test.mean()), once + probe.cpu["head"])
    settings = [*case.table.heads(candidate, case.split), *case.table.whole(candidate, case.split)]
    return Pick(candidate.label, case.best(settings).test, once + sum(s.cpu for s in settings))


def random_search(case: Case, seconds: Sequence[float]) -> list[float]:
    """Test accuracy after so many CPU seconds of training drawn settings, in expectation over DRAWS orders.

    The first run is always paid for; features are not charged to it.
    """
    settings = case.settings
    cpu = np.array([s.cpu for s in settings])
    ranks = sorted(range(len(settings)), key=lambda i: rank(settings[i].score))
    place = np.empty(len(settings), np.int64)
    place[ranks] = np.arange(len(settings))
    test = np.array([s.test for s in settings])
    rng, found = np.random.default_rng(case.split), np.zeros(len(seconds))
    for _ in range(DRAWS):
        order = rng.permutation(len(settings))
        spent, best = np.cumsum(cpu[order]), np.maximum.accumulate(place[order])
        at = np.maximum(np.searchsorted(spent, seconds, side="right") - 1, 0)
        found += test[np.array(ranks)[best[at]]]
    return [float(value) for value in found / DRAWS]


def _probed(case: Case) -> dict[str, Probe]:
    return {candidate.label: case.probes[candidate.label] for candidate in case.fitting}
