"""Drift: how far other rows lie from the training rows, column by column; counted where the data is.

Compares with what a prepared column remembers of its training rows. Nothing of it crosses; it is told to
whoever owns the table. Imported by prepared columns and the parties' loops.

Shapes: N rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from moiety.errors import DataError

SHIFTED: Final = 0.25
"""Population stability from which a column counts as shifted, as credit scoring has it."""
FEWEST_ROWS: Final = 100
"""Shares of fewer rows are counted, and judged by nobody."""
_UNSEEN_LIMIT: Final = 0.5
_OUTSIDE_LIMIT: Final = 0.05
_SMALLEST_SHARE: Final = 1e-4

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Baseline(BaseModel):
    """What is remembered of the training rows of a column, to compare others with.

    Args:
        rows: how many training rows there were.
        shares: of the training rows in each group: tenths of numbers or categories, any other category, and
            what is missing.
        edges: between the groups of numbers; none for categories.
        low: the smallest number.
        high: the largest.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    rows: Annotated[int, Field(ge=1)]
    shares: Annotated[tuple[Share, ...], Field(min_length=2, repr=False)]
    edges: Annotated[tuple[FiniteFloat, ...], Field(repr=False)] = ()
    low: Annotated[FiniteFloat, Field(repr=False)] = 0.0
    high: Annotated[FiniteFloat, Field(repr=False)] = 0.0


@dataclass(frozen=True, kw_only=True)
class ColumnDrift:
    """How some rows of a column differ from the training rows.

    Args:
        name: the column.
        rows: how many were looked at.
        missing: rows without a value.
        missing_before: share of the training rows without a value.
        unseen: rows of a category that no training row had.
        outside: rows with a number beyond those of the training rows.
        stability: population stability index: the sum of (q - p) ln(q / p) over the groups, of which p of the
            training rows and q of these are; 0 where nothing moved. No share counts as less than 0.0001.
        expected: what it is on average where nothing moved, from the number of rows alone.
    """

    name: str
    rows: int
    missing: int
    missing_before: float
    unseen: int
    outside: int
    stability: float
    expected: float

    @property
    def shifted(self) -> bool:
        """Whether the column has moved by more than chance explains."""
        return self.rows >= FEWEST_ROWS and self.stability - self.expected >= SHIFTED

    @property
    def mostly_unseen(self) -> bool:
        """Whether half the rows that have a category have one that no training row had."""
        present = self.rows - self.missing
        return present >= FEWEST_ROWS and self.unseen >= _UNSEEN_LIMIT * present

    @property
    def newly_missing(self) -> int:
        """How many rows are missing in a column that was complete."""
        return 0 if self.missing_before else self.missing

    @property
    def notable(self) -> bool:
        """Whether there is something to say about it."""
        outside = self.rows >= FEWEST_ROWS and self.outside > _OUTSIDE_LIMIT * self.rows
        return bool(self.newly_missing or self.unseen or outside or self.shifted)


def number_rows(numbers_N: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Count the numbers between edges, each edge with those below it, and at the end what is missing."""
    present = len(numbers_N) - np.count_nonzero(np.isnan(numbers_N))
    above = [np.count_nonzero(numbers_N > edge) for edge in edges]  # ten times as fast as a search
    rows_G: NDArray[np.int64] = -np.diff([present, *above, 0])
    return np.append(rows_G, len(numbers_N) - present)


def stability_index(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Return the population stability index of two sets of shares.

    >>> round(stability_index(np.array([0.5, 0.5]), np.array([0.6, 0.4])), 4)
    0.0405
    """
    old, new = (np.maximum(shares, _SMALLEST_SHARE) for shares in (before, now))
    return float(np.sum((new - old) * np.log(new / old)))


def require_seen(drifts: Sequence[ColumnDrift], *, source: str) -> None:
    """Refuse rows of which half have categories that no training row had.

    It is called before anything is released for them.

    Raises:
        DataError: there is such a column.
    """
    for drift in drifts:
        if drift.mostly_unseen:
            raise DataError(
                f"column {drift.name!r} of {source}: {_unseen(drift)}",
                hint="write its categories as in the table that the model was trained with, or train again",
            )


def drift_sentences(drifts: Sequence[ColumnDrift], *, what: str) -> list[str]:
    """Say what differs from the training rows: one sentence over all columns, one for each that stands out.

    Args:
        drifts: of all columns.
        what: the rows that were looked at, as in "rows kept from training".
    """
    if not drifts or not drifts[0].rows:
        return []
    furthest = max(drifts, key=lambda drift: drift.stability)
    total = (
        f"drift of {drifts[0].rows} {what} against the training rows: "
        f"{sum(drift.newly_missing for drift in drifts)} values missing in columns that were complete, "
        f"{sum(drift.unseen for drift in drifts)} of unseen categories, "
        f"{sum(drift.outside for drift in drifts)} out of range; "
        f"largest stability index {furthest.stability:.3f} ({furthest.name})"
    )
    return [total, *(_sentence(drift) for drift in drifts if drift.notable)]


def _sentence(drift: ColumnDrift) -> str:
    parts = []
    if drift.newly_missing:
        parts.append(f"{drift.missing} of {drift.rows} rows are missing, and no training row was")
    if drift.unseen:
        parts.append(_unseen(drift))
    if drift.outside:
        parts.append(f"{drift.outside} of {drift.rows} rows lie beyond all training rows")
    if drift.shifted:
        parts.append(f"shifted, stability index {drift.stability:.3f}")
    hint = ""
    if drift.mostly_unseen:
        hint = " (write its categories in one way, group them, or leave the column out: it may be an id)"
    return f"column {drift.name!r}: {'; '.join(parts)}{hint}"


def _unseen(drift: ColumnDrift) -> str:
    return f"{drift.unseen} of {drift.rows} rows have categories that no training row had"
