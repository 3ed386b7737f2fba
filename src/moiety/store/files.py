"""Files that survive a crash: written beside, flushed, then renamed; digests; readable by their owner only.

Imported by the modules of this package.
"""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from moiety.errors import CheckpointCorruptError

Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]

SIZE_LIMIT: Final = 2**32


def digest(facts: Facts) -> str:
    """Return the SHA-256 of canonical JSON, in hexadecimal."""
    return sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read(path: Path) -> bytes:
    """Read a whole file of a bounded size.

    Raises:
        CheckpointCorruptError: missing, unreadable, or larger than any model.
    """
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise CheckpointCorruptError(f"{path} is larger than any model")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointCorruptError(
            f"{path} cannot be read: {error.strerror}",
            hint="train first, or restore the run's folder",
        ) from error


def replace(path: Path, data: bytes) -> None:
    """Write a file beside, flush it to disk and rename it: what is found later is the old or the new one.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk has no room for a part that nobody reads
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk: a rename is durable after it."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
