"""What transformers computes in ways that no graph holds, in forms that one can hold.

Recurrences over the tokens are Python loops there (or chunks whose number is a Python number), which a trace
unrolls for the length that it saw. Here each is a compiled function, which TorchScript's exporter turns into an
ONNX Loop: transformers' own reference, step by step, from a state of zeros. And complex numbers are pairs here:
ONNX has no complex products.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def graph_forms(module: nn.Module) -> Iterator[None]:
    """Inside, the module's recurrences are loops of the graph, its rotations real."""
    homes = {type(part).__module__ for part in module.modules()}
    with contextlib.ExitStack() as stack:
        for home in (sys.modules[name] for name in homes if name.startswith("transformers.")):
            forms = {**LOOPS, **(ROTATIONS if home.__name__.endswith(COMPLEX) else {})}
            for name, form in forms.items():
                if (own := getattr(home, name, None)) is not None:
                    setattr(home, name, form)
                    stack.callback(setattr, home, name, own)
            if home.__name__.endswith(COMPLEX):
                stack.enter_context(_PolarAsPairs())
        yield


# --- Gu and Dao 2023, Mamba's selective state space
def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    **_: Any,
) -> Tensor:
    """hidden_states, dt, z [N, D, L]; A [D, S]; B, C [N, S, L]; D, delta_bias [D]; gives [N, D, L].

    The arguments' names are transformers' own (mamba_selective_scan).
    """
    dt = dt if delta_bias is None else dt + delta_bias[..., None]
    dt = nn.functional.softplus(dt) if delta_softplus else dt
    decay = torch.exp(A[None, :, None, :] * dt[..., None])
    drive = dt[..., None] * B.transpose(1, 2)[:, None] * hidden_states[..., None]
    found: Tensor = _compiled(_selective)(decay, drive, C.transpose(1, 2))
    found = found if D is None else found + hidden_states * D[None, :, None]
    return found if z is None else found * nn.functional.silu(z)


def _selective(decay: Tensor, drive: Tensor, read: Tensor) -> Tensor:
    state = torch.zeros_like(drive[:, :, 0])
    found: list[Tensor] = []
    for i in range(drive.shape[2]):
        state = decay[:, :, i] * state + drive[:, :, i]
        found.append((state * read[:, i].unsqueeze(1)).sum(-1))
    return torch.stack(found, dim=-1)


# --- Dao and Gu 2024, Mamba 2: one decay a head
def scan_of_heads(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int = 0,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    **_: Any,
) -> Tensor:
    """hidden_states [N, L, H, P]; dt [N, L, H]; A, D, dt_bias [H]; B, C [N, L, groups, S]; gives [N, L, H, P].

    The arguments' names are transformers' own (mamba2_chunk_scan).
    """
    dt = dt if dt_bias is None else dt + dt_bias
    dt = nn.functional.softplus(dt) if dt_softplus else dt
    dt = torch.clamp(dt, min=dt_limit[0], max=dt_limit[1])
    times = hidden_states.shape[2] // B.shape[2]
    B, C = (x.repeat_interleave(times, dim=2) if times > 1 else x for x in (B, C))
    found: Tensor = _compiled(_heads)(torch.exp(A * dt), hidden_states * dt[..., None], B, C)
    return found if D is None else found + D[..., None] * hidden_states


def _heads(decay: Tensor, drive: Tensor, write: Tensor, read: Tensor) -> Tensor:
    state = drive[:, 0].unsqueeze(-1) * write[:, 0].unsqueeze(-2) * 0.0
    found: list[Tensor] = []
    for i in range(drive.shape[1]):
        state = state * decay[:, i].unsqueeze(-1).unsqueeze(-1)
        state = state + drive[:, i].unsqueeze(-1) * write[:, i].unsqueeze(-2)
        found.append((state * read[:, i].unsqueeze(-2)).sum(-1))
    return torch.stack(found, dim=1)


# --- Yang et al. 2024, the gated delta rule
def gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    use_qk_l2norm_in_kernel: bool = False,
    **_: Any,
) -> tuple[Tensor, None]:
    """query, key [N, L, H, K]; value [N, L, V's heads, V]; g (log of the decay), beta [N, L, V's heads].

    Gives (the shape of value, no state). The arguments' names are transformers' own
    (torch_chunk_gated_delta_rule).
    """
    times = value.shape[2] // key.shape[2]
    query, key = (x.repeat_interleave(times, dim=2) if times > 1 else x for x in (query, key))
    if use_qk_l2norm_in_kernel:
        query, key = (x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (query, key))
    query = query * key.shape[-1] ** -0.5
    found: Tensor = _compiled(_delta)(query, key, value, g.exp(), beta)
    return found, None


def _delta(query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
    state = key[:, 0].unsqueeze(-1) * value[:, 0].unsqueeze(-2) * 0.0
    found: list[Tensor] = []
    for i in range(key.shape[1]):
        state = state * decay[:, i].unsqueeze(-1).unsqueeze(-1)
        known = (state * key[:, i].unsqueeze(-1)).sum(-2)
        change = (value[:, i] - known) * beta[:, i].unsqueeze(-1)
        state = state + key[:, i].unsqueeze(-1) * change.unsqueeze(-2)
        found.append((state * query[:, i].unsqueeze(-1)).sum(-2))
    return torch.stack(found, dim=1)


@functools.cache
def _compiled(function: Callable[..., Tensor]) -> Any:
    return torch.jit.script(function)


# --- Su et al. 2021: rotary positions, which some write as complex numbers
class _PolarAsPairs(TorchFunctionMode):
    """Inside, torch.polar gives (real, imaginary) on a last axis of 2."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.polar:
            return func(*args, **(kwargs or {}))
        length, angle = args
        return torch.stack([length * angle.cos(), length * angle.sin()], dim=-1)


def rotate(xq: Tensor, xk: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
    """xq, xk [N, H, L, D] with neighbours as real and imaginary part; freqs_cis [N, L, D / 2, 2], both turned."""
    return _rotated(xq, freqs_cis[:, None]), _rotated(xk, freqs_cis[:, None])


def _rotated(x: Tensor, turn: Tensor) -> Tensor:
    real, imaginary = x[..., 0::2], x[..., 1::2]
    cos, sin = turn[..., 0], turn[..., 1]
    return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1).flatten(3)


COMPLEX = "modeling_deepseek_v2"
ROTATIONS = {"apply_rotary_emb": rotate}
LOOPS = {
    "mamba_selective_scan": selective_scan,
    "mamba2_chunk_scan": scan_of_heads,
    "torch_chunk_gated_delta_rule": gated_delta_rule,
}
