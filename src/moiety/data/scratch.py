"""Files without a name: a party's data on its own disk, for no longer than the process needs it.

Nobody can open such a file by its path, and the system frees its space when it is closed, also when the
process is killed: nothing is ever left behind, whole or in part. Imported by table and by the data
owner's prepared table.
"""

import errno
import tempfile
from pathlib import Path
from typing import Any, Final

from moiety.errors import CheckpointError

_WRITE_ERRORS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def open_unnamed(folder: Path) -> Any:
    """Open an unnamed binary file for reading and writing, for this user only.

    Args:
        folder: its disk is used; where it is not there yet, the disk that it would come to. It is not made.

    Raises:
        CheckpointError: the folder cannot be written to.
    """
    try:
        return tempfile.TemporaryFile(dir=next(each for each in (folder, *folder.parents) if each.exists()))
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> CheckpointError:
    """Make the error for a file that cannot be made or has no room."""
    return CheckpointError(
        f"a temporary file in {folder} cannot be written: {error.strerror}",
        hint="make room on that disk, or give this user the right to write there",
    )


def is_about_room(error: OSError) -> bool:
    """Tell a full disk, which only writing meets, from an error of reading."""
    return error.errno in _WRITE_ERRORS
