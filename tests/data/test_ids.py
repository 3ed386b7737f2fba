"""Ids in one form: what each rule makes of a text, which rows are left out, and when a digest changes."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from moiety.crypto.psi import Ristretto255
from moiety.data.ids import Ids
from moiety.data.table import Table, read_table
from moiety.errors import DataError

GROUP = Ristretto255()


def table_of(folder: Path, name: str = "t", **columns: Any) -> Table:
    path = folder / f"{name}.parquet"
    parquet.write_table(pa.table(columns), path)
    return read_table(path, columns=None)


def ids(table: Table, *rules: Sequence[str], columns: Sequence[str] = ("a",)) -> Ids:
    return Ids(table, columns=columns, normalise=rules)


def rows_of(table: Table, *rules: Sequence[str], columns: Sequence[str] = ("a",)) -> list[int]:
    found = ids(table, *rules, columns=columns).hashed(GROUP, keep_first=True)
    assert len(found.elements) == len(found.rows)
    return [int(row) for row in found.rows]


@pytest.mark.parametrize(
    ("rules", "one", "other"),
    [
        (["trim"], "  TW 1 ", "TW 1"),
        (["case"], "Straße", "STRASSE"),
        (["unicode"], "\uff21\u00bd", "A1\u20442"),
        (["alphanumeric"], "AB-12/3", "AB 123"),
        (["digits", "integer"], "TW-0012", "12"),
        (["integer"], "000123", "123"),
        (["trim", "case", "alphanumeric"], " ab-1", "AB 1 "),
        (["date"], "2024-02-09", "2024-02-09T17:30:00"),
    ],
)
def test_rules_bring_both_writings_into_one_form(
    tmp_path: Path, rules: list[str], one: str, other: str
) -> None:
    here, there = table_of(tmp_path, "here", a=[one]), table_of(tmp_path, "there", a=[other])
    assert ids(here, rules).digest() == ids(there, rules).digest()
    assert ids(here).digest() != ids(there).digest()


def test_dates_of_other_formats_and_types_are_the_same_ids(tmp_path: Path) -> None:
    days = [date(2024, 2, 9), date(1999, 12, 31)]
    typed = ids(table_of(tmp_path, "typed", a=days), ["date"])
    german = ids(table_of(tmp_path, "german", a=["09.02.2024", " 31.12.1999"]), ["date %d.%m.%Y"])
    assert typed.digest() == german.digest()


@pytest.mark.parametrize("values", [[1, 22], [1.0, 22.0], ["1", "22"]])
def test_whole_numbers_of_any_type_are_the_same_ids(tmp_path: Path, values: list[Any]) -> None:
    text = ids(table_of(tmp_path, "text", a=["1", "22"])).digest()
    assert ids(table_of(tmp_path, a=values)).digest() == text


def test_numbers_above_what_floats_hold_stay_exact(tmp_path: Path) -> None:
    assert rows_of(table_of(tmp_path, a=[2**62, 2**62 + 1])) == [0, 1]


@pytest.mark.parametrize("value", [0.5, 2.0**60])
def test_numbers_that_name_nobody_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match=r"fraction, or above 2\^53"):
        ids(table_of(tmp_path, a=[1.0, value])).digest()


def test_parts_of_an_id_do_not_run_together(tmp_path: Path) -> None:
    both = ("a", "b")
    here = table_of(tmp_path, "here", a=["a", "ab"], b=["bc", "c"])
    assert rows_of(here, columns=both) == [0, 1]
    there = table_of(tmp_path, "there", a=["ab", "a"], b=["c", "bc"])
    mine = ids(here, columns=both).hashed(GROUP, keep_first=False).elements
    theirs = ids(there, columns=both).hashed(GROUP, keep_first=False).elements
    assert mine[0].tolist() == theirs[1].tolist() != theirs[0].tolist()


def test_rows_without_a_usable_id_are_left_out_and_counted(tmp_path: Path) -> None:
    table = table_of(tmp_path, a=["1", None, " ", "x", "1", "2"])
    found = ids(table, ["trim", "integer"]).hashed(GROUP, keep_first=True)
    assert found.rows.tolist() == [0, 5]
    assert (found.missing, found.unreadable, found.repeated) == (2, 1, 1)


def test_float_ids_that_are_missing_are_left_out(tmp_path: Path) -> None:
    assert rows_of(table_of(tmp_path, a=pa.array([1.0, None, float("nan"), 4.0]))) == [0, 3]


def test_repeated_ids_are_refused_unless_the_first_may_stay(tmp_path: Path) -> None:
    table = table_of(tmp_path, a=["x", "X", "y"])
    assert rows_of(table) == [0, 1, 2]
    assert rows_of(table, ["case"]) == [0, 2]
    with pytest.raises(DataError, match="1 of 3 rows") as caught:
        ids(table, ["case"]).hashed(GROUP, keep_first=False)
    assert 'duplicates = "first"' in caught.value.hint


@pytest.mark.parametrize(
    ("values", "rules", "hint"),
    [([None, ""], [], "correct id"), (["x", "y"], ["date"], "normalise")],
)
def test_table_without_any_id_is_refused(
    tmp_path: Path, values: list[Any], rules: list[str], hint: str
) -> None:
    table = table_of(tmp_path, a=pa.array(values, pa.string()))
    with pytest.raises(DataError, match="has an id in a") as caught:
        ids(table, rules).hashed(GROUP, keep_first=True)
    assert hint in caught.value.hint


def test_digest_changes_with_order_and_with_what_is_missing(tmp_path: Path) -> None:
    tables = [["a"], ["b", "a"], ["a", "b"], ["a", None], ["a", None, "b"], ["ab"]]
    digests = {
        ids(table_of(tmp_path, str(number), a=pa.array(values, pa.string()))).digest()
        for number, values in enumerate(tables)
    }
    assert len(digests) == len(tables)


def test_column_that_is_no_id_is_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path, a=[True, False])
    with pytest.raises(DataError, match="type bool"):
        ids(table).digest()
    with pytest.raises(DataError, match="no column 'b'"):
        ids(table, columns=["b"]).digest()
