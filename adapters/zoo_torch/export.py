"""From a module to an ONNX file: a ladder of exporters, each rung tried in ONNX Runtime before it counts.

TorchScript's exporter comes first: it takes a fraction of dynamo's time and knows what dynamo fails on
(XLNet, ssdlite). dynamo is the second. A rung counts only when ONNX Runtime runs its file at another batch
and another length than it was traced with and gets the module's own outputs: a constant folded in at tracing
shows up there.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from zoo.cards import ImagePreprocess, Preprocess
from zoo.engine import Array
from zoo.errors import ExportError
from zoo_torch.onnx_forms import graph_forms
from zoo_torch.onnx_functions import plain_functions

# A probe that is off by more than this share of the outputs' scale is another function, not rounding.
# The core's parity check on real tolerances comes after.
PROBE_TOLERANCE = 1e-2
STDOUT = 1  # the process's file descriptor


class Graph(nn.Module):
    """What is exported: positional inputs to a tuple of outputs. Must itself be in eval mode."""

    def __init__(
        self,
        module: nn.Module,
        compute: Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]],
        inputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.module, self.inputs = module, tuple(inputs)
        self._compute = compute
        self.training = False  # not .eval(): the modes of the module's parts are the caller's business

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        return self._compute(dict(zip(self.inputs, arrays, strict=True)))


def export(
    graph: Graph,
    path: Path,
    *,
    names: Sequence[str],
    preprocess: Preprocess,
    opset: int,
    device: torch.device,
    rungs: Sequence[str] = ("torchscript", "dynamo"),
) -> str:
    """Write `path` with the first exporter whose file passes; returns its name.

    Raises ExportError with each exporter's reason where none does.
    """
    example = [a.to(device) for a in example_inputs(graph.inputs, preprocess, batch=2, length=8)]
    problems = []
    for rung in rungs:
        path.unlink(missing_ok=True)
        try:
            with _quiet(), plain_operators(graph.module):
                RUNGS[rung](graph, example, path, names, opset)
                _probe(graph, path, preprocess, device)
            return rung
        except Exception as error:  # noqa: BLE001  exporters raise anything; the next rung may do
            problems.append(f"{rung}: {_brief(error)}")
    path.unlink(missing_ok=True)
    raise ExportError(f"no exporter wrote a file that ONNX Runtime takes. {'; '.join(problems)}")


def _brief(error: BaseException) -> str:
    """The first line of a message that may have thousands."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


def example_inputs(inputs: Sequence[str], preprocess: Preprocess, *, batch: int, length: int) -> list[Tensor]:
    """Seeded inputs: normal images, or random ids whose last text is padded by two."""
    rng = np.random.default_rng(0)
    if isinstance(preprocess, ImagePreprocess):
        shape = (batch, 3, preprocess.height, preprocess.width)
        return [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))]
    length = min(length, preprocess.max_length)
    arrays: dict[str, Array] = {
        "input_ids": rng.integers(0, preprocess.vocab_size, (batch, length)),
        "attention_mask": np.ones((batch, length), np.int64),
        "token_type_ids": np.zeros((batch, length), np.int64),
    }
    arrays["attention_mask"][-1, max(1, length - 2) :] = 0
    return [torch.from_numpy(arrays[name]) for name in inputs]


def _axes(graph: Graph) -> dict[str, dict[int, str]]:
    return {name: {0: "batch"} if name == "images" else {0: "batch", 1: "length"} for name in graph.inputs}


def _torchscript(graph: Graph, example: list[Tensor], path: Path, names: Sequence[str], opset: int) -> None:
    torch.onnx.export(
        graph,
        tuple(example),
        str(path),
        dynamo=False,
        opset_version=opset,
        input_names=list(graph.inputs),
        output_names=list(names),
        dynamic_axes={**_axes(graph), **{name: {0: "batch"} for name in names}},
    )


def _dynamo(graph: Graph, example: list[Tensor], path: Path, names: Sequence[str], opset: int) -> None:
    dims = {"batch": torch.export.Dim("batch"), "length": torch.export.Dim("length")}
    shapes = tuple({axis: dims[n] for axis, n in axes.items()} for axes in _axes(graph).values())
    torch.onnx.export(
        graph,
        tuple(example),
        str(path),
        dynamo=True,
        opset_version=opset,
        input_names=list(graph.inputs),
        output_names=list(names),
        dynamic_shapes=(shapes,),
        external_data=False,
    )


RUNGS: dict[str, Callable[[Graph, list[Tensor], Path, Sequence[str], int], None]] = {
    "torchscript": _torchscript,
    "dynamo": _dynamo,
}


def _probe(graph: Graph, path: Path, preprocess: Preprocess, device: torch.device) -> None:
    """Run the file at batch 3 and length 11; raises ExportError where it is not the module."""
    inputs = example_inputs(graph.inputs, preprocess, batch=3, length=11)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {name: tensor.numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)}
    got = session.run(None, feed)
    wanted = [out.cpu().numpy() for out in graph(*(tensor.to(device) for tensor in inputs))]
    for output, found, right in zip(session.get_outputs(), got, wanted, strict=True):
        error = _relative_error(found, right)
        if not error <= PROBE_TOLERANCE:
            raise ExportError(f"at another batch and length, output {output.name} is off by {error:.3g}")


def _relative_error(found: Any, right: Array) -> float:
    if found.shape != right.shape:
        raise ExportError(f"at another batch and length the shape is {found.shape}, not {right.shape}")
    return float(np.abs(found - right).max() / max(float(np.abs(right).max()), 1e-30))


@contextlib.contextmanager
def plain_operators(module: Any) -> Iterator[None]:
    """Inside, the module computes in operators that ONNX has: attention without fused kernels, pooling to a
    size that does not divide its input as two products with matrices.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    pools = [part for part in module.modules() if isinstance(part, nn.AdaptiveAvgPool2d)]
    torch.backends.mha.set_fastpath_enabled(False)  # aten::_native_multi_head_attention
    try:
        with (
            eager_attention(module),
            graph_forms(module),
            plain_functions(),
            contextlib.ExitStack() as stack,
        ):
            for pool in pools:
                pool.forward = functools.partial(_pool, pool)  # type: ignore[method-assign]
                stack.callback(delattr, pool, "forward")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _pool(pool: nn.AdaptiveAvgPool2d, maps: Tensor) -> Tensor:
    """What nn.AdaptiveAvgPool2d computes on maps [..., H, W]."""
    wanted = pool.output_size if isinstance(pool.output_size, tuple) else (pool.output_size,) * 2
    given = (int(maps.shape[-2]), int(maps.shape[-1]))
    high, wide = (side if want is None else want for want, side in zip(wanted, given, strict=True))
    if given[0] % high == 0 and given[1] % wide == 0:
        return nn.functional.adaptive_avg_pool2d(maps, (high, wide))
    rows, columns = _averages(given[0], high), _averages(given[1], wide)
    return rows.to(maps) @ maps @ columns.to(maps).T


def _averages(given: int, wanted: int) -> Tensor:
    """[wanted, given]: row i is the mean over the cells floor(i g / w) up to ceil((i + 1) g / w)."""
    matrix = torch.zeros(wanted, given)
    for i in range(wanted):
        start, end = i * given // wanted, -((-(i + 1) * given) // wanted)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


@contextlib.contextmanager
def eager_attention(module: Any) -> Iterator[None]:
    """Inside, a transformers module computes attention in plain operators, which export everywhere."""
    set_attention = getattr(module, "set_attn_implementation", None)
    if set_attention is None:
        yield
        return
    before = module.config._attn_implementation
    set_attention("eager")
    try:
        yield
    finally:
        set_attention(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what the exporters print: thousands of lines when one fails. The reason is in the exception."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            _stdout_of_cpp_swallowed(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _stdout_of_cpp_swallowed() -> Iterator[None]:
    """TorchScript's exporter prints whole graphs from C++ where it fails, past sys.stdout."""
    sys.stdout.flush()
    try:
        kept = os.dup(STDOUT)
    except OSError:  # closed: nothing to swallow
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDOUT)
    try:
        yield
    finally:
        os.dup2(kept, STDOUT)
        os.close(nowhere)
        os.close(kept)
