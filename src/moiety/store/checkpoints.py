"""A party's checkpoints of its runs: one file each, whole or refused, the last few kept.

    <run's folder>/checkpoints/<run id>.<number>.safetensors     or .safetensors.age

A file holds arrays, and facts as JSON in its header: the mark that names it on both sides, and a SHA-256 over
both. It is written beside, flushed and renamed, so that a crash, a full disk or a lost power line leaves the
ones before. Numbers count up and no clock is read. HE keys, masks and unfinished steps never come here.
Imported by both parties' loops.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from moiety.config import Checkpointing
from moiety.config.listener import Listener
from moiety.errors import CheckpointCorruptError, CheckpointError
from moiety.protocol.resume import Mark
from moiety.store.files import Arrays, Facts, read, replace, sync_folder, writing
from moiety.store.record import seal, unseal
from moiety.store.vault import Vault, passphrase_from

FOLDER: Final = "checkpoints"
_SEALED: Final = ".age"
_NAME: Final = re.compile(r"([0-9a-f]{32})\.(\d{8})\.safetensors(\.age)?")
_HEADER_BYTES: Final = 8
_HEADER_LIMIT: Final = 2**26


@dataclass(frozen=True, kw_only=True)
class Saved:
    """One checkpoint as it was read back.

    Args:
        mark: its name.
        arrays: shares and tensors.
        facts: everything else.
    """

    mark: Mark
    arrays: Arrays
    facts: Facts


class Checkpoints:
    """The checkpoints in one run's folder.

    Args:
        folder: the run's.
        keep: how many of a run stay.
        vault: encrypts them; None leaves them readable by their owner.
        listener: told when one is damaged.
    """

    def __init__(self, folder: Path, *, keep: int, vault: Vault | None = None, listener: Listener) -> None:
        self._folder = folder / FOLDER
        self._keep = keep
        self._vault = vault
        self._listener = listener

    def write(
        self, run: str, mark: Mark, *, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, then drop what is too old.

        Raises:
            CheckpointError: it cannot be written; those before are as they were.
        """
        data = _encode(arrays, {**facts, "run": run, "mark": mark.text})
        number = 1 + max((number for _, number, _ in self._files()), default=0)
        name = f"{run}.{number:08d}.safetensors"
        with writing(self._folder, then="resume with --resume"):
            if self._vault is None:
                replace(self._folder / name, data)
            else:
                replace(self._folder / (name + _SEALED), self._vault.seal(data))
            self._prune(run)

    def newest_run(self) -> str | None:
        """Return the id of the run that the newest checkpoint is of."""
        files = self._files()
        return files[0][0] if files else None

    def saved(self, run: str) -> list[Saved]:
        """Read back a run's checkpoints, newest first; damaged ones are reported and left out."""
        found = []
        for name, _, path in self._files():
            if name != run:
                continue
            try:
                found.append(self._load(path, run))
            except CheckpointError as error:
                self._listener.say(f"{path.name} is left out: {error.message}")
        return found

    def forget(self, run: str) -> None:
        """Remove a run's checkpoints: it is finished."""
        for name, _, path in self._files():
            if name == run:
                path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def forget_others(self, run: str) -> None:
        """Remove the checkpoints of every run but one."""
        for other in {name for name, _, _ in self._files()} - {run}:
            self.forget(other)

    def drop_newer(self, run: str, mark: Mark) -> None:
        """Remove a run's checkpoints that are newer than the one it resumes from: no pair names them."""
        for name, _, path in self._files():
            if name == run:
                try:
                    if self._load(path, run).mark == mark:
                        return
                except CheckpointError:
                    pass
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[str, int, Path]]:
        """List run id, number and path, newest first."""
        if not self._folder.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self._folder.iterdir()]
        found = [(match[1], int(match[2]), path) for match, path in matches if match]
        return sorted(found, key=lambda each: -each[1])

    def _load(self, path: Path, run: str) -> Saved:
        data = read(path)
        if path.name.endswith(_SEALED):
            if self._vault is None:
                raise CheckpointError(
                    "it is encrypted",
                    hint="name its passphrase's variable in checkpoint.passphrase",
                )
            data = self._vault.open(data)
        arrays, facts = _decode(data)
        if facts.get("run") != run:
            raise CheckpointCorruptError("it is of another run")
        return Saved(mark=_mark(facts), arrays=arrays, facts=facts)

    def _prune(self, run: str) -> None:
        """Keep the last of this run, and as many of the newest other run: it may be unfinished."""
        files = self._files()
        other = next((name for name, _, _ in files if name != run), None)
        for wanted in {name for name, _, _ in files}:
            keep = self._keep if wanted in (run, other) else 0
            for _, _, path in [each for each in files if each[0] == wanted][keep:]:
                path.unlink(missing_ok=True)
        sync_folder(self._folder)


def fact(saved: Saved, name: str, kind: type[Any]) -> Any:
    """Return a fact of a checkpoint.

    Raises:
        CheckpointCorruptError: it has none of that name, or of another type.
    """
    value = saved.facts.get(name)
    if not isinstance(value, kind):
        raise CheckpointCorruptError(
            f"a checkpoint holds no {name}", hint="give each party a folder of its own"
        )
    return value


def open_checkpoints(folder: Path, settings: Checkpointing, *, listener: Listener) -> Checkpoints:
    """Return the checkpoints of a run file.

    Raises:
        ConfigError: its passphrase is not in the environment, or the extra `age` is missing.
        CheckpointError: the passphrase is another one than before.
    """
    vault = None
    if settings.passphrase is not None:
        vault = Vault(folder / FOLDER, passphrase_from(settings.passphrase))
    return Checkpoints(folder, keep=settings.keep, vault=vault, listener=listener)


def _encode(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> bytes:
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    complete = seal({**facts, "sha256": arrays_digest(ordered)})
    encoded: bytes = save(ordered, metadata={"facts": json.dumps(complete, sort_keys=True)})
    return encoded


def _decode(data: bytes) -> tuple[Arrays, Facts]:
    try:
        arrays: Arrays = load(data)
        size = int.from_bytes(data[:_HEADER_BYTES], "little")
        if size > _HEADER_LIMIT:
            raise CheckpointCorruptError("its header is larger than any checkpoint's")
        header = json.loads(data[_HEADER_BYTES : _HEADER_BYTES + size])
        record = header["__metadata__"]["facts"]
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointCorruptError("it is not a checkpoint") from error
    facts = unseal(record, name="it")
    if facts.get("sha256") != arrays_digest(arrays):
        raise CheckpointCorruptError("it does not match its digest")
    return arrays, facts


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays with their names, types and shapes, in hexadecimal."""
    running = sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        running.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        running.update(array.data.cast("B") if array.size else b"")
    return running.hexdigest()


def _mark(facts: Facts) -> Mark:
    try:
        updates, _, transcript = str(facts["mark"]).partition("-")
        return Mark(updates=int(updates), transcript=bytes.fromhex(transcript))
    except (KeyError, ValueError) as error:
        raise CheckpointCorruptError("it has no mark") from error
