"""Splits by time: the newest rows of a column are test rows, those before them validation rows.

Rows of one value stay together: a row belongs to the newest split whose cut point its value has reached.
Fractions choose the cut points among the values. Messages give counts, never values. Imported by the
parties' loops.

Shapes: N rows.
"""

from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pyarrow import types

from moiety.config import PeriodSplit
from moiety.data.columns import is_text_type, missing_column, numbers_of
from moiety.data.table import Table
from moiety.errors import ConfigError, DataError

Values = NDArray[np.float64]
_SECONDS_PER_DAY: Final = 86_400.0


TRAINING, VALIDATION, TEST = 0, 1, 2


def assign(rule: PeriodSplit, table: Table) -> NDArray[np.uint8]:
    """Return the split of each row by the rule's own column.

    Raises:
        ConfigError: a cut point does not suit the column.
        DataError: the column is not there, holds neither numbers nor dates, misses values without a rule for
            them, or a split that is asked for gets no rows.
    """
    assert rule.by is not None
    value_N, dated = _values(table, rule.by)
    _require_rule(value_N, rule, table)
    validation_from, test_from = _cuts(rule, np.sort(value_N[~np.isnan(value_N)]), dated=dated)
    splits_N = np.full(table.rows, TRAINING, dtype=np.uint8)
    # Comparisons with NaN are false: a row without a value stays a training row.
    splits_N[value_N >= validation_from] = VALIDATION
    splits_N[value_N >= test_from] = TEST
    _require_rows(splits_N, rule, wanted=(True, validation_from < np.inf, test_from < np.inf))
    return splits_N


def split_column(rule: PeriodSplit) -> tuple[str, ...]:
    """Name the column that splits the rows; it is no feature unless it is listed as one."""
    return () if rule.by is None else (rule.by,)


def _values(table: Table, name: str) -> tuple[Values, bool]:
    """Return a column as numbers, NaN where missing, and whether they are seconds of dates."""
    if name not in table.names:
        raise missing_column(name, table.source, table.names)
    column = table.read(name)
    if is_text_type(column.type):
        return _parsed(column.to_pylist(), name), True
    numbers = numbers_of(column).to_numpy(zero_copy_only=False).astype(np.float64)
    if types.is_date(column.type):
        return numbers * _SECONDS_PER_DAY, True
    return numbers, bool(types.is_timestamp(column.type))


def _parsed(texts: list[str | None], name: str) -> Values:
    """Read ISO 8601 dates as seconds; an empty text is a missing value."""
    known: dict[str | None, float] = {None: np.nan}
    for text in set(texts) - {None}:
        assert text is not None
        known[text] = _seconds(text) if text.strip() else np.nan
    value_N = np.array([known[text] for text in texts], dtype=np.float64)
    wrong = int(np.count_nonzero(np.isinf(value_N)))
    if wrong:
        raise DataError(
            f"column {name!r} has {wrong} values that are neither numbers nor dates",
            hint="write dates as 2025-07-01 or 2025-07-01T12:00, or take another column for split.by",
        )
    return value_N


def _seconds(text: str) -> float:
    """Return seconds since 1970-01-01 in UTC; infinite where the text is no date."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return np.inf
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _require_rule(value_N: Values, rule: PeriodSplit, table: Table) -> None:
    missing = int(np.count_nonzero(np.isnan(value_N)))
    if missing == table.rows:
        raise DataError(f"column {rule.by!r} has no values", hint="take another column for split.by")
    if missing and rule.missing is None:
        raise DataError(
            f"column {rule.by!r}, which splits the rows, is missing in {missing} of {table.rows} rows",
            hint='write missing = "train" under [split] to train on them, or fill them in',
        )


def _cuts(rule: PeriodSplit, sorted_N: Values, *, dated: bool) -> tuple[float, float]:
    """Return from which values on rows are validation rows, and test rows; infinite for none."""
    if rule.has_cuts:
        validation = _cut(rule.validation_from, "validation_from", dated=dated)
        test = _cut(rule.test_from, "test_from", dated=dated)
        if rule.validation_from is not None and validation >= test:
            raise ConfigError(
                "split.validation_from is not before split.test_from",
                hint="choose an earlier one: validation rows lie between training rows and test rows",
            )
        return validation, test
    rows = len(sorted_N)
    test_rows = round(rule.test * rows)
    held_out = test_rows + round(rule.validation * rows)
    test = float(sorted_N[rows - test_rows]) if test_rows else np.inf
    if held_out == test_rows:
        return np.inf, test
    return float(sorted_N[rows - held_out]), test


def _cut(cut: Any, name: str, *, dated: bool) -> float:
    if cut is None:
        return np.inf
    number = _moment(cut) if dated else cut
    if isinstance(number, bool) or not isinstance(number, (int, float)) or np.isinf(number):
        needs = 'a date, as 2025-07-01 or "2025-07-01"' if dated else "a number, as the column holds"
        raise ConfigError(f"split.{name} does not suit the column of split.by", hint=f"write {needs}")
    return float(number)


def _moment(cut: Any) -> float:
    if isinstance(cut, (date, datetime)):
        return _seconds(cut.isoformat())
    return _seconds(cut) if isinstance(cut, str) else np.inf


def _require_rows(splits_N: NDArray[np.uint8], rule: PeriodSplit, *, wanted: tuple[bool, bool, bool]) -> None:
    """Refuse a split that was asked for and has no rows."""
    names = ("training", "validation", "test")
    for name, rows, asked in zip(names, np.bincount(splits_N, minlength=3).tolist(), wanted, strict=True):
        if asked and not rows:
            raise DataError(
                f"split.by = {rule.by!r} leaves no {name} rows",
                hint="choose other fractions or cut points (rows of one value stay together), or a column "
                "with more values",
            )
