"""Which rows are in which split, where a column of one party's decides it and not a jointly drawn seed.

Two bits a row, sent once by the owner of the column during the handshake. The other party learns from it
which rows lie in which period, which is why both run files have to say so. Its digest and counts are in the
terms, and with them in the contract. Imported by the schedule, the contract and the handshake.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.errors import MalformedMessageError

TRAINING: Final = 0
VALIDATION: Final = 1
TEST: Final = 2
_ROWS_PER_BYTE: Final = 4
_BITS: Final = 2
_BLOCK_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The split of each row.

    Args:
        rows: rows of the aligned table.
        packed: two bits a row, the first row in the lowest bits; what is left of the last byte is 0.
    """

    rows: int
    packed: bytes

    @classmethod
    def of(cls, splits_N: NDArray[np.uint8]) -> "Assignment":
        """Pack the split of each row, one of `TRAINING`, `VALIDATION` and `TEST`.

        >>> Assignment.of(np.array([2, 0, 1, 0, 1], dtype=np.uint8)).packed.hex()
        '1201'
        """
        padded = np.zeros(-(-len(splits_N) // _ROWS_PER_BYTE) * _ROWS_PER_BYTE, dtype=np.uint8)
        padded[: len(splits_N)] = splits_N
        fours = padded.reshape(-1, _ROWS_PER_BYTE) << _shifts()
        return cls(rows=len(splits_N), packed=np.bitwise_or.reduce(fours, axis=1).astype(np.uint8).tobytes())

    @classmethod
    def from_payloads(cls, payloads: Sequence[bytes], *, rows: int) -> "Assignment":
        """Read what crossed, of which the size was checked.

        Raises:
            MalformedMessageError: a row is in no split, or there is something behind the last row.
        """
        read = cls(rows=rows, packed=b"".join(payloads))
        unpacked = _unpack(read.packed)
        if len(read.packed) != packed_bytes(rows) or unpacked[:rows].max(initial=0) > TEST:
            raise MalformedMessageError("an assignment puts a row into no known split")
        if unpacked[rows:].any():
            raise MalformedMessageError("an assignment has more rows than the table")
        return read

    @cached_property
    def splits(self) -> NDArray[np.uint8]:
        """The split of each row, uint8 (rows,)."""
        return _unpack(self.packed)[: self.rows]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Training, validation and test rows."""
        training, validation, test = np.bincount(self.splits, minlength=TEST + 1).tolist()
        return training, validation, test

    @property
    def digest(self) -> bytes:
        """SHA-256 over the number of rows and the split of each."""
        return sha256(b"moiety assignment 1" + self.rows.to_bytes(8, "little") + self.packed).digest()

    def rows_in(self, split: int) -> NDArray[np.int64]:
        """Return the row numbers of a split, ascending."""
        return np.flatnonzero(self.splits == split).astype(np.int64)

    def payloads(self) -> list[bytes]:
        """Cut it into what crosses."""
        starts = range(0, len(self.packed), _BLOCK_BYTES)
        return [self.packed[start : start + _BLOCK_BYTES] for start in starts]


def packed_bytes(rows: int) -> int:
    """Return how many bytes an assignment of so many rows has."""
    return -(-rows // _ROWS_PER_BYTE)


def payload_sizes(rows: int) -> tuple[int, ...]:
    """Return the bytes of each block that an assignment of so many rows crosses in."""
    size = packed_bytes(rows)
    return tuple(min(_BLOCK_BYTES, size - start) for start in range(0, size, _BLOCK_BYTES))


def _unpack(packed: bytes) -> NDArray[np.uint8]:
    fours = (np.frombuffer(packed, dtype=np.uint8)[:, None] >> _shifts()) & 3
    return fours.reshape(-1).astype(np.uint8)


def _shifts() -> NDArray[np.uint8]:
    return (np.arange(_ROWS_PER_BYTE) * _BITS).astype(np.uint8)
