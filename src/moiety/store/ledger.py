"""The data owner's ledger: what was released to one peer of one table, over all runs, never rolled back.

An append-only file of totals, one JSON object a line, flushed to disk before an answer leaves:

    {"at": "2026-11-25T20:30:00+00:00", "run": "credit-2026", "released_z_per_row": 64, "predictions": 0,
     "steps": 128, "runs": 1}

What counts is the largest value of each total over all lines, so neither order nor repetition matters; `at`
and `run` are for the reader. Imported by the data owner's side. Reference: docs/adr/0008, docs/adr/0021.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from moiety.config import Totals
from moiety.errors import CheckpointCorruptError, CheckpointError, ConfigError
from moiety.store.files import read, sync_folder

_NOTES: Final = ("at", "run")
_READS: Final = 3
"""A reader without the lock may meet a line that is being written: it looks again."""


@dataclass(frozen=True, kw_only=True)
class Entries:
    """What a ledger says.

    Args:
        totals: the largest of each.
        lines: how many records there are.
        at: when the last one was written; empty if unknown.
        run: for which run.
    """

    totals: Totals
    lines: int
    at: str = ""
    run: str = ""


class Ledger:
    """The totals for one peer on one table, open for counting.

    Args:
        path: the file. Locked while it is open, so that two processes cannot both spend what is left.

    Raises:
        ConfigError: another process has it open.
        CheckpointCorruptError: it cannot be opened, or a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise CheckpointCorruptError(
                f"{path} cannot be opened: {error.strerror}",
                hint="make it a file that this user can write",
            ) from error
        try:
            self._lock()
            sync_folder(path.parent)
            self._written = self.totals()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another process is answering this peer on this table ({self._path} is locked)",
                hint="stop the other one first: one process counts what leaves",
            ) from error

    def close(self) -> None:
        """Let another process count."""
        os.close(self._descriptor)

    def totals(self) -> Totals:
        """Return the largest totals on record.

        Raises:
            CheckpointCorruptError: a line is not a record; a file that was cut short fails closed.
        """
        return _entries(self._path, read(self._path)).totals

    def record(self, totals: Totals, *, run: str = "") -> None:
        """Append totals if they grew, and wait until they are on disk.

        Args:
            totals: of everything that was or is about to be released.
            run: the run's name, for whoever reads the file.

        Raises:
            CheckpointError: they cannot be written, so nothing may leave.
        """
        if totals == self._written:
            return
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._append((json.dumps({"at": at, "run": run, **totals.model_dump()}) + "\n").encode())
        self._written = totals

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written == len(line):
                os.fsync(self._descriptor)
                return
            os.ftruncate(self._descriptor, size)  # half a line would count as damage
        except OSError as error:
            raise _unwritable(self._path, error.strerror or "") from error
        raise _unwritable(self._path, "the disk is full")


def read_ledger(path: Path) -> Entries:
    """Read a ledger without its lock, also while another process counts; none is an empty one.

    Raises:
        CheckpointCorruptError: it cannot be read, or a line is damaged.
    """
    for _ in range(_READS - 1):
        data = read(path) if path.exists() else b""
        if not data or data.endswith(b"\n"):
            break
    return _entries(path, read(path) if path.exists() else b"")


def _unwritable(path: Path, reason: str) -> CheckpointError:
    hint = "make room: what is not recorded does not leave"
    return CheckpointError(f"{path} cannot be written: {reason}", hint=hint)


def _entries(path: Path, data: bytes) -> Entries:
    # A line cut before its end of line would run into the next record: it counts as damaged.
    lines = data.decode(errors="replace").splitlines(keepends=True)
    try:
        records = [_record(line) for line in lines]
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointCorruptError(
            f"{path} has a damaged line",
            hint="remove the damaged line if it is the last; it records released values",
        ) from error
    last: dict[str, str] = records[-1][1] if records else {}
    return Entries(totals=_largest(totals for totals, _ in records), lines=len(records), **last)


def _largest(records: Iterable[Totals]) -> Totals:
    known = list(records)
    names = Totals.model_fields
    return Totals(**{name: max((getattr(each, name) for each in known), default=0) for name in names})


def _record(line: str) -> tuple[Totals, dict[str, str]]:
    values: dict[str, Any] = dict(**json.loads(line))
    notes: dict[str, Any] = {str(name): values.pop(name) for name in _NOTES if name in values}
    totals = Totals(**values)
    if not line.endswith("\n") or not all(
        isinstance(note, str) and note.isprintable() for note in notes.values()
    ):
        raise ValueError("not a record of totals")
    return totals, notes
