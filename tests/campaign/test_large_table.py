"""A million rows of 300 features, from a file, folder or query: prepared and read below 1 GB of memory."""

from pathlib import Path

import pytest

from tests.support.large_table import measured, query_of, write, write_folder

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(7200)]

LIMIT_MB = 1000


def test_a_million_rows_of_300_features_stay_below_a_gigabyte(tmp_path: Path) -> None:
    """As float64 the table has 2.4 GB, as activations 0.6 GB: neither is ever in memory."""
    write(tmp_path / "table.parquet", 1_000_000, 300)
    found = measured(tmp_path / "table.parquet", tmp_path, piece_values=2**20)
    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))  # noqa: T201
    assert found["peak"] < LIMIT_MB


def test_a_folder_of_a_million_rows_of_300_features_stays_below_a_gigabyte(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "table", 1_000_000, 300, files=50)
    found = measured(folder, tmp_path, piece_values=2**20)
    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))  # noqa: T201
    assert found["peak"] < LIMIT_MB


@pytest.mark.usefixtures("database")
def test_a_query_of_a_million_rows_of_300_features_stays_below_a_gigabyte(tmp_path: Path) -> None:
    found = measured(query_of(1_000_000, 300), tmp_path, piece_values=2**20)
    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))  # noqa: T201
    assert found["peak"] < LIMIT_MB


def test_a_profile_of_a_million_rows_of_300_features_stays_below_a_gigabyte(tmp_path: Path) -> None:
    write(tmp_path / "table.parquet", 1_000_000, 300)
    found = measured(tmp_path / "table.parquet", tmp_path, piece_values=2**20, how="profile")
    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))  # noqa: T201
    assert found["peak"] < LIMIT_MB
