"""Public tests for adapters: `class TestMine(zoo.testing.ModelContract): case = zoo.testing.Case(...)`.

`zoo.testing.toy` is a complete adapter in numpy to read and to test with. Names load when asked for, so that
the toy needs no pytest.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.testing.contract import ModelContract as ModelContract
    from zoo.testing.helpers import Case as Case
    from zoo.testing.toy import ToyAdapter as ToyAdapter
    from zoo.testing.toy import ToyEngine as ToyEngine

_WHERE = {"Case": "helpers", "ModelContract": "contract", "ToyEngine": "toy", "ToyAdapter": "toy"}
__all__ = ["Case", "ModelContract", "ToyAdapter", "ToyEngine"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if "pytest" in sys.modules and "zoo.testing.contract" not in sys.modules:
        # so that a failing contract shows the values that it compared
        sys.modules["pytest"].register_assert_rewrite("zoo.testing.contract", "zoo.testing.training_contract")
    return getattr(importlib.import_module(f"zoo.testing.{_WHERE[name]}"), name)
