"""torch computes on one thread while a test of small networks runs: a second gains nothing, and on a busy machine
waits for the first many times as long as it works. Imported by the conftest.py of torch's and hf's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
