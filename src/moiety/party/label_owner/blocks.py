"""Encrypted activations on disk: written once a session, read again in every epoch.

Where activations never change, and a protocol sends them encrypted, the label owner keeps the peer's
ciphertexts for the whole session; they are larger than the table and lie in an unnamed file, which is gone
when the process ends. Imported by the label owner's run.
"""

import tempfile
import weakref
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from moiety.errors import CheckpointError
from moiety.protocol.reuse import Part


class BlockFile(MutableMapping[Part, list[bytes]]):
    """A `protocol.machine.Store` in a temporary file.

    Args:
        folder: where the file lies; made if missing.

    Raises:
        CheckpointError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._places: dict[Part, list[tuple[int, int]]] = {}
        self._end = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this object
        except OSError as error:
            raise _unwritable(error) from error
        weakref.finalize(self, self._file.close)

    def __setitem__(self, part: Part, payloads: list[bytes]) -> None:
        """Append blocks.

        Raises:
            CheckpointError: the disk is full.
        """
        places = []
        try:
            self._file.seek(self._end)
            for payload in payloads:
                self._file.write(payload)
                places.append((self._end, len(payload)))
                self._end += len(payload)
            self._file.flush()
        except OSError as error:
            raise _unwritable(error) from error
        self._places[part] = places

    def __getitem__(self, part: Part) -> list[bytes]:
        return [self._read(*place) for place in self._places[part]]

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)

    def __delitem__(self, part: Part) -> None:
        del self._places[part]

    def __iter__(self) -> Iterator[Part]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _unwritable(error: OSError) -> CheckpointError:
    return CheckpointError(
        f"encrypted activations cannot be kept: {error.strerror}",
        hint="make room in the run's folder, or give this user the right to write there",
    )
