"""The demonstration's tables: what has to be aligned, and that alignment finds it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.demo.credit import CREDIT_FEATURES, CREDIT_ID, CREDIT_TARGET, credit_path
from moiety.demo.demo import Example, set_up
from moiety.demo.local import simulate
from moiety.demo.tables import BANK_ID, TELCO_ID, write_features, write_labels
from moiety.party.alignment import kept_table
from moiety.party.data_owner.features import open_features
from moiety.party.label_owner.features import read_labels

ROWS = 1500


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Both tables in full: the bank's with ids as they are written, and the telecom company's."""
    folder = tmp_path_factory.mktemp("tables")
    write_labels(folder / "labels.csv", rows=None)
    write_features(folder / "features.parquet", rows=None)
    as_text = csv.ConvertOptions(column_types={BANK_ID: pa.string()})
    return csv.read_csv(folder / "labels.csv", convert_options=as_text), parquet.read_table(
        folder / "features.parquet"
    )


def number_of(text: str) -> int | None:
    return int("".join(each for each in text if each.isdigit())) if text else None


def test_tables_have_other_rows_in_another_order(tables: tuple[Any, Any]) -> None:
    bank = [number_of(text) for text in tables[0].column(BANK_ID).to_pylist()]
    telco = tables[1].column(TELCO_ID).to_pylist()
    assert (len(bank), len(telco)) == (28_785, 28_785)
    common = (set(bank) & set(telco)) - {None}
    assert 26_600 < len(common) < 27_100
    assert min(len(set(bank) - common), len(set(telco) - common)) > 1400
    for numbers in (bank, telco):
        shared = np.array([number for number in numbers if number in common])
        assert abs(np.corrcoef(shared, np.arange(len(shared)))[0, 1]) < 0.05
    assert len({text[:3] for text in tables[0].column(BANK_ID).to_pylist() if text}) > 4


def test_tables_have_blank_and_repeated_ids(tables: tuple[Any, Any]) -> None:
    bank = [number_of(text) for text in tables[0].column(BANK_ID).to_pylist()]
    for numbers in (bank, tables[1].column(TELCO_ID).to_pylist()):
        counts = Counter(numbers)
        assert 100 < counts.pop(None) < 200
        assert 250 < sum(count == 2 for count in counts.values()) < 300
        assert max(counts.values()) == 2


def test_tables_hold_what_the_data_set_has_of_each_customer(tables: tuple[Any, Any]) -> None:
    known = parquet.read_table(credit_path())
    where = {number: row for row, number in enumerate(known.column(CREDIT_ID).to_pylist())}
    numbers = [number_of(text) for text in tables[0].column(BANK_ID).to_pylist()]
    kept = [row for row, number in enumerate(numbers) if number is not None]
    target_N = known.column(CREDIT_TARGET).to_numpy()[[where[numbers[row]] for row in kept]]
    assert np.array_equal(tables[0].column(CREDIT_TARGET).to_numpy()[kept], target_N)
    subscribers = tables[1].column(TELCO_ID).to_pylist()
    kept = [row for row, number in enumerate(subscribers) if number is not None]
    rows = pa.array([where[subscribers[row]] for row in kept])
    expected = known.select(list(CREDIT_FEATURES)).take(rows)
    assert tables[1].select(list(CREDIT_FEATURES)).take(pa.array(kept)).equals(expected)


def test_parties_of_the_demonstration_end_with_rows_of_the_same_customers(tmp_path: Path) -> None:
    parties = set_up(tmp_path / "demo", Example(epochs=1, rows=ROWS), address="127.0.0.1:7443")
    result = simulate(parties.label_owner, parties.data_owner)
    own, peer = load_label_owner_run(parties.label_owner), load_data_owner_run(parties.data_owner)
    bank = kept_table(own, read_labels(own))
    telco = kept_table(peer, open_features(peer))
    numbers = [number_of(text) for text in bank.table.read(BANK_ID).to_pylist()]
    assert numbers == telco.table.read(TELCO_ID).to_pylist()
    assert len(set(numbers)) == len(numbers) == result.rows > 0.85 * ROWS
    assert bank.order_digest == telco.order_digest
