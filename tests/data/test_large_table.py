"""A table is read and prepared in a fraction of its own size, wherever it comes from."""

from pathlib import Path

import pytest

from tests.support.large_table import measured, query_of, write, write_folder

pytestmark = pytest.mark.slow

ROWS, COLUMNS, FILES = 60_000, 150, 5
TABLE_MB = ROWS * COLUMNS * 8 / 1e6


def test_preparing_a_table_takes_a_fraction_of_its_size(tmp_path: Path) -> None:
    write(tmp_path / "table.parquet", ROWS, COLUMNS)
    found = measured(tmp_path / "table.parquet", tmp_path, piece_values=2**15, how="whole")
    assert found["whole"] - found["before"] > TABLE_MB  # the measure sees a table in memory
    assert found["peak"] - found["before"] < TABLE_MB / 2


def test_reading_a_folder_takes_a_fraction_of_its_size(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "table", ROWS, COLUMNS, files=FILES)
    found = measured(folder, tmp_path, piece_values=2**15, how="read")
    assert found["peak"] - found["before"] < TABLE_MB / 2


@pytest.mark.usefixtures("database")
def test_reading_the_result_of_a_query_takes_a_fraction_of_its_size(tmp_path: Path) -> None:
    found = measured(query_of(2 * ROWS, COLUMNS), tmp_path, piece_values=2**15, how="read")
    assert found["peak"] - found["before"] < 3 / 4 * 2 * TABLE_MB
