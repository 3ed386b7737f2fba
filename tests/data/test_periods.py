"""Splits by time: cut points, fractions, ties, missing values, and columns of every kind."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from moiety.config import PeriodSplit
from moiety.data.periods import assign
from moiety.data.table import Table, read_table
from moiety.errors import ConfigError, DataError, MoietyError


def table_of(folder: Path, values: Any) -> Table:
    path = folder / "table.parquet"
    parquet.write_table(pa.table({"when": values}), path)
    return read_table(path, columns=None)


def split_of(folder: Path, values: Any, **rule: Any) -> str:
    """Return the split of each row as a text: t, v, T."""
    chosen = PeriodSplit(by="when", reveals="periods", **rule)
    return "".join("tvT"[split] for split in assign(chosen, table_of(folder, values)))


NUMBERS = [5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0, 4.0, 6.0, 0.0]
TIMES = [datetime(2024, 1, 1, int(value), tzinfo=UTC) for value in NUMBERS]
EXPECTED = "ttTtvtTttt"  # the two largest of ten are test rows, the third largest is a validation row


def test_split_by_numbers_takes_the_largest_as_test_rows(tmp_path: Path) -> None:
    assert split_of(tmp_path, NUMBERS, validation=0.1, test=0.2) == EXPECTED


@pytest.mark.parametrize(
    "values",
    [
        pa.array([int(value) for value in NUMBERS]),
        pa.array([date(2024, 1, 1 + int(value)) for value in NUMBERS]),
        pa.array([datetime(2024, 1, 1, int(value), tzinfo=UTC) for value in NUMBERS], pa.timestamp("us")),
        pa.array(
            [datetime(2024, 1, 1, int(value), tzinfo=UTC) for value in NUMBERS], pa.timestamp("s", "UTC")
        ),
        pa.array([f"2024-01-{1 + int(value):02d}" for value in NUMBERS]),
        pa.array([f"2024-01-01T{int(value):02d}:00:00+01:00" for value in NUMBERS]),
    ],
    ids=["integers", "dates", "times", "times in UTC", "texts of dates", "texts of times"],
)
def test_split_by_any_column_that_can_be_ordered_is_the_same(tmp_path: Path, values: Any) -> None:
    assert split_of(tmp_path, values, validation=0.1, test=0.2) == EXPECTED


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        ({"validation_from": date(2024, 3, 1), "test_from": "2024-04-01"}, "ttvvTT"),
        ({"test_from": date(2024, 3, 10)}, "tttTTT"),
        ({"validation_from": datetime(2024, 4, 1, tzinfo=UTC)}, "ttttvv"),
    ],
)
def test_split_by_cut_points_puts_each_value_behind_its_cut(
    tmp_path: Path, cuts: dict[str, Any], expected: str
) -> None:
    days = ["2024-01-05", "2024-02-29", "2024-03-01", "2024-03-10", "2024-04-01", "2024-05-01"]
    assert split_of(tmp_path, days, **cuts) == expected


def test_split_by_numbers_takes_numbers_as_cut_points(tmp_path: Path) -> None:
    assert split_of(tmp_path, NUMBERS, validation_from=7, test_from=7.5) == "ttTtvtTttt"


def test_rows_of_one_value_stay_together_in_the_newer_split(tmp_path: Path) -> None:
    # One row of test = 0.2 of five would be the newest; the three that tie with it come along.
    assert split_of(tmp_path, [1, 2, 3, 3, 3], validation=0.0, test=0.2) == "ttTTT"


def test_ties_that_leave_a_split_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves no validation rows") as caught:
        split_of(tmp_path, [1, 2, 3, 3, 3], validation=0.2, test=0.2)
    assert "rows of one value stay together" in caught.value.hint
    with pytest.raises(DataError, match="leaves no training rows"):
        split_of(tmp_path, [3, 3, 3, 3, 3], validation=0.0, test=0.2)


def test_split_without_fractions_leaves_all_rows_for_training(tmp_path: Path) -> None:
    assert split_of(tmp_path, NUMBERS, validation=0.0, test=0.0) == "t" * 10
    assert split_of(tmp_path, NUMBERS, validation=0.2, test=0.0) == "ttvtttvttt"


def test_missing_values_are_refused_or_trained_on(tmp_path: Path) -> None:
    values = [1.0, None, 3.0, float("nan"), 5.0, 2.0, 4.0]
    with pytest.raises(DataError, match="missing in 2 of 7 rows") as caught:
        split_of(tmp_path, values)
    assert 'missing = "train"' in caught.value.hint
    # Fractions count the five rows that have a value.
    assert split_of(tmp_path, values, missing="train", validation=0.2, test=0.2) == "ttttTtv"
    texts = ["2024-01-01", " ", "2024-01-03", None, "2024-01-05"]
    assert split_of(tmp_path, texts, missing="train", validation=0.0, test=0.2) == "ttttT"


@pytest.mark.parametrize(
    ("values", "rule", "says", "hint"),
    [
        (["2024-01-01", "soon", "later"], {}, "has 2 values that are neither", "2025-07-01"),
        ([None, None], {"missing": "train"}, "has no values", "another column"),
        ([1.0, 2.0], {"test_from": "2024-01-01"}, "does not suit", "a number"),
        (["2024-01-01", "2024-01-02"], {"test_from": 3}, "does not suit", "a date"),
        (["2024-01-01", "2024-01-02"], {"test_from": "spring"}, "does not suit", "a date"),
        (
            ["2024-01-01", "2024-01-02"],
            {"validation_from": date(2024, 2, 1), "test_from": date(2024, 2, 1)},
            "is not before",
            "between",
        ),
        (["2024-01-01", "2024-01-02"], {"test_from": date(2025, 1, 1)}, "leaves no test rows", "cut points"),
    ],
)
def test_split_that_cannot_be_made_is_refused(
    tmp_path: Path, values: Sequence[Any], rule: dict[str, Any], says: str, hint: str
) -> None:
    with pytest.raises(MoietyError, match=says) as caught:
        split_of(tmp_path, pa.array(values), **rule)
    assert isinstance(caught.value, (ConfigError, DataError))
    assert hint in caught.value.hint
    assert "soon" not in caught.value.message + caught.value.hint


def test_split_by_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    rule = PeriodSplit(by="wen", reveals="periods")
    with pytest.raises(DataError, match="no column 'wen'") as caught:
        assign(rule, table_of(tmp_path, np.arange(10)))
    assert "when" in caught.value.hint


@pytest.mark.parametrize("cut", [True, [1], "", float("inf")])
def test_cut_point_of_another_kind_is_refused(tmp_path: Path, cut: Any) -> None:
    with pytest.raises((ValidationError, ConfigError)):
        split_of(tmp_path, NUMBERS, test_from=cut)
