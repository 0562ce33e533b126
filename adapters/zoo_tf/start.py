"""The one place that imports TensorFlow and Keras: what must come before, and without their chatter.

triton's library, loaded after TensorFlow's, aborts the interpreter at torch's first optimizer ("LLVM ERROR:
inconsistency in registered CommandLine options"); loaded before it, both train in one process. So it comes
first where it is installed. Every module of this adapter takes `tf` and `keras` from here.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Send file descriptor 2 into a temporary file; gives a function that reads what came so far.

    On the level of the descriptor, because TensorFlow's C++ writes there, past `sys.stderr`.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)

        def read() -> str:
            sys.stderr.flush()
            file.seek(0)
            return file.read().decode("utf-8", errors="replace")

        try:
            yield read
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def _load_triton_first() -> None:
    """Only while it is still first: after TensorFlow it would do the harm that it is to prevent."""
    if "tensorflow" in sys.modules or not _find_triton():
        return
    with contextlib.suppress(ImportError):  # a triton without its library can do no harm
        importlib.import_module("triton._C.libtriton")


def _find_triton() -> bool:
    try:
        return importlib.util.find_spec("triton") is not None
    except ValueError:  # hidden on purpose: sys.modules["triton"] is None
        return False


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
_load_triton_first()
with captured_stderr():
    import keras
    import tensorflow as tf
    from tensorflow.python.framework import config  # a public function sets determinism, none reads it

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"Keras runs on {keras.backend.backend()!r} here (KERAS_BACKEND or ~/.keras/keras.json): "
        "set KERAS_BACKEND=tensorflow"
    )

__all__ = ["captured_stderr", "config", "keras", "tf"]
