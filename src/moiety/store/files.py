"""Files that survive a crash: written beside, flushed, then renamed; readable by their owner only.

Imported by the modules of this package.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from moiety.errors import CheckpointCorruptError, CheckpointError

Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]

SIZE_LIMIT: Final = 2**32


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


@contextmanager
def writing(folder: Path, *, then: str) -> Iterator[None]:
    """Write into a folder, which is made where it is missing.

    Args:
        folder: where to.
        then: what to do once it can be written, for the hint.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be written: {error.strerror}",
            hint=f"make room, or give this user the right to write there; then {then}",
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk: a rename is durable after it."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
