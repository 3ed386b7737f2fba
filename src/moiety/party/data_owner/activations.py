"""The data owner's prepared table on disk: activations that never change, read for each batch.

Prepared column by column and laid out by rows, so that neither the table nor the activations have to fit
into memory: 2 bytes a value on disk, 12 bytes a row in memory. Rows are read, not mapped: a mapping would
count as memory once every row has been used. Both files are unnamed, and gone when the session ends.
Imported by the data owner's loop.

Shapes: N rows, D in_features; n and d some of them.
"""

import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from moiety.contract.schedule import RowIndices
from moiety.crypto.ring import encode_activations
from moiety.data.preparation import Piece
from moiety.data.scratch import open_unnamed, unwritable
from moiety.errors import CheckpointCorruptError, LocalProtocolError
from moiety.protocol.dither import RowDigests, row_digests

_VALUE_BYTES: Final = 2
_CHUNK_VALUES: Final = 2**21  # 4 MiB, laid out by rows at a time


class ActivationFile:
    """A prepared table as `protocol.state.Activations`.

    Args:
        folder: whose disk is used; it is not made. Twice the table's size is needed while it is laid out,
            its size afterwards.
        pieces: every row of every input once, from `Preparation.pieces`.
        rows: N.
        in_features: D.

    Attributes:
        in_features: D.
        size: how many activations there are.
        clipped: how many of them were clipped.

    Raises:
        CheckpointError: the folder cannot be written to, or its disk is full; nothing is left there.
        NonFiniteError: an input is NaN or infinite.
    """

    def __init__(self, folder: Path, pieces: Iterable[Piece], *, rows: int, in_features: int) -> None:
        self.in_features = in_features
        self.size = rows * in_features
        self._file = open_unnamed(folder)
        self._end = weakref.finalize(self, self._file.close)
        try:
            with open_unnamed(folder) as by_columns:
                self.clipped = _write_columns(by_columns, pieces, rows)
                self._digest_N = _write_rows(by_columns, self._file, rows, in_features)
        except OSError as error:
            self.close()
            raise unwritable(folder, error) from error
        except BaseException:
            self.close()
            raise

    @property
    def digests(self) -> RowDigests:
        """Digests of all rows, in their order."""
        return self._digest_N

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[NDArray[np.int16], RowDigests]:  # noqa: ARG002
        """Return these rows' activations, (rows, in_features), and digests.

        Raises:
            CheckpointCorruptError: the disk does not give them back.
        """
        activation_ND = np.empty((len(rows), self.in_features), dtype=np.int16)
        width = self.in_features * _VALUE_BYTES
        for row, place in zip(rows.tolist(), activation_ND, strict=True):
            _read_into(self._file, place, offset=row * width)
        return activation_ND, self._digest_N[rows]

    def backward(self, gradient_ND: NDArray[np.float64]) -> NoReturn:
        """Refuse: no contract asks for it."""
        del gradient_ND
        raise LocalProtocolError("a table cannot be trained")

    def go_back(self, epoch: int) -> None:
        """Do nothing: the activations never change."""

    def close(self) -> None:
        """Give the disk space back."""
        self._end()


def _write_columns(file: Any, pieces: Iterable[Piece], rows: int) -> int:
    """Write encoded inputs, all rows of one behind all rows of another; return how many were clipped."""
    total = 0
    for piece in pieces:
        activation_nd, clipped = encode_activations(piece.values_nd)
        total += clipped
        for number, column_n in enumerate(np.ascontiguousarray(activation_nd.T), start=piece.first_input):
            _write(file, column_n, offset=(number * rows + piece.first_row) * _VALUE_BYTES)
    return total


def _write_rows(by_columns: Any, file: Any, rows: int, in_features: int) -> RowDigests:
    """Turn columns into rows, some rows at a time; return the digests of all."""
    digests = []
    step = max(1, _CHUNK_VALUES // in_features)
    for start in range(0, rows, step):
        column_Dn = np.empty((in_features, min(step, rows - start)), dtype=np.int16)
        for number, place in enumerate(column_Dn):
            _read_into(by_columns, place, offset=(number * rows + start) * _VALUE_BYTES)
        activation_nD = np.ascontiguousarray(column_Dn.T)
        digests.append(row_digests(activation_nD))
        _write(file, activation_nD, offset=start * in_features * _VALUE_BYTES)
    return np.concatenate(digests)


def _write(file: Any, values: NDArray[np.int16], *, offset: int) -> None:
    rest = values.data.cast("B")
    while rest:  # a disk that is almost full takes a part
        written = os.pwrite(file.fileno(), rest, offset)
        rest, offset = rest[written:], offset + written


def _read_into(file: Any, place: NDArray[np.int16], *, offset: int) -> None:
    try:
        found = os.preadv(file.fileno(), [place.data], offset)
    except OSError as error:
        raise _unreadable() from error
    if found != place.nbytes:
        raise _unreadable()


def _unreadable() -> CheckpointCorruptError:
    return CheckpointCorruptError(
        "the prepared table cannot be read back from its temporary file",
        hint="look for errors of the disk that holds the run's folder, then start again",
    )
