"""What is told of a candidate beyond its row: its card, where it errs and by how much, what more labels would do.

All of it is JSON, kept in selection.json and drawn by `zoo.report`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from shlex import join
from typing import Any, TypeAlias

import numpy as np

from zoo import registry
from zoo.cards import Cost, ModelId, Preprocess, preprocess_line
from zoo.choose.evidence import Evidence, Splits, choose_strength, logistic, one_thread
from zoo.choose.rule import Verdict
from zoo.choose.subsets import FIRST, nested_order
from zoo.data import Dataset, Input
from zoo.engine import Array
from zoo.errors import ZooError
from zoo.report import thumbnail
from zoo.train import wilson_interval

Json: TypeAlias = dict[str, Any]
ERRORS, LETTERS = 6, 300
"""How many errors are kept of a candidate, and how much of a text."""
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
TURNS = 2
PACKAGES = ("backbone-zoo", "onnxruntime", "onnx", "numpy", "scikit-learn", "pillow", "tokenizers")
BY_FRAMEWORK = {
    "torch": ("torch", "torchvision", "timm"),
    "tf": ("tensorflow", "keras", "keras-hub"),
    "hf": ("torch", "transformers"),
}


# --- where it errs
def mistakes(probabilities: Array, targets: Array, inputs: Sequence[Input]) -> Json:
    """{"confusion": [[true, predicted, count], ...] of the cells above 0, "errors": the most confident wrong ones}.

    probabilities: float32 [N, C], out of fold; targets: int64 [N]; inputs: the N examples, in the same order.
    An error: {"index", "true", "predicted", "confidence", and "text", "path" or "thumbnail"}, the surest first.
    Empty where there are no probabilities, [0, 0].
    """
    if not probabilities.size:
        return {}
    predicted = probabilities.argmax(axis=1)
    classes = probabilities.shape[1]
    counts = np.bincount(targets * classes + predicted, minlength=classes**2).reshape(classes, classes)
    cells = [[int(t), int(p), int(counts[t, p])] for t, p in zip(*np.nonzero(counts), strict=True)]
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != targets)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:ERRORS]
    errors = [
        {
            "index": int(i),
            "true": int(targets[i]),
            "predicted": int(predicted[i]),
            "confidence": float(confidence[i]),
            **_shown(inputs[i]),
        }
        for i in surest
    ]
    return {"confusion": cells, "errors": errors}


def _shown(item: Input) -> Json:
    """A text cut to LETTERS; a file's path, so that its picture is made when the report is; else the picture."""
    if isinstance(item, str):
        return {"text": item if len(item) <= LETTERS else item[:LETTERS].rstrip() + " ..."}
    if isinstance(item, Path):
        return {"path": str(item)}
    try:
        return {"thumbnail": thumbnail(item)}
    except ZooError as error:
        return {"text": str(error)}


# --- what more labels would do
@one_thread
def learning_curve(features: Array, targets: Array, splits: Splits, *, seed: int) -> list[Json]:
    """[{"examples", "accuracy", "low", "high"}, ...]: the probe fitted on growing, nested, stratified subsets.

    features float32 [N, D], targets int64 [N].  Judged on the held part of the first TURNS splits, whose Wilson
    95 % interval low to high is.  The strength is that of the whole part: a smaller one might like a stronger
    penalty, so the beginning is, if anything, a little low.
    """
    turns = splits[:TURNS]
    held = sum(len(judged) for _, judged in turns)
    strengths = [choose_strength(features[fit], targets[fit], seed=seed) for fit, _ in turns]
    orders = [fit[nested_order(targets[fit], seed=seed)] for fit, _ in turns]
    whole = min(map(len, orders))
    least = FIRST * len(np.unique(targets))
    points = []
    for size in [n for share in SHARES if (n := round(share * whole)) >= least] + [whole]:
        right = 0
        for (_, judged), order, strength in zip(turns, orders, strengths, strict=True):
            fitted = order[:size]
            probe = logistic(strength).fit(features[fitted], targets[fitted])
            right += int((probe.predict(features[judged]) == targets[judged]).sum())
        low, high = wilson_interval(right, held)
        points.append({"examples": int(size), "accuracy": right / held, "low": low, "high": high})
    return points


# --- what it is
def card(candidate: str, preprocess: Preprocess | None = None) -> Json:
    """What is known of a candidate without loading it; nothing is assumed: a key that nobody states is absent.

    preprocess: as its graph says it; None: as its publisher does.
    """
    known: Json = {} if preprocess is None else {"preprocessing": preprocess_line(preprocess)}
    try:
        model = registry.resolve(candidate)
    except ZooError:  # a baseline, or a saved run's folder
        return known
    return {**_published(model), **known}


def _published(model: ModelId) -> Json:
    found, weights = registry.card(model), registry.weights_card(model)
    if found is None:
        return {"framework": model.framework}
    said: Json = {
        "framework": found.framework,
        "source": found.source,
        "family": found.family,
        "paper": found.paper,
        "note": found.note,
    }
    if weights is not None:
        figure = (
            None if weights.value is None else f"{weights.metric} {weights.value:g}, {weights.dataset or '?'}"
        )
        said |= {
            "weights": weights.tag,
            "licence": weights.licence,
            "published": figure,
            "figure_source": weights.source,
            "url": weights.url,
            "download_mb": None if weights.bytes is None else weights.bytes / 1e6,
            "preprocessing": weights.preprocess,
        }
    return {key: value for key, value in said.items() if value not in (None, "")}


# --- the rule, as a table
def ranking(
    evidence: Mapping[str, Evidence],
    costs: Mapping[str, Cost],
    judge: Callable[[Mapping[str, Evidence], Mapping[str, Cost]], Verdict],
    quality: Callable[[Evidence], float] = lambda found: found.accuracy,
) -> Json:
    """What the rule needs to pick within any budget, so that a page can do it without the examples.

    {"order": ids from the best quality down, "ties": {id: positions in order of those that tie with it where it
    is the best of what fits}}. judge: `rule.judge` with its tolerance filled in; quality: what it sorts by.
    Whoever is dearer in everything than one before it is never the best of what fits, and has no ties.
    """
    order = sorted(evidence, key=lambda name: (-quality(evidence[name]), _latency(costs[name]), name))
    ties: dict[str, list[int]] = {}
    leaders: list[tuple[float, ...]] = []
    for place, top in enumerate(order):
        figures = _figures(costs[top])
        if any(all(a <= b for a, b in zip(other, figures, strict=True)) for other in leaders):
            continue
        leaders.append(figures)
        rest = {name: evidence[name] for name in order[place:]}
        tied = judge(rest, {name: costs[name] for name in rest}).tied
        if len(tied) > 1:
            ties[top] = [place + i for i, name in enumerate(order[place:]) if name in tied and name != top]
    return {"order": order, "ties": ties}


def _figures(cost: Cost) -> tuple[float, ...]:
    """Everything that a budget can limit; what was not measured breaks any limit."""
    all_of_them = (
        cost.latency_p50_ms, cost.latency_p90_ms, cost.file_bytes, cost.peak_memory_mb, cost.macs, cost.params,
    )  # fmt: skip
    return tuple(float("inf") if value is None else float(value) for value in all_of_them)


def _latency(cost: Cost) -> float:
    return float("inf") if cost.latency_p50_ms is None else cost.latency_p50_ms


# --- how to get it again
def provenance(parts: Mapping[str, Dataset | None], candidates: Sequence[str]) -> Json:
    """{"classes", "kind", "examples": {part: N}, "fingerprints": {part: 12 hex digits}, "versions", "command"}.

    parts: "train", "validation", "test", None where there is none.  candidates: ids, whose frameworks' versions
    are told.  command: what was typed, "" where `zoo` was not called from the command line.
    Raises BadFilesError where a file has gone.
    """
    there = {name: part for name, part in parts.items() if part is not None}
    first = next(iter(there.values()))
    frameworks = sorted(
        {framework for name in candidates if (framework := name.partition(":")[0]) in BY_FRAMEWORK}
    )
    packages = dict.fromkeys([*PACKAGES, *(p for name in frameworks for p in BY_FRAMEWORK[name])])
    return {
        "kind": first.kind,
        "classes": list(first.classes),
        "examples": {name: len(part) for name, part in there.items()},
        "fingerprints": {name: part.fingerprint()[:12] for name, part in there.items()},
        "versions": {"python": ".".join(map(str, sys.version_info[:3])), **_versions(list(packages))},
        "command": _command(),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _command() -> str:
    """The command line that gives it anew, if it was `zoo ...` or `python -m zoo.cli ...`."""
    program = Path(sys.argv[0])
    called = program.stem == "zoo" or program.parent.name == "cli"
    arguments = [text for text in sys.argv[1:] if text not in ("--resume", "--force")]
    return join(["zoo", *arguments]) if called else ""
