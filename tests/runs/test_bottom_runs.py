"""Whole runs with bottom models, through run files, both parties in this process."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from moiety.config import load_label_owner_run
from moiety.contract.schedule import Schedule, Split
from moiety.crypto.sampling import Seed
from moiety.demo.compare import compare
from moiety.nn.metrics import METRICS
from moiety.party.label_owner.result import result_lines
from moiety.party.label_owner.train import Silence
from moiety.protocol import data_owner
from moiety.protocol.state import initial_weights
from moiety.store import model as checkpoint
from tests.support.bottom_runs import MODULE, Folder, Losses, differ, make_folder
from tests.support.parties import COLUMNS, ROWS, score, target_of
from tests.support.randomness import words_of

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return make_folder(tmp_path, monkeypatch)


# --- networks ---


@pytest.mark.parametrize("bottom", ["dense", "convolution", "dropout", "norm"])
@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_bottom_model_is_trained(folder: Folder, protocol: str, bottom: str) -> None:
    folder.choose(protocol, bottom)
    folder.label_owner(train__epochs=1)
    folder.data_owner(train__learning_rate=1e-12)
    folder.run()
    initial = folder.bottom()
    folder.label_owner(train__epochs=10)
    folder.data_owner(train__learning_rate=0.03)
    result = folder.run()
    assert result.test["AUC"] > 0.9
    assert result.protocol == protocol
    assert result.steps == 20
    moved = folder.bottom()
    assert moved.keys() == initial.keys()
    for name in moved:
        if name.endswith("weight"):
            assert np.abs(moved[name] - initial[name]).max() > 0.01


def write_codes(folder: Folder) -> None:
    """Replace the features by codes 0 to 5 of which each says something by itself, in no order."""
    codes = (words_of("codes", ROWS * COLUMNS) % np.uint64(6)).astype(np.int64).reshape(ROWS, COLUMNS)
    effects = np.array([2.0, -1.0, 0.5, -2.0, 1.0, -0.5])[codes[:, :2]]
    columns = {f"f{number}": codes[:, number] for number in range(COLUMNS)}
    parquet.write_table(pa.table(columns), folder.path / "telco" / "features.parquet")
    target = (effects.sum(axis=1) > 0).astype(np.int64)
    labels = pa.table({"target": target})
    parquet.write_table(labels, folder.path / "bank" / "labels.parquet")
    folder.data_owner(prepare=dict.fromkeys(columns, "none"))


def test_embedding_over_integer_columns_is_trained(folder: Folder) -> None:
    folder.choose("joint", "Codes")
    write_codes(folder)
    folder.label_owner(train__epochs=14)
    folder.data_owner(train__learning_rate=0.05)
    result = folder.run()
    assert result.in_features == 2 * COLUMNS
    assert result.test["AUC"] > 0.85
    # The control: without the embedding, codes in no order say little.
    folder.choose("blind", "Codes", frozen=True)
    folder.data_owner(train=None)
    assert folder.run().test["AUC"] < result.test["AUC"]


@pytest.mark.parametrize(("kind", "metric"), [("multiclass", "accuracy"), ("regression", "RMSE")])
def test_other_targets_are_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, metric: str
) -> None:
    folder = make_folder(tmp_path, monkeypatch, kind=kind)
    folder.choose("joint", "dense")
    folder.label_owner(train__epochs=12, train__learning_rate=0.05)
    folder.data_owner(train__learning_rate=0.05)
    result = folder.run()
    assert result.test[metric] > 0.7 if kind == "multiclass" else result.test[metric] < 0.5


def test_frozen_bottom_model_stays_as_the_factory_made_it(folder: Folder) -> None:
    folder.choose("blind", "dropout", frozen=True)
    result = folder.run()
    first = folder.bottom()
    folder.label_owner(train__epochs=1)
    folder.run()
    assert result.test["AUC"] > 0.7
    assert not differ(first, folder.bottom())
    assert result.in_features == 6
    assert result.label_leakage == {}


def test_frozen_bottom_model_of_acml_is_reused(folder: Folder) -> None:
    folder.choose("acml", "dense", frozen=True)
    result = folder.run()
    frozen = folder.bottom()
    folder.choose("acml", "dense")
    trained = folder.run()
    # Activations that cross once a session are most of what crosses.
    assert result.bytes_received < 0.6 * trained.bytes_received
    assert differ(frozen, folder.bottom())
    assert result.label_leakage == {}
    assert trained.label_leakage.keys() == {"norm", "direction", "spectral"}


def test_acml_trains_without_a_bottom_model(folder: Folder) -> None:
    folder.choose("acml", None)
    result = folder.run()
    assert result.test["AUC"] > 0.9
    assert result.label_leakage == {}
    assert list((folder.path / "bank" / "small").glob("*")) != []
    names = {path.name for path in (folder.path / "bank" / "small").iterdir()}
    assert names == {"contract.json", "model.json", "model.safetensors", "result.json"}


def test_acml_over_paillier_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path, monkeypatch, rows=120)
    folder.choose("acml", None, scheme="paillier-legacy")
    folder.label_owner(train__epochs=2, train__batch=64, model__units=2)
    folder.data_owner(policy__smallest_batch=16)
    result = folder.run()
    assert result.spare_bits is None
    assert result.session_error == 0
    assert result.parameters == ["Paillier, 2048-bit modulus, 112-bit security"]
    assert any(line.endswith("112-bit security, exact") for line in result_lines(result))
    compared = compare(folder.files.label_owner, folder.files.data_owner).rows
    assert compared["encrypted"].metrics["AUC"] == pytest.approx(
        compared["twin, in the clear"].metrics["AUC"], abs=0.01
    )


# --- training options of both sides ---


@pytest.mark.parametrize(
    ("optimizer", "rate", "options"),
    [
        ("adamw", 0.03, "weight_decay = 0.1"),
        ("rmsprop", 0.01, "alpha = 0.9"),
        ("sgd", 0.3, "momentum = 0.9\nnesterov = true"),
    ],
)
@pytest.mark.parametrize("party", ["label owner", "data owner"])
def test_optimizers_of_either_party_train(
    folder: Folder, party: str, optimizer: str, rate: float, options: str
) -> None:
    folder.choose("joint", "dense")
    folder.data_owner(train__learning_rate=0.03)
    usual = folder.run()
    change = folder.label_owner if party == "label owner" else folder.data_owner
    change(train__optimizer=optimizer, train__learning_rate=rate)
    folder.options(party, "optimizer_options", options)
    result = folder.run()
    assert result.test["AUC"] > 0.8
    assert result.test != usual.test


@pytest.mark.parametrize("party", ["label owner", "data owner"])
def test_optimizer_and_schedule_of_a_factory(folder: Folder, party: str) -> None:
    folder.choose("joint", "dense")
    losses: list[list[float]] = []
    for train in ({}, {"optimizer": f"{MODULE}:slow"}, {"schedule": f"{MODULE}:halving"}):
        rates = Losses()
        change = folder.label_owner if party == "label owner" else folder.data_owner
        change(**{f"train__{name}": value for name, value in train.items()})
        folder.run(observer=rates)
        losses.append(rates.losses)
        change(**{f"train__{name}": None for name in train})
    usual, slow, halved = losses
    assert slow[0] == halved[0] == usual[0]
    assert slow[-1] != usual[-1]
    # Two steps an epoch: nothing differs before the first epoch is over.
    assert halved[:2] == usual[:2]
    assert halved[-1] != usual[-1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("StepLR", "step_size = 1\ngamma = 0.0"),
        ("CosineAnnealingLR", "T_max = 1"),
        ("LinearLR", "start_factor = 1.0\nend_factor = 0.0\ntotal_iters = 1"),
    ],
)
def test_schedule_that_ends_at_nothing_stops_both_of_the_label_owners_rates(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, name: str, options: str
) -> None:
    # The dither depends on the data owner's share, and that on the session's keys: two runs differ by it.
    monkeypatch.setattr(
        data_owner,
        "dither",
        lambda _, share_DK, rows: np.zeros((len(rows), share_DK.shape[1]), dtype=np.uint64),
    )
    folder.choose("blind", None)
    folder.label_owner(train__schedule=name, train__epochs=1)
    folder.options("label owner", "schedule_options", options)
    folder.run()
    once, _ = checkpoint.load_model(folder.path / "bank" / "small")
    own, _ = checkpoint.load_model(folder.path / "telco" / "small")
    folder.label_owner(train__schedule=None, train__schedule_options=None, train__epochs=2)
    folder.label_owner(train__schedule=name)
    folder.options("label owner", "schedule_options", options)
    folder.run()
    twice, _ = checkpoint.load_model(folder.path / "bank" / "small")
    peer, _ = checkpoint.load_model(folder.path / "telco" / "small")
    assert not differ({"bias": once["bias"]}, {"bias": twice["bias"]})
    assert np.array_equal(once["share"] + own["share"], twice["share"] + peer["share"])


def test_schedule_begins_with_its_own_rate(folder: Folder) -> None:
    folder.choose("blind", None)
    folder.label_owner(train__epochs=1, train__schedule="ConstantLR", train__update="sgd")
    folder.options("label owner", "schedule_options", "factor = 0.0")
    folder.run()
    assert initial_is_kept(folder)


def initial_is_kept(folder: Folder) -> bool:
    """Tell whether W is still W_0."""
    label, _ = checkpoint.load_model(folder.path / "bank" / "small")
    data, _ = checkpoint.load_model(folder.path / "telco" / "small")
    drawn = initial_weights(Seed(data["weight_seed"].tobytes()), in_features=COLUMNS, out_features=4)
    return bool(np.array_equal(label["share"] + data["share"], drawn))


def test_one_cycle_over_all_epochs_trains(folder: Folder) -> None:
    folder.choose("joint", "dense")
    folder.label_owner(train__schedule="OneCycleLR")
    folder.data_owner(train__schedule="OneCycleLR")
    for party in ("label owner", "data owner"):
        folder.options(party, "schedule_options", "max_lr = 0.1\ntotal_steps = 8")
    assert folder.run().test["AUC"] > 0.85


@pytest.mark.parametrize("weights", ["balanced", [1.0, 5.0]])
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_class_weights_change_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, weights: Any
) -> None:
    folder = make_folder(tmp_path, monkeypatch, kind=kind)
    folder.choose("blind", None)
    usual, weighted = Losses(), Losses()
    folder.run(observer=usual)
    given = [*weights, 1.0] if kind == "multiclass" and weights != "balanced" else weights
    folder.label_owner(task__class_weights=given)
    folder.run(observer=weighted)
    assert usual.losses[0] != weighted.losses[0]


# --- the same seeds, the same run ---


class Drawing(Silence):
    """Draws from the process's random stream after every step."""

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        del epoch, rows, loss, sent, received
        torch.empty(3).uniform_()


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_dropout_does_not_depend_on_what_else_draws(folder: Folder, protocol: str) -> None:
    folder.choose(protocol, "dropout")
    folder.label_owner(train__epochs=2)
    folder.run()
    usual = folder.bottom()
    torch.manual_seed(12345)
    folder.run(observer=Drawing())
    assert not differ(usual, folder.bottom())
    folder.run(seed=b"other")
    assert differ(usual, folder.bottom())


# --- prediction and comparison ---


def metrics_of_scores(folder: Folder, kind: str, scores: Any) -> dict[str, float]:
    """Score the test rows of a finished run by what `predict` wrote."""
    settings = load_label_owner_run(folder.files.label_owner)
    _, facts = checkpoint.load_model(folder.path / "bank" / "small")
    schedule = Schedule(
        seed=Seed(bytes.fromhex(facts["order_seed"])),
        rows=ROWS,
        validation=settings.split.validation,
        test=settings.split.test,
        batch=settings.train.batch,
        epochs=1,
    )
    rows = schedule.split_rows(Split.TEST)
    table = parquet.read_table(folder.path / "telco" / "features.parquet")
    features = np.column_stack([column.to_numpy() for column in table.columns])
    target = target_of(features, kind)[rows].astype(np.float64)
    score_N = scores.column("score").to_numpy()[rows].astype(np.float64)
    return {name: metric(target, score_N) for name, metric in METRICS[kind].items()}


@pytest.mark.parametrize("bottom", ["dense", "norm", "dropout", "convolution"])
@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_prediction_scores_as_the_training_did(folder: Folder, protocol: str, bottom: str) -> None:
    folder.choose(protocol, bottom)
    result = folder.run()
    scores = score(folder.files, folder.path / "scores.csv")
    found = metrics_of_scores(folder, "binary", scores)
    assert found["AUC"] == pytest.approx(result.test["AUC"], abs=1e-3)
    assert result.test["AUC"] > 0.75


def test_prediction_without_the_trained_weights_scores_otherwise(folder: Folder) -> None:
    # The control of the test above.
    folder.choose("joint", "dense")
    result = folder.run()
    path = folder.path / "telco" / "small"
    arrays, facts = checkpoint.load_model(path)
    arrays["bottom.0.weight"] = -arrays["bottom.0.weight"]
    arrays["bottom.0.bias"] = -arrays["bottom.0.bias"]
    kept = {name: value for name, value in facts.items() if name not in {"version", "sha256", "digest"}}
    checkpoint.save_model(path, arrays=arrays, facts=kept)
    scores = score(folder.files, folder.path / "scores.csv")
    assert metrics_of_scores(folder, "binary", scores)["AUC"] < result.test["AUC"] - 0.1


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_prediction_of_a_regression_under_a_bottom_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    folder = make_folder(tmp_path, monkeypatch, kind="regression")
    folder.choose(protocol, "dense")
    folder.run()
    scores = score(folder.files, tmp_path / "scores.csv").column("score").to_numpy()
    assert abs(scores.mean() - 100) < 5  # in the target's own unit


@pytest.mark.parametrize(
    ("protocol", "bottom", "frozen"),
    [
        ("joint", "dense", False),
        ("acml", "dense", False),
        ("acml", None, False),
        ("blind", "dense", True),
    ],
)
def test_encrypted_training_is_close_to_its_twin(
    *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, bottom: str | None, frozen: bool
) -> None:
    # Enough test rows that what the dither moves is small; test_two_schemes compares bit by bit, with
    # dropout and batch norm too.
    folder = make_folder(tmp_path, monkeypatch, rows=1200)
    folder.choose(protocol, bottom, frozen=frozen)
    folder.label_owner(train__epochs=6)
    folder.run()
    rows = compare(folder.files.label_owner, folder.files.data_owner).rows
    encrypted, twin = rows["encrypted"].metrics, rows["twin, in the clear"].metrics
    assert encrypted["AUC"] == pytest.approx(twin["AUC"], abs=0.01)
    assert rows["Adam, in the clear"].metrics["AUC"] > 0.7


@pytest.mark.usefixtures("exact")
def test_encrypted_training_over_classes_is_close_to_its_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, monkeypatch, kind="multiclass", rows=1200)
    folder.choose("joint", "dense")
    folder.label_owner(task__class_weights="balanced", train__epochs=5)
    folder.run()
    rows = compare(folder.files.label_owner, folder.files.data_owner).rows
    encrypted, twin = rows["encrypted"].metrics, rows["twin, in the clear"].metrics
    # 240 test rows: one of them is 0.0042.
    assert encrypted["accuracy"] == pytest.approx(twin["accuracy"], abs=0.01)
