"""A table is prepared in a fraction of its own size."""

from pathlib import Path

from tests.large_table import measured, write

ROWS, COLUMNS = 60_000, 150
TABLE_MB = ROWS * COLUMNS * 8 / 1e6


def test_preparing_a_table_takes_a_fraction_of_its_size(tmp_path: Path) -> None:
    write(tmp_path / "table.parquet", ROWS, COLUMNS)
    found = measured(tmp_path / "table.parquet", tmp_path, piece_values=2**15, whole=True)
    assert found["whole"] - found["before"] > TABLE_MB  # the measure sees a table in memory
    assert found["peak"] - found["before"] < TABLE_MB / 2
