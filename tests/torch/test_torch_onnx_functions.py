"""Forms in which torch's functions are exported: equal to torch's own, and right in ONNX Runtime at another batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from zoo_torch.onnx_functions import FORMS, plain_functions

GAIN = torch.linspace(0.5, 1.5, 5)
CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "unfold": lambda x: x.unfold(2, 4, 3).unfold(3, 3, 2),
    "unfold from the end": lambda x: x.unfold(-1, 3, 1),
    "rms_norm": lambda x: nn.functional.rms_norm(x[..., :5], (5,), GAIN, 1e-6),
    "rms_norm over two axes": lambda x: torch.rms_norm(x, list(x.shape[-2:])),
    "RMSNorm": nn.Sequential(nn.AvgPool2d((1, 2)), nn.RMSNorm(4)),
    "repeat_interleave": lambda x: (
        x.repeat_interleave(2, dim=-1) + x.repeat_interleave(2, -1).mean(-1, keepdim=True)
    ),
}


class Network(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def images(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(count).standard_normal((count, 2, 10, 9), dtype=np.float32))


@pytest.mark.parametrize("name", CASES)
def test_forms_are_torchs_own(name: str) -> None:
    x = images(3)
    right = CASES[name](x)
    with plain_functions():
        found = CASES[name](x)
    torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_forms_export_for_any_batch(name: str, tmp_path: Path) -> None:
    """Traced with two images, run with three."""
    network, path = Network(CASES[name]).eval(), tmp_path / "m.onnx"
    with plain_functions():
        torch.onnx.export(
            network, (images(2),), str(path), dynamo=False, opset_version=18, input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        right = network(images(3)).numpy()
    np.testing.assert_allclose(session.run(None, {"x": images(3).numpy()})[0], right, rtol=1e-5, atol=1e-5)


def test_every_form_is_tried() -> None:
    tried: set[object] = set()
    own = dict(FORMS)

    class Noting(plain_functions):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            tried.add(func)
            return super().__torch_function__(func, types, args, kwargs)

    with Noting():
        for function in CASES.values():
            function(images(2))
        torch.repeat_interleave(images(2), 2, dim=-1)
    assert set(own) <= tried, [getattr(f, "__name__", f) for f in set(own) - tried]
