"""The rule for a column that the run file has none for: good enough for a raw table of mixed columns.

Text becomes categories. Numbers are standardised, and the few that then lie beyond the range of activations
are clipped and counted. Two exceptions: a rare flag, which would be clipped in every row that has it, becomes
0 and 1; and where a long tail makes up the standard deviation, so that all other values would be as good as
equal, they take a logarithm first, or their quantile where that does not help. Measured in ADR 0017. Imported
by prepared columns.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.config import ColumnRule
from moiety.data.ordered import Ordered
from moiety.errors import DataError

RANGE: Final = 8.0
"""Activations lie below this; the ring's matter, repeated here because nothing of data rests on the ring."""
FEWEST_IDS: Final = 256
"""Fewer distinct texts than this are categories, however few rows there are."""
_ID_SHARE: Final = 0.5
_TWO_VALUES: Final = 2
_FEWEST_AMOUNTS: Final = 20  # fewer distinct numbers are codes and counts, which have no tail
_SQUEEZED: Final = 0.3  # standard deviations that hold the middle half of values


def usual_number_rule(numbers_N: NDArray[np.float64], ordered: Ordered) -> ColumnRule:
    """Choose a rule for numbers by the training rows.

    Args:
        numbers_N: numbers of the training rows, none missing or infinite.
        ordered: the same.
    """
    if ordered.distinct <= _TWO_VALUES:
        return ColumnRule(rule="min-max" if _is_rare_flag(numbers_N, ordered.high) else "standard")
    if ordered.distinct < _FEWEST_AMOUNTS or _spread(numbers_N, ordered) >= _SQUEEZED:
        return ColumnRule(rule="standard")
    logarithms_N = np.sign(numbers_N) * np.log1p(np.abs(numbers_N))
    squeezed = _spread(logarithms_N, Ordered.of(logarithms_N)) < _SQUEEZED
    return ColumnRule(rule="quantile" if squeezed else "log")


def require_categories(*, distinct: int, rows: int, column: str, source: str) -> None:
    """Refuse texts without a rule that are mostly distinct, as ids and free text are.

    Args:
        distinct: how many texts differ.
        rows: how many training rows have one.
        column: for messages.
        source: the table, for messages.

    Raises:
        DataError: they are.
    """
    if distinct > FEWEST_IDS and distinct > _ID_SHARE * rows:
        raise DataError(
            f"column {column!r} of {source} has {distinct} distinct texts in {rows} training rows, "
            "as ids and free text have",
            hint=f"take {column!r} out of features under [table] (or name it under id), or, if these are "
            f'categories, set it to "one-hot" under [prepare]',
        )


def _is_rare_flag(numbers_N: NDArray[np.float64], high: float) -> bool:
    """Tell whether standardising puts one of two values beyond the range of activations."""
    share = float(np.mean(numbers_N == high))
    # Of two values, the one with share p lies sqrt((1 - p) / p) standard deviations from the mean.
    return (1 - min(share, 1 - share)) >= RANGE**2 * min(share, 1 - share)


def _spread(numbers_N: NDArray[np.float64], ordered: Ordered) -> float:
    """Return how far apart the middle half of values lies, in standard deviations.

    Without the commonest value where it fills half the rows: amounts that are mostly zero are judged by those
    that are not.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        spread = float(np.float64(ordered.without_what_fills_half().middle_half) / numbers_N.std())
    return spread if np.isfinite(spread) else 0.0
