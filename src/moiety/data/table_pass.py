"""One pass over a table: each column is read once, fitted where it is not yet, compared, made into inputs.

What a session does with a table is done here, one column in memory at a time. Imported by both parties'
loops.

Shapes: N rows, K inputs of a column; n some rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moiety.data.drift import ColumnDrift, drift_sentences, require_seen
from moiety.data.preparation import Preparation, Unfitted, fitted_columns
from moiety.data.prepared_column import LeftOut, PreparedColumn
from moiety.data.table import Table
from moiety.data.values import Values, read_values
from moiety.errors import LocalProtocolError


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Some rows of the inputs that one column gives.

    Args:
        first_row: index of its first row.
        first_input: index of its first input.
        values_nK: the inputs, float64, finite.
    """

    first_row: int
    first_input: int
    values_nK: NDArray[np.float64] = field(repr=False)


class TablePass:
    """Iterated once, it yields every row of every input once: column by column, and within a column by rows.

    Args:
        table: with the columns.
        columns: fitted, or to be fitted on the training rows.
        training: indices of the training rows; None where all rows are to be scored.

    Raises:
        DataError: while it is iterated: a column is not there, has infinite values or does not suit its rule,
            there are no training rows, or no column has an input to give.

    Attributes:
        drifts: of each column whose training rows are remembered, once it was yielded: how the rows that were
            not trained on differ.
    """

    def __init__(
        self, table: Table, columns: Preparation | Unfitted, *, training: NDArray[np.int64] | None
    ) -> None:
        self._table = table
        self._columns = columns
        self._training = training
        self.drifts: list[ColumnDrift] = []
        self._preparation: Preparation | None = None

    def __iter__(self) -> Iterator[Piece]:
        fitted: list[PreparedColumn | LeftOut] = []
        compared = self._compared()
        first_input = 0
        for column, values in self._each():
            fitted.append(column)
            if isinstance(column, LeftOut):
                continue
            if compared is None or len(compared):
                drift = column.drift(values if compared is None else values.take(compared))
                self.drifts += [] if drift is None else [drift]
            for first_row, values_nK in column.pieces(values):
                yield Piece(first_row=first_row, first_input=first_input, values_nK=values_nK)
            first_input += len(column.names)
        self._preparation = (
            self._columns
            if isinstance(self._columns, Preparation)
            else Preparation.of(fitted, source=self._table.source.name)
        )

    @property
    def preparation(self) -> Preparation:
        """What the pass went by.

        Raises:
            LocalProtocolError: it has not come to its end.
        """
        if self._preparation is None:
            raise LocalProtocolError("a pass over a table was not taken to its end")
        return self._preparation

    def notes(self) -> list[str]:
        """Say which columns are left out, and how other rows differ from the training rows.

        Raises:
            DataError: rows are to be scored, and half of 100 or more have categories that no training row
                had: their scores would mean nothing, so nothing is released for them.
        """
        if self._training is None:
            require_seen(self.drifts, source=self._table.source.name)
            return drift_sentences(self.drifts, what="rows to score")
        left_out = [column.sentence for column in self.preparation.left_out]
        return [*left_out, *drift_sentences(self.drifts, what="rows kept from training")]

    def stacked(self) -> NDArray[np.float64]:
        """Take the pass; return all inputs of all rows, float64, in memory."""
        inputs: dict[int, list[NDArray[np.float64]]] = {}
        for piece in self:
            inputs.setdefault(piece.first_input, []).append(piece.values_nK)
        return np.hstack([np.concatenate(pieces) for pieces in inputs.values()])

    def _compared(self) -> NDArray[np.int64] | None:
        """Return the rows to compare with the training rows; None means all."""
        if self._training is None:
            return None
        kept_N = np.ones(self._table.rows, dtype=np.bool_)
        kept_N[self._training] = False
        return np.flatnonzero(kept_N)

    def _each(self) -> Iterator[tuple[PreparedColumn | LeftOut, Values]]:
        """Read each column, and fit it where it is not yet."""
        if isinstance(self._columns, Preparation):
            source = self._table.source.name
            for column in self._columns.columns:
                yield column, column.of(read_values(self._table, column.name), source=source)
        else:
            assert self._training is not None
            yield from fitted_columns(self._table, self._columns, rows=self._training)
