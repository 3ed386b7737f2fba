"""Ids keep every character and digit from the source to the scores."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.config.source import Query
from moiety.data import csv_file
from moiety.data.columns import exact_ids
from moiety.data.table import Table, read_table
from moiety.party.alignment import own_assignment
from moiety.party.data_owner.features import open_features
from moiety.party.label_owner.features import read_labels
from moiety.party.label_owner.train import train
from tests.support.parties import configure, make_parties, rewrite_table, score, wire, with_column
from tests.support.randomness import RecordedRandomness

LARGEST = 2**63 - 1
WRITTEN = [
    "000123",
    str(LARGEST),
    "",
    " 7 ",
    '"say ""x"""',
    '"a,b"',
    "NA",
    "1e5",
    "00.10",
    '""',
    '"two\nlines"',
]
MEANT = ["000123", str(LARGEST), None, " 7 ", 'say "x"', "a,b", "NA", "1e5", "00.10", None, "two\nlines"]


def table_of(folder: Path, ids: list[str], values: list[str] | None = None) -> Table:
    values = values or [str(number) for number in range(len(ids))]
    lines = [f"{one},{value}\n" for one, value in zip(ids, values, strict=True)]
    (folder / "t.csv").write_text("customer,v\n" + "".join(lines), encoding="utf-8")
    return read_table(folder / "t.csv", columns=None, ids=["customer"])


def test_ids_of_a_csv_file_are_text_as_it_is_written(tmp_path: Path) -> None:
    table = table_of(tmp_path, WRITTEN)
    assert table.read("customer").to_pylist() == MEANT
    assert str(table.read("v").type) == "int64"


def test_ids_are_the_same_text_where_types_are_found_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", 32)
    ids = [f"{number:06}" for number in range(50)]
    table = table_of(tmp_path, ids, ["1"] * 49 + ["0.5"])
    assert table.read("customer").to_pylist() == ids
    assert str(table.read("v").type) == "double"


def test_ids_alone_may_have_lines_in_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_BLOCK_BYTES", 32)
    (tmp_path / "t.csv").write_text("customer\n" + '"two\nlines"\n007\n' * 9, encoding="utf-8")
    table = read_table(tmp_path / "t.csv", columns=["customer"], ids=["customer"])
    assert table.read("customer").to_pylist() == ["two\nlines", "007"] * 9


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([LARGEST, -(2**63), None]), [LARGEST, -(2**63), None]),
        (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
        (pa.array([Decimal(10**37), None], pa.decimal128(38, 0)), [str(10**37), None]),
        (pa.array([Decimal("12345678901234567.10")], pa.decimal128(38, 2)), ["12345678901234567.10"]),
        (pa.array(["007", "", None]), ["007", None, None]),
        (pa.array(["007", "", "007"]).dictionary_encode(), ["007", None, "007"]),
    ],
)
def test_ids_of_a_parquet_file_keep_their_digits(tmp_path: Path, ids: Any, expected: list[Any]) -> None:
    parquet.write_table(pa.table({"customer": ids}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", columns=None, ids=["customer"])
    assert table.read("customer").to_pylist() == expected


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12345678901234567890123::numeric(23,0)", "12345678901234567890123"),
        ("12345678901234567.10::numeric", "12345678901234567.10"),
        ("7::numeric(5,0)", "7"),
        ("'NaN'::numeric", None),
        ("9223372036854775807::int8", LARGEST),
        ("'007'::text", "007"),
        ("''::text", None),
    ],
)
def test_ids_of_a_query_keep_their_digits(value: str, expected: Any) -> None:
    query = Query(postgresql=f"select {value} as customer, 0.5::numeric as v")
    table = read_table(query, columns=None, ids=["customer"])
    assert table.read("customer").to_pylist() == [expected]
    assert str(table.read("v").type) == "double"


def with_csv(path: Path, *, source: str, columns: dict[str, list[str]]) -> None:
    """Give a party its columns as a CSV file, written as they are."""
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    (path.parent / source).write_text("\n".join(lines) + "\n", encoding="utf-8")
    configure(path, {"table.source": source})


def test_id_that_also_splits_the_rows_or_is_a_feature_is_read_as_what_it_is_there(tmp_path: Path) -> None:
    files = make_parties(tmp_path, ids=True)
    days = [f"2024-01-{day:02}" for day in range(1, 21)]
    numbers = [str(number) for number in range(20)]
    with_csv(
        files.data_owner,
        source="t.csv",
        columns={"branch": [f"0{number}" for number in numbers], "day": days, "age": numbers, "v": numbers},
    )
    configure(
        files.data_owner,
        {
            "table.id": ["branch", "day", "age"],
            "table.features": ["age", "v"],
            "split.by": "day",
            "split.test": 0.2,
            "split.reveals": "periods",
        },
    )
    settings = load_data_owner_run(files.data_owner)
    assert exact_ids(settings) == ("branch",)
    table = open_features(settings)
    assert table.read("branch").to_pylist()[:2] == ["00", "01"]
    assert str(table.read("age").type) == "int64"
    assert own_assignment(settings.split, table) is not None


def test_both_parties_read_ids_as_text_and_scores_carry_them(tmp_path: Path) -> None:
    files = make_parties(tmp_path, ids=True)
    ids = [f"{number:08}" for number in range(599)] + [str(LARGEST)]
    for path in (files.label_owner, files.data_owner):
        table = parquet.read_table(next(path.parent.glob("*.parquet"))).drop_columns("customer")
        columns = {
            name: [str(value) for value in table.column(name).to_pylist()] for name in table.column_names
        }
        with_csv(path, source="t.csv", columns={"customer": ids} | columns)
    assert read_labels(load_label_owner_run(files.label_owner)).read("customer").to_pylist() == ids
    assert open_features(load_data_owner_run(files.data_owner)).read("customer").to_pylist() == ids
    train(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"ids"))
    score(files, tmp_path / "scores.csv")
    as_text = csv.ConvertOptions(column_types={"customer": pa.string()})
    written = csv.read_csv(tmp_path / "scores.csv", convert_options=as_text).column("customer")
    assert sorted(written.to_pylist()) == sorted(ids)


def test_scores_of_whole_numbers_as_ids_keep_their_digits(tmp_path: Path) -> None:
    files = make_parties(tmp_path, ids=True)
    ids = [2**62 + number for number in range(600)]
    for path in (files.label_owner, files.data_owner):
        rewrite_table(next(path.parent.glob("*.parquet")), with_column("customer", ids))
    train(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"ids"))
    written = score(files, tmp_path / "scores.csv").column("customer").to_pylist()
    assert sorted(written) == ids
