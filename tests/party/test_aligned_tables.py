"""Alignment from file to file: forms of ids, orders, and no row beside another's."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from moiety.errors import AlignmentError, DataError
from moiety.party.label_owner.align import align
from tests.support.aligned_tables import common, who_is_where, write_tables
from tests.support.parties import configure, wire


@pytest.mark.slow
def test_ten_thousand_rows_are_beside_their_own(tmp_path: Path) -> None:
    files = write_tables(tmp_path, rows=10_000)
    sentence = align(files.label_owner, channel=wire(files))
    mine, theirs = who_is_where(files)
    assert np.count_nonzero(mine != theirs) == 0
    assert len(mine) == common(files) == 8_889
    assert len(np.unique(mine)) == len(mine)
    assert "8,889 of 10,000 rows are common" in sentence


def test_rows_of_other_customers_would_be_counted(tmp_path: Path) -> None:
    """The control: where one side's ids are another's, the count of misaligned rows is not 0."""
    files = write_tables(tmp_path, rows=500)
    source = files.data_owner.with_name("features.parquet")
    table = parquet.read_table(source)
    others = table.column("customer").to_numpy() + 1
    parquet.write_table(table.set_column(0, "customer", pa.array(others)), source)
    align(files.label_owner, channel=wire(files))
    mine, theirs = who_is_where(files)
    assert np.count_nonzero(mine != theirs) == len(mine) > 400


@pytest.mark.parametrize("form", [[["integer"]], [["alphanumeric", "case"]], []])
def test_ids_without_the_right_rules_meet_nobody(tmp_path: Path, form: list[list[str]]) -> None:
    files = write_tables(tmp_path, rows=100)
    for path in (files.label_owner, files.data_owner):
        configure(path, {"table.normalise": form})
    with pytest.raises((AlignmentError, DataError)) as caught:
        align(files.label_owner, channel=wire(files))
    assert caught.value.hint
