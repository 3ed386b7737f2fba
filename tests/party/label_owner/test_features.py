"""The label owner's own columns: trained, evaluated, saved, loaded and used, and never in a message."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from moiety.config import load_label_owner_run
from moiety.contract.schedule import Split
from moiety.data.table import read_table
from moiety.demo.compare import Joined, compare, join, train_twin
from moiety.demo.local import simulate
from moiety.errors import CheckpointMismatchError, ConfigError, DataError
from moiety.net.channel import MemoryChannel
from moiety.net.frame import decode_frame
from moiety.nn.top import build_top
from moiety.party.label_owner.features import OwnFeatures, inputs_of
from moiety.party.label_owner.run import open_run
from moiety.party.label_owner.train import train
from moiety.protocol.messages import Kind
from moiety.store import model as checkpoint
from tests.support.parties import (
    ROWS,
    Files,
    Settings,
    configure,
    make_parties,
    rewrite_table,
    run_here,
    score,
    wire,
)
from tests.support.randomness import RecordedRandomness, words_of

AGE = words_of("age", ROWS).astype(np.float64) * 2.0**-64 * 60 + 18
INCOME = np.exp(words_of("income", ROWS).astype(np.float64) * 2.0**-64 * 5)
BRANCH = [f"b{word % 4}" for word in words_of("branch", ROWS).tolist()]
OWN: Settings = {
    "table.features": ["age", "income", "branch"],
    "prepare": {"income": "quantile"},
}
OWN_INPUTS = 6


def add_own_columns(table: pa.Table) -> pa.Table:
    for name, values in (("age", AGE), ("income", INCOME), ("branch", BRANCH)):
        table = table.append_column(name, pa.array(values))
    return table


def with_own(folder: Path, changes: Settings | None = None) -> Files:
    files = make_parties(folder)
    rewrite_table(folder / "bank" / "labels.parquet", add_own_columns)
    configure(files.label_owner, {**OWN, "train.epochs": 3, **(changes or {})})
    return files


def run(files: Files, seed: bytes = b"own") -> Any:
    return simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(seed))


def prepared_by_scikit_learn(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Prepare the own columns of all rows as the run file says, fitted on some, without moiety."""
    age, income, branch = AGE[:, None], INCOME[:, None], np.array(BRANCH, dtype=object)[:, None]
    quantiles = QuantileTransformer(n_quantiles=len(rows), output_distribution="normal", subsample=None)
    return np.hstack(
        [
            StandardScaler().fit(age[rows]).transform(age),
            quantiles.fit(income[rows]).transform(income),
            OneHotEncoder(sparse_output=False).fit(branch[rows]).transform(branch),
        ]
    )


def joined_by_scikit_learn(files: Files, folder: Path) -> Joined:
    """Join both tables, each prepared by scikit-learn alone on the training rows of the run."""
    joined = join(files.label_owner, files.data_owner)
    rows = joined.schedule.split_rows(Split.TRAIN)
    table = read_table(folder / "telco" / "features.parquet", columns=None)
    values_NC = np.column_stack([table.column(f"f{number}") for number in range(8)])
    assert joined.own is not None
    own = OwnFeatures.__new__(OwnFeatures)
    own.preparation = joined.own.preparation
    own.values = torch.from_numpy(prepared_by_scikit_learn(rows).astype(np.float32))
    return replace(joined, values_NC=StandardScaler().fit(values_NC[rows]).transform(values_NC), own=own)


@pytest.mark.usefixtures("exact")
def test_encrypted_training_equals_scikit_learn_and_plain_training_exactly(tmp_path: Path) -> None:
    files = with_own(tmp_path)
    result = run(files)
    joined = joined_by_scikit_learn(files, tmp_path)
    assert train_twin(joined) == result.test
    # Without own columns the same twin comes to something else: they take part.
    assert joined.own is not None
    blank = OwnFeatures.__new__(OwnFeatures)
    blank.values = torch.zeros_like(joined.own.values)
    assert train_twin(replace(joined, own=blank)) != result.test


@pytest.mark.slow
def test_the_comparison_trains_its_networks_with_own_columns(tmp_path: Path) -> None:
    files = with_own(tmp_path, {"train.epochs": 6})
    run(files)
    rows = compare(files.label_owner, files.data_owner).rows
    encrypted = rows["encrypted"].metrics["AUC"]
    assert encrypted == pytest.approx(rows["twin, in the clear"].metrics["AUC"], abs=0.01)
    assert encrypted == pytest.approx(rows["Adam, in the clear"].metrics["AUC"], abs=0.15)


@pytest.mark.slow
def test_a_target_that_own_columns_tell_is_learnt(tmp_path: Path) -> None:
    changes = {"train.epochs": 12, "train.learning_rate": 0.05}
    without, files = make_parties(tmp_path / "without"), with_own(tmp_path / "with", changes)
    configure(without.label_owner, changes)
    for party in (without, files):
        target = (np.median(INCOME) < INCOME).astype(np.int64)
        rewrite_table(
            party.label_owner.parent / "labels.parquet",
            lambda table: table.drop(["target"]).append_column("target", pa.array(target)),  # noqa: B023
        )
    assert run(files).test["AUC"] > 0.95
    assert run(without).test["AUC"] < 0.7


def test_own_columns_are_fitted_on_training_rows_only(tmp_path: Path) -> None:
    """Poison the rows that are not trained on: what is fitted must not move."""
    files = with_own(tmp_path)
    run(files)
    saved = checkpoint.load_model(tmp_path / "bank" / "small")[1]["preparation"]
    schedule = join(files.label_owner, files.data_owner).schedule
    held_out = np.setdiff1d(np.arange(ROWS), schedule.split_rows(Split.TRAIN))

    def poison(table: pa.Table) -> pa.Table:
        age, branch = AGE.copy(), np.array(BRANCH, dtype=object)
        age[held_out], branch[held_out[::3]] = 1e6, "elsewhere"
        table = table.set_column(table.column_names.index("age"), "age", pa.array(age))
        return table.set_column(table.column_names.index("branch"), "branch", pa.array(branch))

    rewrite_table(tmp_path / "bank" / "labels.parquet", poison)
    run(files)
    poisoned = checkpoint.load_model(tmp_path / "bank" / "small")[1]["preparation"]
    assert poisoned == saved


def test_batches_hand_own_columns_out_in_their_order(tmp_path: Path) -> None:
    files = with_own(tmp_path)
    with open_run(files.label_owner, channel=wire(files)) as opened:
        expected_NC = prepared_by_scikit_learn(opened.schedule.split_rows(Split.TRAIN))
        for split in ("train", "validation", "test"):
            for batch in opened.batches(split):
                assert batch.features is not None
                assert batch.features.dtype == torch.float32
                rows = opened.schedule.rows_of(batch.rows)
                np.testing.assert_array_equal(batch.features, expected_NC[rows].astype(np.float32))


def test_predict_gives_the_scores_of_the_trained_network(tmp_path: Path) -> None:
    files = with_own(tmp_path)
    train(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"predict"))
    scores = score(files, tmp_path / "scores.csv").column("score").to_numpy()
    arrays, _ = checkpoint.load_model(tmp_path / "bank" / "small")
    peer, _ = checkpoint.load_model(tmp_path / "telco" / "small")
    joined = join(files.label_owner, files.data_owner)
    activation_ND, _ = joined.activations().batch(np.arange(ROWS), training=False)
    weight_DK = (arrays["share"] + peer["share"]).view(np.int64).astype(np.float64) * 2.0**-38
    z_NK = torch.from_numpy(activation_ND * 2.0**-12 @ weight_DK + arrays["bias"]).float()
    top = build_top(joined.settings, outputs=1, own=inputs_of(joined.own))
    top.load_state_dict(
        {name[4:]: torch.from_numpy(array) for name, array in arrays.items() if name.startswith("top.")}
    )
    assert joined.own is not None
    with torch.no_grad():
        expected_N = torch.sigmoid(top(z_NK, joined.own.values)).squeeze(1).numpy()
    assert scores == pytest.approx(expected_N, abs=0.02)  # half a dither of 2^-6 in each unit
    assert np.ptp(scores) > 0.3


def test_predict_takes_a_table_without_a_target(tmp_path: Path) -> None:
    files = with_own(tmp_path)
    train(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"predict"))
    rewrite_table(tmp_path / "bank" / "labels.parquet", lambda table: table.drop(["target"]))
    assert len(score(files, tmp_path / "scores.csv")) == ROWS


@pytest.mark.parametrize("trained_with", [True, False])
def test_predict_refuses_other_own_columns_than_were_trained(tmp_path: Path, *, trained_with: bool) -> None:
    features = {True: OWN, False: {"table.features": [], "prepare": None}}
    files = with_own(tmp_path, features[trained_with])
    train(files.label_owner, channel=wire(files))
    configure(files.label_owner, features[not trained_with])
    with pytest.raises(CheckpointMismatchError, match="own columns") as caught:
        score(files, tmp_path / "scores.csv")
    assert "features" in caught.value.hint


def test_all_names_every_column_but_ids_and_target(tmp_path: Path) -> None:
    files = with_own(tmp_path, {"table.features": "all"})
    run(files)
    joined = join(files.label_owner, files.data_owner)
    assert joined.own is not None
    assert [column.name for column in joined.own.preparation.columns] == ["age", "income", "branch"]
    assert joined.own.inputs == OWN_INPUTS


class Recorder:
    """Keeps the payload sizes and the first message of what a label owner sends."""

    def __init__(self, channel: MemoryChannel) -> None:
        self._channel = channel
        self.sizes: list[tuple[Kind, int]] = []
        self.hello = b""
        self.receive, self.close = channel.receive, channel.close

    def send(self, frame: bytes) -> None:
        block = decode_frame(frame).block
        self.hello = self.hello or block.payload
        self.sizes.append((block.kind, len(block.payload)))
        self._channel.send(frame)

    @property
    def bytes_sent(self) -> int:
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self._channel.bytes_received


def test_nothing_about_own_columns_crosses_not_even_their_number(tmp_path: Path) -> None:
    recorders: list[Recorder] = []
    for name, changes in (
        ("without", {"table.features": [], "prepare": None}),
        ("one", {"table.features": ["age"], "prepare": None}),
        ("all", {}),
    ):
        files = with_own(tmp_path / name, changes)
        recorders.append(Recorder(wire(files)))
        train(files.label_owner, channel=recorders[-1], randomness=RecordedRandomness(b"crosses"))
    without, *others = recorders
    assert all(each.hello == without.hello for each in others)
    assert all(each.sizes == without.sizes for each in others)
    assert b"age" not in without.hello
    assert len(without.sizes) > 10


def test_a_bad_own_column_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    files = with_own(tmp_path, {"prepare": {"branch": "log"}})
    channel = wire(files)
    with pytest.raises(DataError, match=r"column 'branch' of labels\.parquet holds text"):
        open_run(files.label_owner, channel=channel)
    assert channel.bytes_sent == 0


FACTORIES = """
import torch
from torch import nn

class Joined(nn.Module):
    def __init__(self, units, outputs, own):
        super().__init__()
        self.linear = nn.Linear(units + own, outputs)
    def forward(self, z, features):
        return self.linear(torch.cat([torch.tanh(z), features], dim=1))

def joined(units, outputs, own):
    return Joined(units, outputs, own)

def two(units, outputs):
    return nn.Linear(units, outputs)

def blind_to_own(units, outputs, own):
    return nn.Linear(units, outputs)
"""


@pytest.fixture
def tops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_tops.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_tops", raising=False)
    yield
    sys.modules.pop("own_tops", None)


@pytest.mark.usefixtures("tops")
def test_a_factory_is_told_how_many_own_inputs_there_are(tmp_path: Path) -> None:
    files = with_own(tmp_path, {"model": {"units": 4, "top": "own_tops:joined"}, "train.epochs": 1})
    run(files)
    arrays, _ = checkpoint.load_model(tmp_path / "bank" / "small")
    assert arrays["top.linear.weight"].shape == (1, 4 + OWN_INPUTS)
    assert len(score(files, tmp_path / "scores.csv")) == ROWS


@pytest.mark.usefixtures("tops")
@pytest.mark.parametrize(
    ("factory", "says"),
    [("two", "does not take 3 arguments"), ("blind_to_own", r"does not take \(z, features\)")],
)
def test_a_factory_without_a_place_for_own_columns_is_refused(
    tmp_path: Path, factory: str, says: str
) -> None:
    files = with_own(tmp_path, {"model": {"units": 4, "top": f"own_tops:{factory}"}})
    with pytest.raises(ConfigError, match=says) as caught:
        run(files)
    assert "own" in caught.value.hint


def test_check_counts_own_inputs(tmp_path: Path) -> None:
    outcome = run_here("check", with_own(tmp_path).label_owner)
    assert outcome.code == 0
    assert f"own columns: {OWN_INPUTS} prepared inputs of the top model, which stay here" in outcome.output


def test_negative_own_values_are_not_cut_off(tmp_path: Path) -> None:
    top = build_top(load_label_owner_run(with_own(tmp_path).label_owner), outputs=1, own=1)
    with torch.no_grad():
        low, high = (top(torch.zeros(1, 4), torch.full((1, 1), value)) for value in (-1.0, -2.0))
    assert low != high
