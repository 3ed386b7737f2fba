"""How often a session reads a column of either party's table, and fits it: twice at most, and once."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from moiety.data import look, preparation, prepared_column
from moiety.data.parquet_file import ParquetColumns
from tests.support.bottom_runs import make_folder
from tests.support.parties import ROWS, Files, configure, make_parties, meet, rewrite_table, score


class Seen:
    """What was read and fitted, by the table's file and the column."""

    def __init__(self) -> None:
        self.reads: Counter[tuple[str, str]] = Counter()
        self.fits: Counter[str] = Counter()

    def of(self, file: str) -> set[str]:
        """Name the columns of a file that were read."""
        return {name for source, name in self.reads if source == file}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, read, fit = Seen(), ParquetColumns.read, prepared_column.fit_column

    def reading(columns: ParquetColumns, name: str) -> Any:
        found.reads[columns._source.name, name] += 1
        return read(columns, name)

    def fitting(*arguments: Any, **options: Any) -> Any:
        found.fits[options["name"]] += 1
        return fit(*arguments, **options)

    monkeypatch.setattr(ParquetColumns, "read", reading)
    for module in (preparation, look):
        monkeypatch.setattr(module, "fit_column", fitting)
    return found


TEXT = ["north", "south", "", "east", "west"] * (ROWS // 5)


def with_more_columns(table: pa.Table) -> pa.Table:
    """Add a column for each way in which one can be prepared."""
    number = np.arange(ROWS)
    more = {
        "place": TEXT,
        "code": number % 7,
        "sparse": [None, 1.0, 2.0] * (ROWS // 3),
        "constant": [5.0] * ROWS,
        "amount": np.exp(number / 40.0),
        "day": number % 30,
    }
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    return table


def mixed(folder: Path, *, ids: bool) -> Files:
    """Make two parties with own columns on both sides, whose rows a feature splits."""
    files = make_parties(folder, ids=ids)
    for path, name in ((files.label_owner, "labels"), (files.data_owner, "features")):
        rewrite_table(path.with_name(f"{name}.parquet"), with_more_columns)
        configure(path, {"prepare.code": "one-hot"})
    configure(files.label_owner, {"table.features": OWN, "split": {"reveals": "periods"}})
    features, split = [*OWN, "constant", "f0", "day"], {"by": "day", "reveals": "periods"}
    configure(files.data_owner, {"table.features": features, "split": split})
    return files


OWN = ["place", "code", "sparse", "amount"]


@pytest.mark.parametrize("ids", [[], ["customer"]])
def test_a_session_reads_each_column_twice_and_fits_it_once(
    tmp_path: Path, seen: Seen, ids: list[str]
) -> None:
    files = mixed(tmp_path, ids=bool(ids))
    assert meet(files).result is not None
    assert seen.of("labels.parquet") == {"target", *OWN, *ids}
    assert seen.of("features.parquet") == {"f0", "day", "constant", *OWN, *ids}
    assert max(seen.reads.values()) == 2
    assert seen.fits == dict.fromkeys(OWN, 2) | {"f0": 1, "day": 1, "constant": 1}  # once on each side

    for kept in tmp_path.glob("*/small/alignment-*.json"):
        kept.unlink()  # as with other tables, whose rows are yet to be aligned
    seen.reads.clear()
    seen.fits.clear()
    score(files, tmp_path / "scores.csv")
    assert seen.of("labels.parquet") == {*OWN, *ids}
    assert seen.of("features.parquet") == {"f0", "day", "constant", *OWN, *ids}
    assert max(seen.reads.values()) == 2
    assert not seen.fits


@pytest.mark.parametrize("protocol", ["blind", "joint"])
def test_a_session_with_a_bottom_model_reads_twice_and_fits_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen, protocol: str
) -> None:
    folder = make_folder(tmp_path, monkeypatch)
    folder.choose(protocol, "dense", frozen=protocol == "blind")
    folder.run()
    assert len(seen.of("features.parquet")) == 8
    assert max(seen.reads.values()) == 2
    assert set(seen.fits.values()) == {1}
