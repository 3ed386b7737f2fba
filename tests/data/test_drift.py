"""Drift against the training rows: counted, judged, and told to the owner of the table alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from moiety.data.drift import FEWEST_ROWS, drift_sentences, stability_index
from moiety.data.preparation import Preparation
from moiety.data.table import Table
from moiety.data.table_pass import TablePass
from moiety.demo.local import simulate
from moiety.errors import DataError, MoietyError
from moiety.party.label_owner.predict import predict
from moiety.party.label_owner.train import Silence
from tests.data.test_preparation import drifts, table
from tests.support.parties import (
    ROWS,
    Files,
    Provider,
    configure,
    make_parties,
    meet,
    rewrite_table,
    run_here,
    score,
)
from tests.support.randomness import RecordedRandomness, words_of

N = 400
UNIFORM = words_of("drift", N).astype(np.float64) * 2.0**-64
TRAINING = {"a": UNIFORM, "b": ["x", "y", "x", "z"] * (N // 4), "c": [1.0, None] * (N // 2)}


def prepared() -> Preparation:
    source = table(**TRAINING)
    return Preparation.fit(source, features=source.names, rules={}, rows=np.arange(N))


def notes(preparation: Preparation, source: Table, *, training: NDArray[np.int64] | None = None) -> list[str]:
    passed = TablePass(source, preparation, training=training)
    passed.stacked()
    return passed.notes()


def test_drift_counts_what_is_missing_unseen_and_outside() -> None:
    later = table(a=[2.0, -1.0, 0.5, None], b=["x", "new", "", "other"], c=[1.0, None, 7.0, None])
    a, b, c = drifts(prepared(), later)
    assert (a.rows, a.missing, a.newly_missing, a.unseen, a.outside) == (4, 1, 1, 0, 2)
    assert (b.missing, b.newly_missing, b.unseen, b.outside) == (1, 1, 2, 0)
    assert (c.missing, c.newly_missing, c.missing_before, c.outside) == (2, 0, 0.5, 1)


def test_drift_looks_at_the_rows_it_is_given() -> None:
    later = table(a=[0.5, 2.0], b=["x", "new"], c=[1.0, 1.0])
    assert not any(each.outside or each.unseen for each in drifts(prepared(), later, training=np.array([1])))
    assert any(each.outside for each in drifts(prepared(), later, training=np.array([0])))


def test_stability_index_is_the_sum_over_groups() -> None:
    before, now = np.array([0.2, 0.3, 0.5]), np.array([0.5, 0.3, 0.2])
    expected = sum((q - p) * np.log(q / p) for p, q in zip(before, now, strict=True))
    assert stability_index(before, now) == pytest.approx(expected)
    assert stability_index(before, before) == 0
    assert np.isfinite(stability_index(np.array([0.0, 1.0]), np.array([1.0, 0.0])))


def test_a_shift_is_told_from_chance() -> None:
    fresh = words_of("fresh rows", 200).astype(np.float64) * 2.0**-64
    same = table(a=fresh, b=["x", "y", "x", "z"] * 50, c=[1.0, None] * 100)
    assert not any(each.shifted for each in drifts(prepared(), same))
    moved = table(a=fresh * 0.5, b=["z"] * 200, c=[None] * 200)
    assert [each.shifted for each in drifts(prepared(), moved)] == [True, True, True]
    # The same shares of a handful of rows say nothing.
    few = moved.first(FEWEST_ROWS - 1)
    assert not any(each.shifted for each in drifts(prepared(), few))


def test_sentences_name_the_columns_that_stand_out_and_no_values() -> None:
    later = table(a=UNIFORM * 0.3, b=["x", "secret"] * 200, c=[1.0, None] * 200)
    first, *others = drift_sentences(drifts(prepared(), later), what="rows to score")
    assert first.startswith("drift of 400 rows to score against the training rows: 0 values missing")
    assert "200 of unseen categories" in first
    assert [sentence.split(":")[0] for sentence in others] == ["column 'a'", "column 'b'"]
    assert "shifted, stability index" in others[0]
    assert "200 of 400 rows have categories that no training row had" in others[1]
    assert "it may be an id" in others[1]
    assert "secret" not in "".join([first, *others])


def test_rows_to_score_of_mostly_unseen_categories_are_refused() -> None:
    later = table(a=UNIFORM, b=["x", "X"] * 200, c=[1.0, None] * 200)
    with pytest.raises(DataError, match=r"column 'b' of t\.csv: 200 of 400 rows have categories") as caught:
        notes(prepared(), later)
    assert "as in the table that the model was trained with" in caught.value.hint
    # Fewer than half, or too few rows to tell, are reported and scored.
    assert len(notes(prepared(), table(a=UNIFORM, b=["x", "y", "X", "z"] * 100, c=[1.0] * N))) > 1
    assert len(notes(prepared(), later.first(FEWEST_ROWS - 1))) > 1


def test_notes_of_training_look_at_held_out_rows_and_name_what_is_left_out() -> None:
    source = table(a=[0.0, 1.0, 99.0], b=["x", "y", "new"], k=[5, 5, 5])
    training = np.array([0, 1])
    fitted = Preparation.fit(source, features=source.names, rules={}, rows=training)
    left_out, total, *_ = notes(fitted, source, training=training)
    assert left_out == "column 'k' is left out: every training row has the same value"
    assert "drift of 1 rows kept from training" in total
    assert "1 of unseen categories, 1 out of range" in total
    assert len(notes(fitted, source, training=np.arange(3))) == 1  # nothing is held out


class Notices(Silence):
    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, sentence: str) -> None:
        self.said.append(sentence)


CITY = [f"c{word % 5}" for word in words_of("city", ROWS).tolist()]


def both_with_a_city(folder: Path) -> Files:
    files = make_parties(folder)
    for path in (folder / "bank" / "labels.parquet", folder / "telco" / "features.parquet"):
        rewrite_table(path, lambda source: source.append_column("city", pa.array(CITY)))
    configure(files.label_owner, {"table.features": ["city"]})
    return files


def rename_cities(path: Path, share: int) -> None:
    def change(source: Any) -> Any:
        renamed = [city.upper() if row % share == 0 else city for row, city in enumerate(CITY)]
        return source.set_column(source.column_names.index("city"), "city", pa.array(renamed))

    rewrite_table(path, change)


def test_each_side_is_told_of_its_own_drift_only(tmp_path: Path) -> None:
    files, notices = both_with_a_city(tmp_path), Notices()
    simulate(files.label_owner, files.data_owner, observer=notices, randomness=RecordedRandomness(b"drift"))
    (said,) = notices.said
    assert "(city)" in said
    reports = meet(files).reports
    assert sum("rows kept from training" in line for line in reports) == 1
    assert any("of unseen categories" in line and "(f" in line for line in reports)


def test_a_data_owner_refuses_rows_it_does_not_recognise_before_z_is_released(tmp_path: Path) -> None:
    files = both_with_a_city(tmp_path)
    simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"drift"))
    rename_cities(tmp_path / "telco" / "features.parquet", 1)
    with pytest.raises(DataError, match=r"column 'city' of features\.parquet: 600 of 600"):
        score(files, tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()
    rename_cities(tmp_path / "telco" / "features.parquet", 3)
    assert len(score(files, tmp_path / "scores.csv")) == ROWS


def test_what_the_peer_learns_of_the_refusal_is_that_the_session_ended(tmp_path: Path) -> None:
    files = both_with_a_city(tmp_path)
    assert meet(files).result is not None
    rename_cities(tmp_path / "telco" / "features.parquet", 1)
    with Provider(files) as provider, pytest.raises(MoietyError) as caught:
        predict(files.label_owner, tmp_path / "scores.csv")
    assert isinstance(provider.error, DataError)
    for word in ("city", "categories", "600"):
        assert word in str(provider.error)
        assert word not in f"{caught.value.message} {caught.value.hint}"


def test_a_label_owner_refuses_own_rows_it_does_not_recognise_and_asks_nobody(tmp_path: Path) -> None:
    files = both_with_a_city(tmp_path)
    simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"drift"))
    rename_cities(tmp_path / "bank" / "labels.parquet", 1)
    outcome = run_here("predict", files.label_owner, "--output", tmp_path / "scores.csv")
    assert outcome.code == 3
    assert "column 'city' of labels.parquet: 600 of 600 rows have categories" in outcome.errors
    assert "hint:" in outcome.errors
