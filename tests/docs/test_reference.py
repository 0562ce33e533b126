"""The API reference is made from the docstrings: it builds, and no public name is without one."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from docs_desk import ROOT

import zoo


def test_the_reference_builds(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "scripts" / "reference.py", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    page = (tmp_path / "zoo.html").read_text(encoding="utf-8")
    for name in zoo.__all__:
        assert f'id="{name}"' in page or f"zoo/{name}.html" in page, f"{name} is not in the reference"


@pytest.mark.parametrize("name", zoo.__all__)
def test_a_public_name_says_what_it_does(name: str) -> None:
    value = getattr(zoo, name)
    assert inspect.getdoc(value), f"zoo.{name} has no docstring"
    if inspect.isclass(value) and value.__module__.startswith("zoo."):
        for method, member in vars(value).items():
            if not method.startswith("_") and callable(member):
                assert inspect.getdoc(member), f"zoo.{name}.{method} has no docstring"
