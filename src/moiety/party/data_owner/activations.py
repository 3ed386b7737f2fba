"""The data owner's prepared table: activations that never change, gathered for each batch.

Columns come one at a time, and a batch needs rows: the table is turned once. Up to `MEMORY_BYTES` it lies in
memory, and as much again while it is turned. A larger one is turned by way of two files and its rows are
mapped, so that neither the table nor the activations have to fit into memory. The files have no names, and
are gone when the session ends or the process is killed. Imported by the data owner's loop.

Shapes: N rows, D in_features; n some of the rows, K some of the inputs.
"""

import mmap
import os
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from moiety.contract.schedule import RowIndices
from moiety.crypto.ring import encode_activations
from moiety.data.scratch import open_unnamed, unwritable
from moiety.data.table_pass import Piece
from moiety.errors import CheckpointCorruptError, LocalProtocolError
from moiety.protocol.dither import RowDigests, row_digests

MEMORY_BYTES: Final = 2**28
"""Activations above 256 MiB lie on disk: 100,000 rows of 300 inputs have 60 MB, a million 600 MB."""
_VALUE_BYTES: Final = 2
_CHUNK_VALUES: Final = 2**21  # 4 MiB, turned at a time
_MAPPED_ROWS: Final = 1024  # gathered at a time: the system maps up to 64 KiB around each

Activation = NDArray[np.int16]


class ActivationTable:
    """A prepared table as `protocol.state.Activations`.

    Args:
        folder: whose disk is used where memory is not; it is not made. Twice the table's size is needed while
            it is turned, its size afterwards.
        pieces: every row of every input once, column by column.
        rows: N.

    Attributes:
        in_features: D.
        size: how many activations there are.
        clipped: how many of them were clipped.
        digests: of all rows, in their order.

    Raises:
        CheckpointError: the folder cannot be written to, or its disk is full; nothing is left there.
        CheckpointCorruptError: the disk does not give back what was written.
        NonFiniteError: an input is NaN or infinite.
    """

    def __init__(self, folder: Path, pieces: Iterable[Piece], *, rows: int) -> None:
        open_unnamed(folder).close()  # where nothing can be saved, a run ends before it is agreed on
        columns = _Columns(folder, rows)
        try:
            self.clipped = sum(columns.add(piece) for piece in pieces)
            self.in_features, self.size = columns.count, rows * columns.count
            self._rows = _MappedRows(folder, columns) if columns.on_disk else _HeldRows(columns)
        except OSError as error:
            raise unwritable(folder, error) from error
        finally:
            columns.close()
        self.digests: RowDigests = self._rows.digests

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[Activation, RowDigests]:  # noqa: ARG002
        """Return these rows' activations, (rows, in_features), and digests."""
        return self._rows.gather(rows), self.digests[rows]

    def backward(self, gradient_ND: NDArray[np.float64]) -> NoReturn:
        """Refuse: no contract asks for it."""
        del gradient_ND
        raise LocalProtocolError("a table cannot be trained")

    def go_back(self, epoch: int) -> None:
        """Do nothing: the activations never change."""

    def close(self) -> None:
        """Give memory and disk space back."""
        self._rows.close()


class _Columns:
    """Activations as they come, all rows of one input behind all rows of another.

    Args:
        folder: whose disk is used from `MEMORY_BYTES` on.
        rows: N.

    Attributes:
        rows: N.
        count: how many inputs there are by now.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.rows, self.count = rows, 0
        self._folder = folder
        self._blocks: list[Activation] = []  # (K, N)
        self._file: Any = None

    @property
    def on_disk(self) -> bool:
        """Whether they are in a file."""
        return self._file is not None

    def add(self, piece: Piece) -> int:
        """Encode some rows of the newest inputs, or of further ones; return how many were clipped.

        Raises:
            CheckpointError, OSError: they cannot be written.
            NonFiniteError: an input is NaN or infinite.
        """
        activation_nK, clipped = encode_activations(piece.values_nK)
        activation_Kn = np.ascontiguousarray(activation_nK.T)
        if piece.first_input == self.count:
            self.count += len(activation_Kn)
            if not self.on_disk and self.rows * self.count * _VALUE_BYTES > MEMORY_BYTES:
                self._leave_memory()
            if not self.on_disk:
                self._blocks.append(np.empty((len(activation_Kn), self.rows), dtype=np.int16))
        if not self.on_disk:
            stop = piece.first_row + activation_Kn.shape[1]
            self._blocks[-1][:, piece.first_row : stop] = activation_Kn
        for number, column_n in enumerate(activation_Kn, start=piece.first_input) if self.on_disk else ():
            _write(self._file, column_n, offset=(number * self.rows + piece.first_row) * _VALUE_BYTES)
        return clipped

    def turned(self) -> Iterator[Activation]:
        """Yield all rows, some at a time, (n, D)."""
        step = max(1, _CHUNK_VALUES // self.count)
        for start in range(0, self.rows, step):
            column_Dn = np.empty((self.count, min(step, self.rows - start)), dtype=np.int16)
            if self.on_disk:
                for number, place_n in enumerate(column_Dn):
                    _read_into(self._file, place_n, offset=(number * self.rows + start) * _VALUE_BYTES)
            else:
                np.concatenate([block[:, start : start + step] for block in self._blocks], out=column_Dn)
            yield np.ascontiguousarray(column_Dn.T)

    def close(self) -> None:
        """Give memory and disk space back."""
        self._blocks.clear()
        if self.on_disk:
            self._file.close()

    def _leave_memory(self) -> None:
        self._file = open_unnamed(self._folder)
        place = 0
        for block in self._blocks:
            _write(self._file, block, offset=place)
            place += block.nbytes
        self._blocks.clear()


class _HeldRows:
    """Rows in memory."""

    def __init__(self, columns: _Columns) -> None:
        self._activation_ND = np.empty((columns.rows, columns.count), dtype=np.int16)
        digests, start = [], 0
        for row_nD in columns.turned():
            self._activation_ND[start : start + len(row_nD)] = row_nD
            digests.append(row_digests(row_nD))
            start += len(row_nD)
        self.digests: RowDigests = np.concatenate(digests)

    def gather(self, rows: RowIndices) -> Activation:
        """Return some rows."""
        return self._activation_ND[rows]

    def close(self) -> None:
        """Give the memory back."""
        self._activation_ND = np.empty((0, 0), dtype=np.int16)


class _MappedRows:
    """Rows in an unnamed file, mapped.

    Pages are let go after each use: they would count as this process's memory once every row has been used.
    A disk that fails under a mapping ends the process as a kill does, and the run can be resumed as after a
    kill.
    """

    def __init__(self, folder: Path, columns: _Columns) -> None:
        self._shape = (columns.rows, columns.count)
        with open_unnamed(folder) as file:
            digests, place = [], 0
            for row_nD in columns.turned():
                _write(file, row_nD, offset=place)
                digests.append(row_digests(row_nD))
                place += row_nD.nbytes
            self._map = mmap.mmap(file.fileno(), place, prot=mmap.PROT_READ)
        weakref.finalize(self, self._map.close)
        self.digests: RowDigests = np.concatenate(digests)

    def gather(self, rows: RowIndices) -> Activation:
        """Return some rows."""
        found_nD = np.empty((len(rows), self._shape[1]), dtype=np.int16)
        mapped_ND = np.frombuffer(self._map, dtype=np.int16).reshape(self._shape)
        for start in range(0, len(rows), _MAPPED_ROWS):
            found_nD[start : start + _MAPPED_ROWS] = mapped_ND[rows[start : start + _MAPPED_ROWS]]
            self._map.madvise(mmap.MADV_DONTNEED)
        return found_nD

    def close(self) -> None:
        """Give the disk space back."""
        self._map.close()


def _write(file: Any, values: Activation, *, offset: int) -> None:
    rest = values.data.cast("B")
    while rest:  # a disk that is almost full takes a part
        written = os.pwrite(file.fileno(), rest, offset)
        rest, offset = rest[written:], offset + written


def _read_into(file: Any, place_n: Activation, *, offset: int) -> None:
    try:
        found = os.preadv(file.fileno(), [place_n.data], offset)
    except OSError as error:
        raise _unreadable() from error
    if found != place_n.nbytes:
        raise _unreadable()


def _unreadable() -> CheckpointCorruptError:
    return CheckpointCorruptError(
        "the prepared table cannot be read back from its temporary file",
        hint="look for errors of the disk that holds the run's folder, then start again",
    )
