"""The data owner's ledger: what was released to one peer of one table, over all runs, never rolled back.

An append-only file of totals, one JSON object a line, flushed to disk before an answer leaves. Imported by
the data owner's side.
"""

import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path

from moiety.errors import CheckpointCorruptError, ConfigError
from moiety.files import read, sync_folder
from moiety.policy import Totals


class Ledger:
    """The data owner's totals for one peer on one table, over all runs: never rolled back.

    Args:
        path: the file; one JSON object a line. Locked while it is open, so that two processes cannot
            both spend what is left.

    Raises:
        ConfigError: another process has it open.
        CheckpointCorruptError: it cannot be opened, or a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise CheckpointCorruptError(
                f"{path} cannot be opened: {error.strerror}",
                hint="the ledger must be a file that this user can write",
            ) from error
        try:
            self._lock()
            sync_folder(path.parent)
            self._written = self.totals()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another process is answering this peer on this table ({self._path} is locked)",
                hint="one process counts what leaves; stop the other one first",
            ) from error

    def close(self) -> None:
        """Let another process count."""
        self._file.close()

    def totals(self) -> Totals:
        """Return the largest totals on record.

        Raises:
            CheckpointCorruptError: a line is not a record; a file that was cut short fails closed.
        """
        # A line cut before its end of line would run into the next record: it counts as damaged.
        lines = read(self._path).decode(errors="replace").splitlines(keepends=True)
        try:
            records = [_totals(line) for line in lines]
        except (ValueError, TypeError, RecursionError) as error:
            raise CheckpointCorruptError(
                f"{self._path} has a damaged line",
                hint="remove the damaged line if it is the last; it records released values",
            ) from error
        return Totals(
            released_z_per_row=max((each.released_z_per_row for each in records), default=0),
            predictions=max((each.predictions for each in records), default=0),
        )

    def record(self, totals: Totals) -> None:
        """Append totals if they grew, and wait until they are on disk."""
        if totals == self._written:
            return
        self._file.write(json.dumps(asdict(totals)) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._written = totals


def _totals(line: str) -> Totals:
    totals = Totals(**json.loads(line))
    counts = (totals.released_z_per_row, totals.predictions)
    if not line.endswith("\n") or any(type(count) is not int or count < 0 for count in counts):
        raise ValueError("not a record of totals")
    return totals
