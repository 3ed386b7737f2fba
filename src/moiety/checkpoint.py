"""What a run saves: arrays as safetensors, facts as JSON, each with a digest, written atomically.

`model.json` names the model, holds the SHA-256 of `model.safetensors` and its own; the two are replaced by
rename after fsync, so that a crash leaves the old or the new pair, or a pair that is seen not to belong
together. Also the data owner's ledger: an append-only file of totals, flushed to disk before an answer
leaves. No code is ever loaded. HE keys and masks never come here.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from moiety.errors import CheckpointCorruptError, CheckpointError, ConfigError
from moiety.files import Arrays, Facts, digest, read, replace, sync_folder
from moiety.policy import Totals

__all__ = [
    "VERSION",
    "Arrays",
    "Facts",
    "Ledger",
    "load_model",
    "save_model",
]

VERSION: Final = 1
_ARRAYS: Final = "model.safetensors"
_FACTS: Final = "model.json"


def save_model(folder: Path, *, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write one side's half of a model, readable by its owner only.

    Args:
        folder: the run's folder; made if missing.
        arrays: shares and network weights.
        facts: plain JSON values.

    Raises:
        CheckpointError: the folder cannot be written to.
    """
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    complete = {**facts, "version": VERSION, "sha256": sha256(data).hexdigest()}
    complete["digest"] = digest(complete)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / _ARRAYS, data)
        replace(folder / _FACTS, json.dumps(complete, indent=1, sort_keys=True).encode())
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be written: {error.strerror}",
            hint="make room, or give this user the right to write there; then train again",
        ) from error


def load_model(folder: Path) -> tuple[Arrays, Facts]:
    """Read one side's half of a model back and check its digests.

    Raises:
        CheckpointCorruptError: missing, damaged, or of another version.
    """
    facts = _load_facts(folder / _FACTS)
    data = read(folder / _ARRAYS)
    if sha256(data).hexdigest() != facts.get("sha256"):
        raise CheckpointCorruptError(
            f"{folder / _ARRAYS} does not match its digest",
            hint="restore the folder from a backup, or train again",
        )
    try:
        return load(data), facts
    except SafetensorError as error:
        raise CheckpointCorruptError(f"{folder / _ARRAYS} is not a safetensors file") from error


def _load_facts(path: Path) -> Facts:
    try:
        facts = json.loads(read(path))
    except ValueError as error:
        raise CheckpointCorruptError(f"{path} is not JSON") from error
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise CheckpointCorruptError(f"{path} is not a model of version {VERSION}")
    stated = facts.pop("digest", None)
    if stated != digest(facts):
        raise CheckpointCorruptError(
            f"{path} does not match its digest",
            hint="restore the folder from a backup, or train again",
        )
    return facts


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
        except (ValueError, TypeError) as error:
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
