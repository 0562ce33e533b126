"""The parity sweep: is every model that the zoo lists what it claims to be?

    python benchmarks/parity.py torchvision timm transformers keras_applications kerashub [--all] [--record]

For each model of a source, with random weights and in a process of its own with a limit: load it, freeze it,
put a head on, take a step (the backbone must not move, the head must), train its last block for a step (nothing
before that may move), export it, and compare the file in ONNX Runtime with the native model on two batches (the
parity check of `zoo.graph`, which raises on a mismatch). Results are written as they come to
`runs/parity/<source>.jsonl`; a second call goes on where the first stopped (`--fresh` starts anew, `--retry`
tries the failures again). `--record` puts counts and reasons into RESULTS.md and each line into PARITY.md.

A source is a module `parity_<source>.py` beside this file (its frameworks imported inside the functions) with
    FRAMEWORK   "torch", "tf" or "hf"
    items(every: bool) -> list[str]
    prepare(item, folder) -> (id, kwargs of zoo.get); may write a small model folder into `folder`
    UPSTREAM    {item: named upstream fault with a link} for what cannot work; tried all the same
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs" / "parity"
SOURCES = ("torchvision", "timm", "transformers", "keras_applications", "kerashub")
CLASSES, LIMIT_S = 3, 300.0
# Features that change less than this from input to input, of their magnitude, are float32's rounding: equal
# outputs prove nothing then.
LEAST_SPREAD = 1e-5


# --- one model, in a process of its own
def examine(source: str, item: str, folder: str, pipe: Connection) -> None:
    """Report the stage that begins, and in the end {"ok": ...} with the figures or the reason."""
    started = time.perf_counter()

    def stage(name: str) -> None:
        pipe.send({"stage": name})

    try:
        found = {"ok": True, **_examine(source, item, Path(folder), stage)}
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        found = {
            "ok": False,
            "kind": type(error).__name__,
            "reason": text[:400],
            "trace": traceback.format_exc(),
        }
    pipe.send({"done": {**found, "seconds": round(time.perf_counter() - started, 1)}})


def _examine(source: str, item: str, folder: Path, stage: Any) -> dict[str, Any]:
    import zoo
    from zoo.graph.samples import parity_batches

    stage("load")
    name, options = importlib.import_module(f"parity_{source}").prepare(item, folder)
    model = zoo.get(name, **options)
    batch = parity_batches(model.preprocess, model.engine.inputs)[-1]
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(len(next(iter(batch.values()))))]
    stage("freeze")
    model.freeze()
    model.replace_head(CLASSES, seed=0)
    drawn = model.state()
    moved = _moved_by_a_step(model, batch, targets)
    if moved != {"head"}:
        raise AssertionError(f"frozen, a step moved {', '.join(sorted(moved)[:4]) or 'nothing'}")
    stage("train")
    model.engine.load_state(drawn)  # a head that is right already, and sure of it, gets no gradient
    model.unfreeze(last=1)
    moved = _moved_by_a_step(model, batch, targets)
    if not {"head"} <= moved <= {"head", model.blocks[-1]}:
        raise AssertionError(f"with the last block trained, a step moved {', '.join(sorted(moved)[:4])}")
    # A trained bias beside the tiny signals of random weights would drown them: parity would prove nothing.
    model.engine.load_state(drawn)
    stage("export")
    path = folder / "model.onnx"
    exported = model.export(path)
    stage("load the file")
    figures = exported.provenance["parity"]["features"]
    again = zoo.OnnxModel(path).logits(batch)
    if again.shape != targets.shape or not np.isfinite(again).all():
        raise AssertionError(f"the file gives logits {again.shape}, finite: {np.isfinite(again).all()}")
    features = model.engine.features(batch)
    share = float(np.ptp(features, axis=0).max() / np.abs(features).max())
    if not share >= LEAST_SPREAD:
        raise AssertionError(
            f"features change by {share:.1e} of their size between inputs: parity proves nothing"
        )
    return {
        "id": name,
        "exporter": exported.provenance["exporter"],
        "values": sum(value.size for value in model.state().values()),
        "spread_share": share,
        **figures,
    }


def _moved_by_a_step(model: Any, batch: Any, targets: Any) -> set[str]:
    """The blocks of which any value changed in one SGD step."""
    from zoo.cards import Recipe

    before, owner = model.state(), model.engine.block_of()
    model.engine.start_training(Recipe(optimizer="sgd", lr=1e-2, momentum=0.0))
    rates = dict.fromkeys((*model.engine.trainable, "head"), 1e-2)
    loss = float(model.engine.train_step(batch, targets, lr=rates))
    if not np.isfinite(loss):
        raise AssertionError(f"the loss is {loss}")
    after = model.state()
    return {
        owner[key] for key, value in after.items() if not np.array_equal(value, before[key], equal_nan=True)
    }


# --- all models of a source
def sweep(source: str, *, every: bool, only: str, limit_s: float, fresh: bool, retry: bool) -> None:
    """Examine what has no result yet, one at a time."""
    module = importlib.import_module(f"parity_{source}")
    path = RUNS / f"{source}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [f"zoo_{module.FRAMEWORK}.adapter", f"parity_{source}", "onnxruntime", "zoo"]
    )
    names = _listed(source, every)
    have = {} if fresh else results(source)  # the last result of a model counts: nothing is thrown away
    names = [
        n for n in names if fnmatch.fnmatch(n, only) and (n not in have or (retry and not have[n]["ok"]))
    ]
    for index, name in enumerate(names, 1):
        result = {"item": name, **_attempt(context, source, name, limit_s)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        shown = (
            f"{result['error_of_spread']:.0e} {result['exporter']}"
            if result["ok"]
            else result["reason"][:160]
        )
        print(f"{source} {index}/{len(names)} {name}: {shown} ({result['seconds']} s)", flush=True)


def _listed(source: str, every: bool) -> list[str]:
    """The source's items, asked in a process of its own: this one imports no framework."""
    code = f"import json, parity_{source} as p; print('ITEMS ' + json.dumps(p.items({every})))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=False
    )
    lines = [line for line in found.stdout.splitlines() if line.startswith("ITEMS ")]
    if not lines:
        raise SystemExit(f"parity_{source}.items failed:\n{found.stderr[-2000:]}")
    return list(json.loads(lines[-1].removeprefix("ITEMS ")))


def _attempt(context: Any, source: str, name: str, limit_s: float) -> dict[str, Any]:
    """One model in its own process; a crash or a timeout is a result with the stage where it happened."""
    ours, theirs = context.Pipe()
    started, stage = time.perf_counter(), "start"
    with tempfile.TemporaryDirectory(prefix="zoo-parity-") as folder:
        process = context.Process(target=examine, args=(source, name, folder, theirs))
        process.start()
        theirs.close()
        try:
            while (left := limit_s - (time.perf_counter() - started)) > 0 and ours.poll(left):
                message = ours.recv()
                if "done" in message:
                    return {"stage": stage, **message["done"]}
                stage = message["stage"]
            reason = f"over the limit of {limit_s:.0f} s while it did: {stage}"
        except EOFError:
            process.join(5)
            reason = f"the process ended (exit code {process.exitcode}) while it did: {stage}"
        finally:
            process.kill()
            process.join()
    seconds = round(time.perf_counter() - started, 1)
    return {"ok": False, "kind": "Limit", "reason": reason, "stage": stage, "seconds": seconds}


# --- the report
def results(source: str) -> dict[str, dict[str, Any]]:
    """The last result of each item."""
    path = RUNS / f"{source}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {result["item"]: result for result in map(json.loads, lines)}


def verdict(result: dict[str, Any], upstream: dict[str, str]) -> str:
    """ok, a named upstream fault, or the kind of failure with its stage."""
    if result["ok"]:
        return "ok"
    if fault := upstream.get(result["item"]):
        return f"upstream: {fault}"
    return f"{result['stage']}: {result['reason']}"


def report(sources: list[str], *, record: bool) -> int:
    """Print the counts and the failures; with `record` write both files. Returns how many failed of ours."""
    from common import machine_line, table
    from common import record as put

    rows, failures, lines, ours = [], [], [], 0
    for source in sources:
        upstream = importlib.import_module(f"parity_{source}").UPSTREAM
        found = results(source)
        said = {name: verdict(result, upstream) for name, result in found.items()}
        good = [result for result in found.values() if result["ok"]]
        named = [text for text in said.values() if text.startswith("upstream")]
        bad = {name: text for name, text in said.items() if text != "ok"}
        ours += len(bad) - len(named)
        share = f"{100 * (len(good) + len(named)) / max(1, len(found)):.1f} %"
        rows.append(
            (source, len(found), len(good), len(named), len(bad) - len(named), share, _exporters(good))
        )
        failures += [
            (f"{source}: {name}", text[:220].replace("|", "/")) for name, text in sorted(bad.items())
        ]
        lines += list(_lines(source, found, said))
    head = ("source", "models", "ok", "named upstream", "failed", "ok or named", "exporters")
    text = table(head, rows) + "\n\n" + (table(("not ok", "why"), failures) if failures else "All are ok.")
    print(text)
    if record:
        put(
            "parity",
            f"## Parity sweep\n\n`python benchmarks/parity.py --record`; each line in PARITY.md.\n\n{text}",
        )
        versions = machine_line(
            "torch", "torchvision", "timm", "transformers", "keras", "keras-hub", "onnxruntime"
        )
        body = table(("model", "verdict", "error / spread", "exporter", "M values", "s"), lines)
        start = (
            "# The parity sweep, line by line\n\nWritten by `python benchmarks/parity.py --record`. A line stays "
            "until its model is tried again (`--fresh`): seconds may come from several machines."
        )
        (HERE / "PARITY.md").write_text(f"{start} {versions}\n\n{body}\n", encoding="utf-8")
    return ours


def _exporters(good: list[dict[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for result in good:
        counts[result["exporter"]] = counts.get(result["exporter"], 0) + 1
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _lines(
    source: str, found: dict[str, dict[str, Any]], said: dict[str, str]
) -> Iterator[tuple[object, ...]]:
    for name, result in sorted(found.items()):
        if result["ok"]:
            figures = (
                f"{result['error_of_spread']:.0e}",
                result["exporter"],
                f"{result['values'] / 1e6:.1f}",
            )
        else:
            figures = ("", "", "")
        yield (f"{source}: {name}", said[name][:160].replace("|", "/"), *figures, result["seconds"])


def main() -> int:
    """Sweep each source in a process of its own (a forkserver serves one framework), then report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sources", nargs="*", default=list(SOURCES))
    parser.add_argument("--all", action="store_true", help="every architecture of timm, not one a family")
    parser.add_argument("--only", default="*", help="shell pattern over names")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds a model may take")
    parser.add_argument("--fresh", action="store_true", help="try again what has a result")
    parser.add_argument("--retry", action="store_true", help="try failures again")
    parser.add_argument("--record", action="store_true", help="write RESULTS.md and PARITY.md")
    parser.add_argument("--report", action="store_true", help="no new attempts")
    given = parser.parse_args()
    if unknown := [source for source in given.sources if source not in SOURCES]:
        parser.error(f"no source {', '.join(unknown)}: there are {', '.join(SOURCES)}")
    if len(given.sources) == 1 and not given.report:
        sweep(
            given.sources[0], every=given.all, only=given.only, limit_s=given.limit, fresh=given.fresh,
            retry=given.retry,
        )  # fmt: skip
    elif not given.report:
        passed = [a for a in sys.argv[1:] if a not in (*given.sources, "--record")]
        for source in given.sources:
            subprocess.run([sys.executable, __file__, source, *passed], check=False)
    return int(report(given.sources, record=given.record) > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
