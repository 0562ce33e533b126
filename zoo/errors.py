"""Every error that Backbone Zoo raises on purpose, so that a caller can catch the kind they can mend.

    ZooError                        exit code   what happened
    ├── InputError                      2       what was asked for cannot be: a name, an option, a unit
    │   ├── UnknownModelError                   no such model, framework or tag (near names are suggested)
    │   ├── AmbiguousModelError                 several frameworks have that name
    │   ├── DataError                           the data set cannot be used
    │   │   └── BadFilesError                   files in it are no images or cannot be read; lists all of them
    │   ├── HeadMissingError                    predict on a model whose checkpoint holds no head
    │   └── ModelFileError                      a saved run or an ONNX file that is not what it should be
    ├── NothingFitsError                3       no candidate is within the budget
    ├── FrameworkError                  4       a framework cannot be used here
    │   ├── FrameworkMissingError               not installed: says what to install
    │   └── FrameworkBrokenError                installed, and its import fails: says the cause
    ├── WeightsError                    5       pretrained weights
    │   ├── WeightsUnavailableError             cannot be reached: names file, URL and mirror
    │   ├── WeightsCorruptError                 truncated, tampered with, or of another network
    │   └── UnsafeWeightsError                  loading them could run code (a pickle)
    ├── ExportError                     6       no exporter gave a file that ONNX Runtime takes
    │   └── ExportMismatchError                 the file computes something else than the model
    ├── TrainingError                   7       training stopped
    │   └── DivergedError                       the loss is NaN or infinite; the last good checkpoint is kept
    ├── StorageError                    8       a file could not be written; nothing half-written stays
    └── WorkerError                     9       a worker process crashed, hung or was killed

Each message says what happened, why, and what to do. None subclasses KeyError: its `str` quotes the message.
"""

from __future__ import annotations

from collections.abc import Sequence


class ZooError(Exception):
    """Root of the tree. `exit_code` is what the `zoo` command exits with."""

    exit_code = 1


class InputError(ZooError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class UnknownModelError(InputError):
    """No such model, framework or weights tag. `near` holds the closest names that exist."""

    def __init__(self, message: str, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.near = tuple(near)


class AmbiguousModelError(InputError):
    """Several frameworks have that name. `ids` lists them."""

    def __init__(self, message: str, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class DataError(InputError):
    """The data set cannot be used as it is."""


class BadFilesError(DataError):
    """Files of a data set that cannot be read. `files` holds (path, reason) for all of them."""

    def __init__(self, message: str, files: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.files = tuple(files)


class HeadMissingError(InputError):
    """The checkpoint holds no classification head: `replace_head` makes one."""


class ModelFileError(InputError):
    """A saved run or an ONNX file that is not what it should be."""


class NothingFitsError(ZooError):
    """No candidate is within the budget. `limit` is the one that binds, `nearest` the closest candidate."""

    exit_code = 3

    def __init__(self, message: str, *, limit: str = "", nearest: str = "") -> None:
        super().__init__(message)
        self.limit, self.nearest = limit, nearest


class FrameworkError(ZooError):
    """A framework cannot be used on this machine."""

    exit_code = 4


class FrameworkMissingError(FrameworkError):
    """Not installed; the message says which extra installs it."""


class FrameworkBrokenError(FrameworkError):
    """Installed, but importing it fails; the cause is kept as `__cause__` and named in the message."""


class WeightsError(ZooError):
    """Pretrained weights cannot be used."""

    exit_code = 5


class WeightsUnavailableError(WeightsError):
    """Weights that cannot be reached; the message names the file, the URL and the mirror."""


class WeightsCorruptError(WeightsError):
    """Weights that are truncated, tampered with, or belong to another network."""


class UnsafeWeightsError(WeightsError):
    """Weights whose loading could run code. They were not loaded."""


class ExportError(ZooError):
    """No exporter produced a file that onnx.checker and ONNX Runtime accept."""

    exit_code = 6


class ExportMismatchError(ExportError):
    """The exported file computes something else than the model; the message carries the figures."""


class TrainingError(ZooError):
    """Training could not go on."""

    exit_code = 7


class DivergedError(TrainingError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


class StorageError(ZooError):
    """A file could not be written (disk full, no permission); nothing half-written stays."""

    exit_code = 8


class WorkerError(ZooError):
    """A worker process crashed, hung or was killed."""

    exit_code = 9
