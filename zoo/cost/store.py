"""Every figure that was ever measured here, in one SQLite file: what a later run may stand beside, and a history.

A row is a Cost with what it was measured under: the artefact's sha256, the machine, the settings, and the latency of
a reference model in the same session (`zoo.cost.kept`). Rows are never changed. The file is $ZOO_CACHE/costs.sqlite;
several processes may write it at once (SQLite's own locks, one short transaction a row). A damaged file is moved
aside, and said; where the folder cannot be written figures are not kept, and that is said too: a measurement never
fails for want of its record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from zoo import cache
from zoo.cards import Cost, fingerprint
from zoo.errors import StorageError
from zoo.files import cache_dir

FILE = "costs.sqlite"
VERSION = 1
"""SQLite's user_version. A file of a newer version is left alone."""
MOST_ROWS = 20_000
"""About 40 MB; then the oldest go."""
BUSY_S = 10.0
STABLE = ("cpu", "cores", "platform", "onnxruntime", "provider", "governor")
"""What of a machine's description makes it another machine; its load is the reference model's business."""
T = TypeVar("T")
_TABLE = """
CREATE TABLE costs (
  number INTEGER PRIMARY KEY,
  measured_at TEXT NOT NULL,
  id TEXT NOT NULL,
  sha256 TEXT,
  machine TEXT NOT NULL,
  batch_size INTEGER NOT NULL,
  threads INTEGER NOT NULL,
  asked_length INTEGER NOT NULL,
  length INTEGER,
  min_seconds REAL NOT NULL,
  other TEXT NOT NULL,
  reference_ms REAL,
  sound INTEGER NOT NULL,
  cost TEXT NOT NULL
)
"""
_COLUMNS = (
    "measured_at, id, sha256, machine, batch_size, threads, asked_length, length, min_seconds, other, "
    "reference_ms, sound, cost"
)


@dataclass(frozen=True)
class Settings:
    """What a figure depends on beside the artefact and the batch size.

    threads: of each session.  sequence_length: tokens that were asked for (a file may take fewer, or none).
    min_seconds: timed for each; a figure of a longer measurement stands in for a shorter one, not the other way.
    machine: as `zoo.cost.machine` tells it, provider and ONNX Runtime's version among its entries.
    other: whatever else changes a figure (inputs that were given by hand), as text.
    """

    threads: int
    sequence_length: int
    min_seconds: float
    machine: Mapping[str, str]
    other: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """A figure from the file, the number-th. reference_ms: the reference model's p50 at that batch in that session."""

    number: int
    cost: Cost
    reference_ms: float | None


def machine_key(machine: Mapping[str, str]) -> str:
    """Twelve hex digits: the same for two descriptions of one machine as it is set up now."""
    return fingerprint({name: machine.get(name, "") for name in STABLE})


# --- what is kept
class Store:
    """The file. None of its methods raises for a file that cannot be read or written, but `history` does."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_dir() / FILE if path is None else path
        self._off = False  # said once, and no more is tried

    @staticmethod
    def sound(cost: Cost) -> bool:
        """Whether a figure may stand beside others later: without an error, and not from too noisy a machine."""
        return cost.error is None and cost.warning is None

    def put(self, cost: Cost, settings: Settings, *, reference_ms: float | None) -> None:
        """Keep a figure, or why there is none. Warns where that cannot be."""
        other = json.dumps(dict(settings.other), sort_keys=True)
        row = (
            cost.measured_at or "", cost.id, cost.sha256, machine_key(cost.machine), cost.batch_size, cost.threads,
            settings.sequence_length, cost.sequence_length, settings.min_seconds, other, reference_ms, self.sound(cost),
            json.dumps(dataclasses.asdict(cost)),
        )  # fmt: skip
        self._used(functools.partial(_insert, row=row), None)

    def find(self, sha256: str, batch_size: int, settings: Settings) -> list[Kept]:
        """Sound figures of this artefact under these settings that have a reference, the latest first.

        Where the artefact takes no sequence any length asked for will do.
        """
        query = (
            "SELECT number, cost, reference_ms FROM costs WHERE sha256 = ? AND machine = ? AND batch_size = ? "
            "AND threads = ? AND (asked_length = ? OR length IS NULL) AND min_seconds >= ? AND other = ? "
            "AND sound AND reference_ms IS NOT NULL ORDER BY measured_at DESC, number DESC"
        )
        values = (
            sha256, machine_key(settings.machine), batch_size, settings.threads, settings.sequence_length,
            settings.min_seconds, json.dumps(dict(settings.other), sort_keys=True),
        )  # fmt: skip
        return self._used(functools.partial(_select, query=query, values=values), [])

    def history(self, *, id: str = "", sha256: str | None = None) -> list[Kept]:  # noqa: A002 - the field's name
        """All that was measured of a model, by its id or its file's digest, the earliest first.

        Raises StorageError for a file of a newer version.
        """
        query = (
            "SELECT number, cost, reference_ms FROM costs WHERE id = ? OR (sha256 = ? AND sha256 IS NOT NULL) "
            "ORDER BY measured_at, number"
        )
        return self._used(functools.partial(_select, query=query, values=(id, sha256)), [], strict=True)

    def latest(self, machine: Mapping[str, str], *, threads: int) -> list[Kept]:
        """Sound figures at batch 1 of this machine with that many threads, the latest first."""
        query = (
            "SELECT number, cost, reference_ms FROM costs WHERE machine = ? AND threads = ? AND batch_size = 1 "
            "AND sound ORDER BY measured_at DESC, number DESC"
        )
        values = (machine_key(machine), threads)
        return self._used(functools.partial(_select, query=query, values=values), [])

    def ids(self) -> list[str]:
        """Every id with a figure."""
        return self._used(
            lambda connection: [row[0] for row in connection.execute("SELECT DISTINCT id FROM costs")], []
        )

    # --- the file
    def _used(self, work: Callable[[sqlite3.Connection], T], otherwise: T, *, strict: bool = False) -> T:
        """`work` on the open file; `otherwise` where it cannot be used, with a warning. strict: an error then."""
        if self._off:
            return otherwise
        try:
            return self._tried(work)
        except sqlite3.DatabaseError as error:
            problem: Exception = StorageError(f"{self.path} cannot be used: {error}.")
            if _damaged(error):
                try:
                    self._aside(str(error))
                    return self._tried(work)
                except (OSError, Timeout, sqlite3.DatabaseError, StorageError) as again:
                    problem = StorageError(f"{self.path} is damaged and cannot be replaced: {again}.")
        except (OSError, StorageError) as error:
            problem = error
        if strict:
            raise StorageError(str(problem)) from problem
        self._off = True
        warnings.warn(f"figures are not kept: {problem} Everything is measured, as ever.", stacklevel=4)
        return otherwise

    def _tried(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with _opened(self.path) as connection:
            return work(connection)

    def _aside(self, reason: str) -> None:
        """Move a damaged file away; of several processes that find it, the first does."""
        with FileLock(f"{self.path}.lock", timeout=BUSY_S):
            with contextlib.suppress(sqlite3.DatabaseError), _opened(self.path) as connection:
                if connection.execute("PRAGMA quick_check").fetchone() == ("ok",):
                    return  # another process was here first
            target = _free(self.path.with_name(f"{self.path.stem}.broken{self.path.suffix}"))
            self.path.rename(target)
            journal = Path(f"{self.path}-journal")
            journal.unlink(missing_ok=True)  # of the file that went: it must not be played into the new one
        warnings.warn(
            f"the record of earlier figures was damaged ({reason}): it is now {target}, and a new one is begun.",
            stacklevel=6,
        )


def _free(path: Path) -> Path:
    """`path`, or the next of its name with a number that is not taken."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def _damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault. A lock, a full disk and missing rights are OperationalErrors."""
    return not isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, made where it is not there. Raises OSError, sqlite3.DatabaseError, StorageError (newer version)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StorageError(
                f"{path} was written by a newer Backbone Zoo (its version is {version}, this one reads {VERSION}): "
                "update this one, or set ZOO_CACHE to another folder."
            )
        if version < VERSION:
            _create(connection)
        yield connection
    finally:
        connection.close()


def _create(connection: sqlite3.Connection) -> None:
    """Make the table, unless another process has just done so. Raises DatabaseError for somebody else's file."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < VERSION:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise sqlite3.DatabaseError("its tables are not ours")
        connection.execute(_TABLE)
        connection.execute("CREATE INDEX artefacts ON costs (sha256, machine)")
        connection.execute("CREATE INDEX names ON costs (id)")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, row: Sequence[Any]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    marks = ", ".join("?" for _ in row)
    connection.execute(f"INSERT INTO costs ({_COLUMNS}) VALUES ({marks})", row)
    connection.execute("DELETE FROM costs WHERE number <= (SELECT max(number) FROM costs) - ?", (MOST_ROWS,))
    connection.execute("COMMIT")


def _select(connection: sqlite3.Connection, query: str, values: Sequence[Any]) -> list[Kept]:
    """Rows as Kept; one that a future field or a fault made unreadable is left out."""
    found = []
    for number, text, reference in connection.execute(query, values):
        with contextlib.suppress(ValueError, TypeError):
            found.append(Kept(number, cost_of(json.loads(text)), reference))
    return found


def cost_of(values: Mapping[str, Any]) -> Cost:
    """A Cost from its JSON form. Raises TypeError for a field that there is not."""
    read: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Cost(**read)


def wanted() -> bool:
    """Whether figures are to be kept: not where $ZOO_CACHE_LIMIT is 0. Raises InputError for what is no size."""
    return cache.limit() > 0


def now() -> str:
    """UTC, ISO 8601, to the second: as `Cost.measured_at` says it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
