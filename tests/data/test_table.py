import gc
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from moiety.data.scratch import open_unnamed
from moiety.data.table import Table, read_table
from moiety.errors import CheckpointError, ConfigError, DataError


def write_csv(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def write_parquet(folder: Path, name: str = "t.parquet", **columns: Any) -> Path:
    path = folder / name
    parquet.write_table(pa.table(columns), path)
    return path


def csv_table(folder: Path, text: str, name: str = "t.csv") -> Table:
    return read_table(write_csv(folder, text, name), columns=None)


def test_read_csv_gives_numbers_and_text(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "a,b,c,d\n1,0.5,x,true\n2,-1.5,y,false\n")
    assert (table.rows, table.names) == (2, ("a", "b", "c", "d"))
    assert table.column("a").dtype == np.float64
    np.testing.assert_array_equal(table.column("b"), [0.5, -1.5])
    assert table.column("c").tolist() == ["x", "y"]
    np.testing.assert_array_equal(table.column("d"), [1.0, 0.0])


def test_read_parquet_decodes_every_supported_type(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path,
        small=pa.array([1, 2], pa.int8()),
        large=pa.array([2**60, 1], pa.int64()),
        flag=pa.array([True, None]),
        money=pa.array([None, 2], pa.decimal128(9, 2)),
        word=pa.array(["x", None], pa.large_string()),
        code=pa.array(["u", "v"]).dictionary_encode(),
    )
    table = read_table(path, columns=None)
    np.testing.assert_array_equal(table.column("small"), [1, 2])
    np.testing.assert_array_equal(table.column("large"), [2.0**60, 1])
    np.testing.assert_array_equal(table.column("flag"), [1, np.nan])
    np.testing.assert_array_equal(table.column("money"), [np.nan, 2])
    assert table.column("word").tolist() == ["x", None]
    assert table.column("code").tolist() == ["u", "v"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_read_wanted_columns_in_their_order_once(tmp_path: Path, suffix: str) -> None:
    path = (
        write_csv(tmp_path, "a,b,c\n1,2,3\n")
        if suffix == "csv"
        else write_parquet(tmp_path, a=[1], b=[2], c=[3])
    )
    assert read_table(path, columns=["c", "a", "c"]).names == ("c", "a")


def test_read_csv_column_that_turns_into_text_late(tmp_path: Path) -> None:
    lines = [str(number) for number in range(300_000)]  # more than one block of pyarrow's reader
    table = csv_table(tmp_path, "id\n" + "\n".join(lines) + "\nA7\n")
    assert table.column("id")[[0, -1]].tolist() == ["0", "A7"]


def test_read_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file") as caught:
        read_table(tmp_path / "none.csv", columns=None)
    assert "[table]" in caught.value.hint


def test_read_other_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither a \.csv nor a \.parquet"):
        read_table(write_csv(tmp_path, "a\n1\n", "t.xlsx"), columns=None)


def test_read_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    path = write_csv(tmp_path, "a\n1\n")
    monkeypatch.setattr("pyarrow.csv.open_csv", refuse)  # root may read every file
    with pytest.raises(ConfigError, match="may not be read"):
        read_table(path, columns=None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b""),
        ("t.csv", b"a,b\n1,2\n4711\n"),
        ("t.csv", "a,\xe9\n1,2\n".encode("latin1")),
        ("t.parquet", b"PAR1 and nothing more"),
        ("t.parquet", b""),
    ],
)
def test_read_damaged_file_is_refused_without_values(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(DataError, match="cannot be read as") as caught:
        read_table(write_csv(tmp_path, content, name), columns=None)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "4711" not in str(caught.value) + caught.value.hint


def test_read_no_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        csv_table(tmp_path, "a,b\n")
    with pytest.raises(DataError, match="has no rows"):
        read_table(write_parquet(tmp_path, a=pa.array([], pa.int8())), columns=None)


def test_read_missing_column_suggests_the_closest(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "income,age\n1,2\n")
    with pytest.raises(DataError, match="no column 'incone'") as caught:
        read_table(path, columns=["incone"])
    assert caught.value.hint == "did you mean 'income'?"


def test_read_missing_column_lists_what_there_is(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(30)]
    path = write_csv(tmp_path, ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    with pytest.raises(DataError, match="no column 'zzzzz'") as caught:
        read_table(path, columns=["zzzzz"])
    assert caught.value.hint.endswith("c18, c19, ...")


def test_read_duplicated_column_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than one column 'a'"):
        csv_table(tmp_path, "a,b,a\n1,2,3\n")
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), path)
    with pytest.raises(DataError, match="more than one column 'a'"):
        read_table(path, columns=None)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_read_other_separator_is_refused(tmp_path: Path, separator: str) -> None:
    with pytest.raises(DataError, match="contains a separator") as caught:
        csv_table(tmp_path, f"a{separator}b\n1{separator}2\n")
    assert "commas" in caught.value.hint


@pytest.mark.parametrize(
    "values", [pa.array([[1]]), pa.array([{"x": 1}]), pa.array([b"x"]), pa.array([0], pa.duration("s"))]
)
def test_read_unsupported_type_is_refused_only_if_wanted(tmp_path: Path, values: Any) -> None:
    path = write_parquet(tmp_path, good=[1], bad=values)
    assert read_table(path, columns=["good"]).names == ("good",)
    with pytest.raises(DataError, match=r"column 'bad' of t\.parquet has the type"):
        read_table(path, columns=None)


def test_csv_column_without_values_is_missing_everywhere(tmp_path: Path) -> None:
    assert np.isnan(csv_table(tmp_path, "a,b\n,1\n,2\n").column("a").astype(float)).all()


def test_column_that_was_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'b'"):
        csv_table(tmp_path, "a\n1\n").column("b")


def test_table_repr_shows_no_values(tmp_path: Path) -> None:
    assert "4711" not in repr(csv_table(tmp_path, "a\n4711\n"))


def test_id_digest_does_not_depend_on_file_format_or_type(tmp_path: Path) -> None:
    numbers = csv_table(tmp_path, "id,x\n7,1\n12,2\n")
    small = read_table(write_parquet(tmp_path, key=pa.array([7, 12], pa.uint8())), columns=None)
    text = read_table(write_parquet(tmp_path, "s.parquet", key=["7", "12"]), columns=None)
    assert len(numbers.id_digest(["id"])) == 32
    assert numbers.id_digest(["id"]) == small.id_digest(["key"]) == text.id_digest(["key"])


@pytest.mark.parametrize(
    "other", ["a,b\n12,7\n3,4\n", "a,b\n7,12\n3,5\n", "a,b\n71,2\n3,4\n", "a,b\n7,12\n3,4\n5,6\n"]
)
def test_id_digest_tells_other_ids_apart(tmp_path: Path, other: str) -> None:
    table = csv_table(tmp_path, "a,b\n7,12\n3,4\n")
    assert table.id_digest(["a", "b"]) != csv_table(tmp_path, other, "o.csv").id_digest(["a", "b"])


def test_id_digest_tells_moved_boundaries_and_order_apart(tmp_path: Path) -> None:
    whole = csv_table(tmp_path, "a\n1\n23\n")
    moved = csv_table(tmp_path, "a\n12\n3\n")
    turned = csv_table(tmp_path, "a\n23\n1\n")
    assert len({table.id_digest(["a"]) for table in (whole, moved, turned)}) == 3


def test_id_digest_without_columns_is_the_number_of_rows(tmp_path: Path) -> None:
    two, also_two = csv_table(tmp_path, "a\n1\n2\n"), csv_table(tmp_path, "b\n3\n4\n")
    assert two.id_digest([]) == also_two.id_digest([])
    assert two.id_digest([]) != csv_table(tmp_path, "a\n1\n").id_digest([])


def test_id_digest_is_the_documented_one(tmp_path: Path) -> None:
    digest = csv_table(tmp_path, "a\n1\n23\n").id_digest(["a"])
    assert digest.hex() == "0e9d6235950ed2dc400cd4d839f105250d334248933b28939d1505d236fe804a"


def test_id_digest_of_missing_or_fractional_ids_is_refused(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "a,b\n1,0.5\n,1.5\n2,2.5\n")
    with pytest.raises(DataError, match=r"id column 'a' of t\.csv is missing in 1 rows"):
        table.id_digest(["a"])
    with pytest.raises(DataError, match=r"id column 'b' of t\.csv has the type double"):
        table.id_digest(["b"])


def test_first_rows_of_a_table(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "a,b\n1,x\n2,y\n3,z\n")
    assert (table.first(2).rows, table.first(9).rows) == (2, 3)
    np.testing.assert_array_equal(table.first(2).column("a"), [1, 2])
    assert table.first(2).first(1).column("b").tolist() == ["x"]


def test_id_digest_does_not_depend_on_how_many_ids_are_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = csv_table(tmp_path, "a,b\n7,x\n12,y\n345,zz\n")
    expected = table.id_digest(["a", "b"])
    monkeypatch.setattr("moiety.data.table._IDS_AT_ONCE", 2)
    assert table.id_digest(["a", "b"]) == expected


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["1"] * 90 + ["2.5"], "double"),
        (["1"] * 90 + ["x"], "string"),
        ([""] * 90 + ["7"], "int64"),
        (["", "NA"] * 45 + ["yes"], "string"),
        (["1"] * 90 + ["true"], "bool"),
        (["7"] * 90 + ["true"], "string"),
        (["1", "0"] * 45 + ["false"], "bool"),
        (["true"] * 90 + ["7"], "string"),
        (["2024-01-01"] * 90 + ["2024-01-01 10:00:00"], "timestamp[ms]"),
        (["2024-01-01 10:00:00"] * 90 + ["2024-01-01 10:00:00.5"], "timestamp[ns]"),
        (["2024-01-01"] * 90 + ["soon"], "string"),
        (["2024-01-01"] * 90 + ["7"], "string"),
        (["10:00:00"] * 90 + [""], "time32[ms]"),
        (["1.5"] * 90 + ["true"], "string"),
        (["007"] * 90 + ["A7"], "string"),
        (['"two\nlines"'] * 90, "string"),
        (["0.5", "NA"] * 45 + ["7"], "double"),
        (["1"] * 90 + ['"a, b"', '"two\nlines"', '"a ""word"""', '""'], "string"),
    ],
)
def test_read_csv_gives_types_that_all_values_have_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], kind: str
) -> None:
    path = write_csv(tmp_path, "n,v\n" + "".join(f"{number},{line}\n" for number, line in enumerate(lines)))
    one_block = csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=2**20),
        parse_options=csv.ParseOptions(newlines_in_values=True),
    )
    monkeypatch.setattr("moiety.data.csv_file._BLOCK_BYTES", 64)
    monkeypatch.setattr("moiety.data.parquet_file._GROUP_VALUES", 14)
    table = read_table(path, columns=None)
    assert str(table.read("v").type) == kind
    assert table.read("v").to_pylist() == one_block.column("v").to_pylist()
    assert table.read("n").to_pylist() == list(range(len(lines)))


def test_dates_and_times_are_numbers(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "day,at\n1970-01-03,1970-01-01 00:01:00\n,\n")
    np.testing.assert_array_equal(table.column("day"), [2, np.nan])
    np.testing.assert_array_equal(table.column("at"), [60, np.nan])
    values: dict[str, Any] = {
        "a": pa.array([86_400_000], pa.date64()),
        "b": pa.array([1500], pa.timestamp("ms", tz="Europe/Berlin")),
        "c": pa.array([1500], pa.time32("ms")),
        "d": pa.array([1500], pa.time64("us")),
        "e": pa.array([-(2**62)], pa.timestamp("ns")),
    }
    table = read_table(write_parquet(tmp_path, **values), columns=None)
    assert [table.column(name)[0] for name in values] == [1, 1.5, 1.5, 0.0015, -(2**62) / 1e9]


def test_read_csv_copies_into_an_unnamed_file_for_as_long_as_the_table_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def opening(folder: Path) -> Any:
        opened.append(open_unnamed(folder))
        return opened[-1]

    monkeypatch.setattr("moiety.data.sources.open_unnamed", opening)
    table: Table | None = read_table(write_csv(tmp_path, "a\n1\n2\n"), columns=None, scratch=tmp_path / "run")
    assert table is not None
    np.testing.assert_array_equal(table.column("a"), [1, 2])
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]
    (tmp_path / "t.csv").unlink()
    np.testing.assert_array_equal(table.column("a"), [1, 2])
    assert [file.closed for file in opened] == [False]
    table = None
    gc.collect()
    assert [file.closed for file in opened] == [True]
    with pytest.raises(DataError, match="has no column"):
        read_table(write_csv(tmp_path, "a\n1\n"), columns=["bb"], scratch=tmp_path / "run")
    assert [file.closed for file in opened] == [True, True]


def test_read_csv_without_room_for_the_copy_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "a\n" + "".join(f"{number}\n" for number in range(5000)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"run cannot be written: File too large") as caught:
            read_table(path, columns=None, scratch=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room" in caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]


def write_folder(folder: Path, **parts: pa.Table) -> Path:
    folder.mkdir()
    for name, part in parts.items():
        parquet.write_table(part, folder / f"{name}.parquet")
    return folder


def test_read_folder_takes_its_parquet_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "t.parquet",
        part2=pa.table({"a": [5], "b": pa.array(["v"]).dictionary_encode()}),
        part1=pa.table({"a": [3, 4], "b": pa.array(["u", "v"]).dictionary_encode()}),
        part3=pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}),
    )
    for name in ("_metadata.parquet", ".hidden.parquet", "_SUCCESS"):
        (folder / name).write_bytes(b"of another system")
    table = read_table(folder, columns=["b", "a"])
    assert (table.rows, table.names) == (3, ("b", "a"))
    np.testing.assert_array_equal(table.column("a"), [3, 4, 5])
    assert table.column("b").tolist() == ["u", "v", "v"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (pa.table({"a": [1.5]}), "has 'a' as double, and p1.parquet has it as int64"),
        (pa.table({"b": [1]}), "lacks the column 'a', which p1.parquet has"),
        (pa.table({"a": [1], "b": [1]}), "has a column 'b', which p1.parquet lacks"),
        (pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), "more or fewer times than p1.parquet"),
    ],
)
def test_read_folder_of_different_files_says_how_they_differ(
    tmp_path: Path, other: pa.Table, says: str
) -> None:
    folder = write_folder(tmp_path / "t", p1=pa.table({"a": [1]}), p2=pa.table({"a": [2]}), p3=other)
    with pytest.raises(DataError, match=r"p3\.parquet ") as caught:
        read_table(folder, columns=None)
    assert says in caught.value.message
    assert "same columns" in caught.value.hint


def test_read_folder_takes_files_whose_columns_are_in_another_order(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "t", p1=pa.table({"a": [1], "b": [2]}), p2=pa.table({"b": [4], "a": [3]})
    )
    table = read_table(folder, columns=None)
    assert table.names == ("a", "b")
    np.testing.assert_array_equal(table.column("b"), [2, 4])


def test_read_folder_with_parquet_files_below_it_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    write_folder(tmp_path / "t" / "year=2024", p1=pa.table({"a": [1]}))
    with pytest.raises(DataError, match="folder without Parquet files") as caught:
        read_table(tmp_path / "t", columns=None)
    assert "subfolders" in caught.value.hint


def test_read_folder_with_a_file_that_may_not_be_read_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    folder = write_folder(tmp_path / "t", p1=pa.table({"a": [1]}))
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", refuse)  # root may read every file
    with pytest.raises(ConfigError, match=r"p1\.parquet in t may not be read"):
        read_table(folder, columns=None)


def test_read_folder_with_a_file_cut_short_behind_its_start_names_it(tmp_path: Path) -> None:
    """What a copy that was interrupted leaves behind."""
    folder = write_folder(tmp_path / "t", p1=pa.table({"a": [1]}), p2=pa.table({"a": [4711]}))
    content = (folder / "p2.parquet").read_bytes()
    (folder / "p2.parquet").write_bytes(content[:-20])
    with pytest.raises(DataError, match=r"p2\.parquet in t cannot be read as parquet") as caught:
        read_table(folder, columns=None)
    assert "partly written" in caught.value.hint


def test_read_folder_without_parquet_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder without Parquet files") as caught:
        read_table(tmp_path, columns=None)
    assert caught.value.hint


def test_read_folder_with_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "t", p1=pa.table({"a": [1]}))
    (folder / "p2.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match=r"p2\.parquet in t cannot be read as parquet"):
        read_table(folder, columns=None)


def test_only_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, a=np.arange(3000), b=np.arange(3000) ** 2)
    chunk = parquet.read_metadata(path).row_group(0).column(1)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset
    content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(content)
    table = read_table(path, columns=None)
    np.testing.assert_array_equal(table.column("a"), np.arange(3000))
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as parquet") as caught:
        table.column("b")
    assert caught.value.__cause__ is None


def test_column_of_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    table = read_table(write_parquet(tmp_path, a=[1, 2]), columns=None)
    write_parquet(tmp_path, a=[1, 2, 3])
    with pytest.raises(DataError, match=r"t\.parquet has changed since it was opened") as caught:
        table.column("a")
    assert caught.value.hint.startswith("start again")


def test_take_gives_these_rows_in_this_order(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "a,b\n1,x\n2,y\n3,\n4,w\n").take(np.array([3, 0, 2, 3]))
    assert (table.rows, table.names) == (4, ("a", "b"))
    np.testing.assert_array_equal(table.column("a"), [4, 1, 3, 4])
    assert table.column("b").tolist() == ["w", "x", "", "w"]
    assert table.first(2).column("b").tolist() == ["w", "x"]
    assert table.take(np.array([1])).column("a").tolist() == [1]


def test_take_reads_columns_when_they_are_asked_for(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, a=[1, 2], b=[3, 4])
    table = read_table(path, columns=None).take(np.array([1]))
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        table.column("a")


def test_take_digests_the_ids_in_the_order_taken(tmp_path: Path) -> None:
    rows = csv_table(tmp_path, "id\nu\nv\n").take(np.array([1, 0]))
    assert rows.id_digest(["id"]) == csv_table(tmp_path, "id\nv\nu\n", "o.csv").id_digest(["id"])


@pytest.mark.parametrize("rows", [[], [-1], [2]])
def test_take_of_rows_that_are_not_there_is_refused(tmp_path: Path, rows: list[int]) -> None:
    with pytest.raises(DataError, match="not among the 2"):
        csv_table(tmp_path, "a\n1\n2\n").take(np.array(rows, dtype=np.int64))
