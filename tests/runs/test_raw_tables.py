"""From raw CSV files on both sides to a trained model, with one run file for each party."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moiety.config import load_label_owner_run
from moiety.contract.schedule import Split
from moiety.data.columns import exact_ids
from moiety.data.table import read_table
from moiety.demo.compare import Joined, join, train_twin
from moiety.demo.local import simulate
from moiety.party.alignment import kept_table
from moiety.party.label_owner.features import OwnFeatures
from tests.support.parties import Files, configure, run_here, score
from tests.support.randomness import RecordedRandomness
from tests.support.raw_tables import (
    DATA_OWNER,
    LABEL_OWNER,
    ROWS,
    features_by_scikit_learn,
    own_by_scikit_learn,
    two_parties,
    write_features,
    write_labels,
)


def raw_parties(folder: Path) -> Files:
    """Make both folders: keys, certificates, a raw CSV file and a run file each."""
    files = two_parties(folder, label_owner=LABEL_OWNER, data_owner=DATA_OWNER)
    write_features(files.data_owner.parent / "features.csv")
    write_labels(files.label_owner.parent / "labels.csv")
    return files


def common_order(files: Files) -> NDArray[np.int64]:
    """Return which row of the files, whose persons count from 0, stands where after the alignment."""
    settings = load_label_owner_run(files.label_owner)
    table = read_table(settings.table.source, columns=None, ids=exact_ids(settings))
    return np.array(kept_table(settings, table).table.column("person"), dtype=np.float64).astype(np.int64)


def by_scikit_learn(files: Files) -> Joined:
    """Join both raw files, prepared by scikit-learn alone on the training rows of a finished run."""
    joined, order = join(files.label_owner, files.data_owner), common_order(files)
    training = order[joined.schedule.split_rows(Split.TRAIN)]
    assert joined.own is not None
    own_NC = own_by_scikit_learn(files.label_owner.parent / "labels.csv", training)[order]
    own = OwnFeatures.__new__(OwnFeatures)
    own.preparation, own.values = joined.own.preparation, torch.from_numpy(own_NC.astype(np.float32))
    values_NC = features_by_scikit_learn(files.data_owner.parent / "features.csv", training)[order]
    return replace(joined, values_NC=values_NC, own=own)


@pytest.mark.slow
def test_raw_files_are_trained_on_as_scikit_learn_and_plain_training_would(
    tmp_path: Path, exact: None
) -> None:
    del exact
    files = raw_parties(tmp_path)
    result = simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"raw"))
    joined, reference = join(files.label_owner, files.data_owner), by_scikit_learn(files)
    assert joined.own is not None
    assert reference.own is not None
    np.testing.assert_array_equal(joined.values_NC, reference.values_NC)
    np.testing.assert_array_equal(joined.own.values, reference.own.values)
    assert result.in_features == reference.values_NC.shape[1] == 1 + 2 + 1 + 4 + 6 + 3
    assert joined.own.inputs == 2 + 2
    assert train_twin(reference) == result.test


@pytest.mark.slow
def test_a_raw_file_is_scored_after_it_was_trained_on(tmp_path: Path) -> None:
    files = raw_parties(tmp_path)
    configure(files.label_owner, {"train.epochs": 10})
    result = simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"raw"))
    assert result.test["AUC"] > 0.8
    scores: Any = score(files, tmp_path / "scores.csv")
    assert scores.column_names == ["person", "score"]
    assert len(scores) == ROWS


def test_check_says_what_becomes_of_raw_columns(tmp_path: Path) -> None:
    outcome = run_here("check", raw_parties(tmp_path).data_owner, "--json")
    assert outcome.code == 0, outcome.errors
    columns = {column["name"]: column for column in json.loads(outcome.output)["table"]["columns"]}
    assert columns["state"]["inputs"] == 6
    assert columns["industry"]["inputs"] == 2
    assert "left out: it gives no input" in columns["year"]["remarks"]


@pytest.mark.parametrize("party", ["bank", "bureau"])
def test_a_misspelt_option_of_a_rule_is_named_on_the_side_that_can_mend_it(
    tmp_path: Path, party: str
) -> None:
    raw_parties(tmp_path)
    run_file = tmp_path / party / "run.toml"
    column = {"bank": "sex", "bureau": "class"}[party]
    text = run_file.read_text(encoding="utf-8").replace("[prepare]\n", "")
    run_file.write_text(text.replace("gains", "[prepare]\ngains") + f"[prepare.{column}]\nmax_inpust = 5\n")
    outcome = run_here("check", run_file)
    assert outcome.code == 2
    assert f"prepare.{column}.max_inpust is not a known key" in outcome.errors
    assert "did you mean max_inputs?" in outcome.errors
