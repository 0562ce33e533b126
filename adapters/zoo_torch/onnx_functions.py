"""torch's functions for which TorchScript's exporter has no operator, or a wrong one, in ones that it has.

To add one: a function of (torch's own, *arguments as torch's own), and its row in FORMS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class plain_functions(TorchFunctionMode):  # noqa: N801 - used as a context manager
    """Inside, the functions of FORMS compute as their forms do."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        form = FORMS.get(func)
        return func(*args, **(kwargs or {})) if form is None else form(func, *args, **(kwargs or {}))


def _dim_from_the_front(
    own: Callable[..., Tensor], x: Tensor, repeats: Any, dim: int | None = None, **options: Any
) -> Tensor:
    """The exporter adds the rank to a negative dim in place (`dim += len(input_sizes)` in symbolic_opset13), so that
    every -1 of the graph that shares the constant becomes that number.
    """
    return own(x, repeats, dim=dim + x.ndim if dim is not None and dim < 0 else dim, **options)


def _windows(own: Callable[..., Tensor], x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Tensor.unfold as a gather: the exporter asks for a size that it does not know once the batch is dynamic."""
    dim = dimension % x.ndim
    count = (int(x.shape[dim]) - size) // step + 1
    rows = torch.arange(count, device=x.device)[:, None] * step + torch.arange(size, device=x.device)
    return x.index_select(dim, rows.flatten()).unflatten(dim, (count, size)).movedim(dim + 1, -1)


def _rms_norm(
    own: Callable[..., Tensor],
    input: Tensor,  # noqa: A002 - torch's own name
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Zhang and Sennrich 2019: x over the root of its mean square. ONNX has it as an operator from opset 23 on."""
    dims = tuple(range(-len(normalized_shape), 0))
    mean = input.square().mean(dims, keepdim=True)
    found = input * torch.rsqrt(mean + (torch.finfo(input.dtype).eps if eps is None else eps))
    return found if weight is None else found * weight


FORMS: Mapping[Any, Callable[..., Tensor]] = {
    torch.Tensor.repeat_interleave: _dim_from_the_front,
    torch.repeat_interleave: _dim_from_the_front,
    torch.Tensor.unfold: _windows,
    torch.rms_norm: _rms_norm,
    nn.functional.rms_norm: _rms_norm,
}
