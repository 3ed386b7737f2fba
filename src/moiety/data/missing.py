"""Missing values: which they are, and what stands where a number is missing.

A number is missing where it is NaN, a text where it is empty or blank. Infinite numbers are not missing:
they are refused. Imported by the preparation and the target.

Shapes: N rows.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moiety.data.table import Column
from moiety.errors import DataError

Statistic = Literal["median", "mean", "most-frequent"]


def is_text(values_N: Column) -> bool:
    """Tell text from numbers."""
    return values_N.dtype == np.object_


def missing_rows(values_N: Column) -> NDArray[np.bool_]:
    """Tell which rows are missing, bool (N,)."""
    if is_text(values_N):
        return np.array([value is None or not value.strip() for value in values_N.tolist()], dtype=np.bool_)
    return np.isnan(values_N.astype(np.float64))


def count_unusable(values_N: Column) -> int:
    """Count missing and infinite values."""
    if is_text(values_N):
        return sum(value is None for value in values_N)
    return int(np.count_nonzero(~np.isfinite(values_N.astype(np.float64))))


def require_finite(values_N: Column, *, column: str, source: str) -> None:
    """Refuse infinite numbers.

    Raises:
        DataError: there are some, with their count.
    """
    infinite = 0 if is_text(values_N) else int(np.count_nonzero(np.isinf(values_N.astype(np.float64))))
    if infinite:
        raise DataError(
            f"column {column!r} of {source} has {infinite} infinite values in {len(values_N)} rows",
            hint="leave these fields empty: an empty one counts as missing",
        )


def fill_value(training_N: Column, statistic: Statistic) -> float:
    """Return what stands for a missing number: a statistic of those training rows that have one."""
    from sklearn.impute import SimpleImputer  # noqa: PLC0415  most of a second

    strategy = statistic.replace("-", "_")
    imputer = SimpleImputer(strategy=strategy).fit(np.asarray(training_N, dtype=np.float64)[:, None])
    return float(imputer.statistics_[0])
