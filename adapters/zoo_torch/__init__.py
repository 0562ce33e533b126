"""PyTorch backbones: torchvision classifiers, BERT, and somebody's own nn.Module.

Importing this package, before torch, applies the one guard that must come first: with TensorFlow already in
the process, torch's triton aborts the interpreter when it is loaded second ("LLVM ERROR: inconsistency in
registered CommandLine options"). So triton is hidden then; torch does without it everywhere we use it.
"""

from __future__ import annotations

import sys
import warnings


def guard_triton() -> bool:
    """Hide triton where TensorFlow was imported first; returns whether it was hidden."""
    if "tensorflow" not in sys.modules or "triton" in sys.modules:
        return False
    sys.modules["triton"] = None  # type: ignore[assignment]  # `import triton` now raises ImportError
    warnings.warn(
        "TensorFlow was imported before PyTorch: triton is hidden in this process, because the two abort "
        "each other. torch.compile will not work here; import torch first, or use a process for each.",
        RuntimeWarning,
        stacklevel=3,
    )
    return True


guard_triton()
