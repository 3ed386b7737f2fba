from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from moiety.data.preparation import Unfitted
from moiety.data.profile import (
    ColumnProfile,
    TableProfile,
    Use,
    profile_column,
    profile_table,
    raise_first,
)
from moiety.data.table import Table, read_table
from moiety.errors import ConfigError, DataError


def table_of(folder: Path, **columns: Any) -> Table:
    path = folder / "t.parquet"
    parquet.write_table(pa.table(columns), path)
    return read_table(path, columns=None)


def of_all(table: Table, rules: dict[str, str]) -> TableProfile:
    return profile_table(table, Unfitted(features=table.names, rules=rules), ids=[])


def profiled(folder: Path, values: Any, *, use: Use = "feature") -> ColumnProfile:
    return profile_column(table_of(folder, a=values), "a", use=use)


@pytest.mark.parametrize(
    ("values", "kind", "missing", "infinite", "distinct"),
    [
        ([1, 2, 2, None], "whole number", 1, 0, 2),
        ([1.0, 2.0, None, float("nan")], "whole number", 2, 0, 2),
        ([1.5, 2.0, float("nan"), 1.5], "number", 1, 0, 2),
        ([0.5, float("inf"), float("-inf"), None], "number", 1, 2, 3),
        (["x", "y", "", "  ", None, "x"], "text", 3, 0, 2),
        ([True, None, True], "true or false", 1, 0, 1),
        (pa.array([1, 2, None], pa.date32()), "date or time", 1, 0, 2),
        (pa.array([1, 1], pa.timestamp("us")), "date or time", 0, 0, 1),
        (pa.array(["u", "v", None]).dictionary_encode(), "text", 1, 0, 2),
        (pa.array(["u", None], pa.large_string()), "text", 1, 0, 1),
        (pa.array([None, None], pa.float64()), "empty", 2, 0, 0),
        (pa.array([None, None], pa.null()), "empty", 2, 0, 0),
        (["", None], "empty", 2, 0, 0),
    ],
)
def test_profile_counts_what_a_column_holds(
    tmp_path: Path, values: Any, kind: str, missing: int, infinite: int, distinct: int
) -> None:
    found = profiled(tmp_path, values)
    assert (found.kind, found.missing, found.infinite, found.distinct) == (kind, missing, infinite, distinct)


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        ([None, None], "no value at all"),
        ([7, 7, 7], "always the same value"),
        ([7, None, 7], "always the same value, where there is one"),
        ([None, None, None, 7, 8], "mostly missing"),
        ([1.0, float("inf")], "1 infinite values"),
        ([f"id{number}" for number in range(40)], "nearly every value differs: an id?"),
        ([float(number) for number in range(39)] + [0.0], "nearly every value differs: an id?"),
        (["1.5", "-2e3", " 7 ", ".5"], "numbers, written as text"),
        ([str(number) for number in range(19)] + ["n/a"], "text, because 1 values are no numbers"),
        (["1,5", "-2.000,25", "7,0"], "numbers with decimal commas"),
    ],
)
def test_profile_remarks_what_is_suspicious(tmp_path: Path, values: list[Any], remark: str) -> None:
    found = profiled(tmp_path, values)
    assert any(each.startswith(remark) for each in found.remarks)


@pytest.mark.parametrize(
    ("values", "use"),
    [
        ([1, 2, 2, 1], "feature"),
        ([number / 3 for number in range(40)], "feature"),  # a measurement may differ in every row
        ([number % 30 for number in range(40)], "feature"),
        ([f"id{number}" for number in range(19)], "feature"),  # too few to say
        ([f"id{number}" for number in range(40)], "id"),
        ([str(number) for number in range(40)], "id"),
        ([str(number) for number in range(40)], "target"),
        (["north", "south", "12"], "feature"),
        ([None, 7, 8], "feature"),
    ],
)
def test_profile_remarks_nothing_where_nothing_is_suspicious(
    tmp_path: Path, values: list[Any], use: Use
) -> None:
    assert [each for each in profiled(tmp_path, values, use=use).remarks if "classes" not in each] == []


def test_profile_of_a_target_counts_its_classes(tmp_path: Path) -> None:
    assert profiled(tmp_path, [0, 1, 1, 0, 1], use="target").remarks == ("2 classes of 2 to 3 rows",)


def test_profile_of_features_says_what_becomes_of_them(tmp_path: Path) -> None:
    spread = [0.0] * 398 + [1.0, 1000.0]
    table = table_of(tmp_path, a=spread, b=["x", "y"] * 200, c=spread)
    profile = of_all(table, {"c": "quantile"})
    a, b, c = profile.columns
    assert a.prepared is not None
    assert b.prepared is not None
    assert c.prepared is not None
    assert (a.prepared.rule, a.prepared.inputs, a.prepared.clipped) == ("standard", 1, 1 / 400)
    assert (b.prepared.rule, b.prepared.inputs, b.prepared.clipped) == ("one-hot", 2, 0)
    assert (c.prepared.rule, c.prepared.clipped) == ("quantile", 0)
    assert profile.inputs == 4


def test_profile_of_features_names_every_one_that_cannot_be_prepared(tmp_path: Path) -> None:
    table = table_of(tmp_path, a=["x", "y"], b=[1.0, 2.0], c=[1.0, float("inf")])
    found = of_all(table, {"a": "log"})
    assert [column.problem is None for column in found.columns] == [False, True, False]
    with pytest.raises(DataError, match=r"'a' of t\.parquet holds text; the rule 'log' needs numbers"):
        raise_first(found)


def test_profile_of_features_refuses_a_rule_for_no_feature(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not among the features"):
        of_all(table_of(tmp_path, a=[1.0, 2.0]), {"b": "log"})


def test_profile_counts_repeated_ids_over_all_id_columns(tmp_path: Path) -> None:
    table = table_of(tmp_path, a=[1, 1, 2, 2], b=["x", "y", "x", "x"])
    repeated = [profile_table(table, None, ids=ids).repeated_ids for ids in ([], ["a"], ["a", "b"])]
    assert repeated == [0, 2, 1]


def test_profile_shows_no_values(tmp_path: Path) -> None:
    table = table_of(tmp_path, a=["lynx-4711"] * 30, b=[4711.25] * 30, c=[f"lynx{n}" for n in range(30)])
    found = profile_table(table, Unfitted(features=table.names, rules={}), ids=["c"])
    assert "lynx" not in repr(found)
    assert "4711" not in repr(found)
