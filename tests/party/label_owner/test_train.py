import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from moiety.config import load_label_owner_run
from moiety.config.listener import Listener
from moiety.contract.products import Product
from moiety.contract.schedule import RowHandle, Split
from moiety.data.target import Target
from moiety.errors import CheckpointError, ConfigError, DataError, PeerAbortedError
from moiety.nn.build import make_loss, make_optimizer
from moiety.nn.fit import Batch, criterion_of, evaluate, fit
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import PlainStep
from moiety.nn.top import build_top
from moiety.party.label_owner import result
from moiety.party.label_owner.result import Result
from moiety.party.label_owner.run import open_run
from moiety.party.label_owner.train import train
from moiety.store import model as checkpoint
from tests.support.no_choice import NeverGoesBack
from tests.support.parties import Files, configure, make_parties, meet, rewrite_table, wire, with_column
from tests.support.randomness import RecordedRandomness


class Notes(Listener):
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[dict[str, int]] = []
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def begin(self, *, epochs: int, rows: int) -> None:
        self.begun.append({"epochs": epochs, "rows": rows})

    def say(self, sentence: str) -> None:
        raise AssertionError(sentence)

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        self.steps.append({"epoch": epoch, "rows": rows, "loss": loss, "sent": sent, "received": received})

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        self.epochs.append({"epoch": epoch, "loss": loss, "metrics": metrics})


def trained(files: Files, **settings: Any) -> Result:
    return train(
        files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"trainer"), **settings
    )


def test_train_tells_the_listener_every_step_and_epoch(tmp_path: Path) -> None:
    notes = Notes()
    result = trained(make_parties(tmp_path), listener=notes)
    assert notes.begun == [{"epochs": 2, "rows": 420}]
    assert [each["epoch"] for each in notes.steps] == [0, 0, 1, 1]
    assert [each["rows"] for each in notes.steps] == [210] * 4
    assert [each["sent"] for each in notes.steps] == sorted({each["sent"] for each in notes.steps})
    assert notes.steps[-1]["sent"] <= result.bytes_sent
    assert notes.steps[-1]["received"] <= result.bytes_received
    assert [each["metrics"] for each in notes.epochs] == result.validation
    first = [each["loss"] for each in notes.steps if each["epoch"] == 0]
    assert notes.epochs[0]["loss"] == pytest.approx(sum(first) / 2)


def test_train_saves_both_halves_and_the_result(tmp_path: Path) -> None:
    result = trained(make_parties(tmp_path))
    folder = tmp_path / "bank" / "small"
    own, own_facts = checkpoint.load_model(folder)
    peer, peer_facts = checkpoint.load_model(tmp_path / "telco" / "small")
    assert own["share"].shape == peer["share"].shape == (8, 4)
    assert own_facts["model"] == peer_facts["model"]
    assert own_facts["updates"] == peer_facts["updates"] == result.steps == 4
    assert {name for name in own if name.startswith("top.")} == {
        "top.1.weight",
        "top.1.bias",
        "top.3.weight",
        "top.3.bias",
    }
    assert json.loads((folder / "result.json").read_text()) == asdict(result)
    assert (result.rows, result.in_features, result.out_features) == (600, 8, 4)
    assert result.folder == str(folder)


def test_train_twice_with_the_same_seeds_gives_the_same_network(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    first = trained(files)
    again = trained(files)
    assert (first.test, first.validation) == (again.test, again.validation)


def test_train_on_text_classes_learns_them(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    source = tmp_path / "bank" / "labels.parquet"
    rewrite_table(source, lambda table: with_column("target", _words(table))(table))
    assert trained(files).test["AUC"] > 0.5


def _words(table: Any) -> list[str]:
    return ["yes" if value else "no" for value in table.column("target").to_pylist()]


def test_train_saves_nothing_when_the_peer_stops(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    (tmp_path / "telco" / "small").write_text("a file where the folder would be")
    meeting = meet(files)
    assert isinstance(meeting.data_owner, CheckpointError)
    assert "cannot be written" in meeting.data_owner.message
    assert meeting.result is None
    assert isinstance(meeting.label_owner, PeerAbortedError)
    assert not (tmp_path / "bank" / "small").exists()


def test_train_refuses_a_target_that_does_not_suit_the_task(tmp_path: Path) -> None:
    files = make_parties(tmp_path, kind="regression")
    configure(files.label_owner, {"task.kind": "binary"})
    with pytest.raises(DataError, match="distinct values") as caught:
        trained(files)
    assert caught.value.hint


def test_train_refuses_a_missing_target_column(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"table.target": "targt"})
    with pytest.raises(DataError, match="no column 'targt'") as caught:
        trained(files)
    assert "'target'" in caught.value.hint


def test_build_top_makes_the_layers_of_the_run_file(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"model.hidden": [16, 5]})
    top = build_top(load_label_owner_run(files.label_owner), outputs=3)
    widths = [(each.in_features, each.out_features) for each in top.children() if isinstance(each, nn.Linear)]
    assert widths == [(4, 16), (16, 5), (5, 3)]


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_make_optimizer_takes_the_one_of_the_run_file(tmp_path: Path, name: str, kind: type) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train.optimizer": name, "train.learning_rate": 0.125})
    optimizer = make_optimizer(load_label_owner_run(files.label_owner).train, [nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_evaluate_of_an_empty_split_has_no_metrics(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"split.validation": 0.0})
    with open_run(files.label_owner, channel=wire(files)) as run:
        top = build_top(run.settings, outputs=1)
        layer = run.interactive_layer()
        assert evaluate(run.batches, layer, top, split="validation", kind="binary") == {}


def test_train_refuses_a_run_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run file"):
        train(tmp_path / "run.toml")


def test_session_error_counts_every_value_of_the_run(tmp_path: Path) -> None:
    result = trained(make_parties(tmp_path))
    # 600 rows: 420 to train on, 60 validated in each of 2 epochs, 120 tested; 4 units, 8 columns.
    values = 4 * (2 * (420 + 60) + 120 + 8 * result.steps)
    assert result.spare_bits is not None
    assert result.spare_bits >= 40
    assert 0 < result.session_error <= values * 2.0**-result.spare_bits


# --- class weights ---


def target_of_classes(values: list[int], kind: Any) -> Target:
    return Target.fit(np.array(values), name="target", kind=kind, rows=np.arange(len(values)))


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_balanced_class_weights_are_those_of_scikit_learn(tmp_path: Path, kind: str) -> None:
    files = make_parties(tmp_path, kind=kind)
    configure(files.label_owner, {"task.class_weights": "balanced"})
    settings = load_label_owner_run(files.label_owner)
    classes = [0, 0, 0, 1, 1, 0, 1, 0] if kind == "binary" else [0, 2, 1, 1, 2, 0, 0, 0]
    target = target_of_classes(classes, kind)
    encoded = torch.from_numpy(target.transform(np.array(classes)))
    criterion = criterion_of(settings, target, encoded)
    expected = compute_class_weight("balanced", classes=np.unique(classes), y=np.array(classes))
    width = 1 if kind == "binary" else 3
    outputs = torch.linspace(-1, 2, len(classes) * width).reshape(len(classes), width)
    outputs = outputs.squeeze(1) if kind == "binary" else outputs
    loss = make_loss(kind, expected.tolist())(outputs, encoded)
    assert torch.allclose(criterion(outputs, encoded), loss)
    assert not torch.allclose(loss, make_loss(kind, None)(outputs, encoded))


def test_balanced_class_weights_survive_a_class_without_training_rows(tmp_path: Path) -> None:
    files = make_parties(tmp_path, kind="multiclass")
    configure(files.label_owner, {"task.class_weights": "balanced"})
    target = target_of_classes([0, 1, 2], "multiclass")
    criterion = criterion_of(load_label_owner_run(files.label_owner), target, torch.tensor([0, 1, 1]))
    assert bool(torch.isfinite(criterion(torch.zeros(3, 3), torch.tensor([0, 1, 1]))))


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_listed_class_weights_are_taken_as_they_are(tmp_path: Path, kind: str) -> None:
    files = make_parties(tmp_path, kind=kind)
    weights = [0.5, 2.0] if kind == "binary" else [0.5, 2.0, 1.0]
    configure(files.label_owner, {"task.class_weights": weights})
    settings = load_label_owner_run(files.label_owner)
    target = target_of_classes([0, 1] if kind == "binary" else [0, 1, 2], kind)
    encoded = torch.from_numpy(target.transform(np.array([0, 1])))
    outputs = torch.tensor([0.5, 0.25]) if kind == "binary" else torch.tensor([[0.5, 0.25, 1.0]] * 2)
    loss = criterion_of(settings, target, encoded)(outputs, encoded)
    assert torch.equal(loss, make_loss(kind, weights)(outputs, encoded))


@pytest.mark.parametrize(("kind", "weights"), [("binary", [1.0] * 3), ("multiclass", [1.0] * 2)])
def test_class_weights_of_another_number_are_refused(tmp_path: Path, kind: str, weights: list[float]) -> None:
    files = make_parties(tmp_path, kind=kind)
    configure(files.label_owner, {"task.class_weights": weights})
    with pytest.raises(ConfigError, match=rf"has {len(weights)} values") as caught:
        trained(files)
    assert "one weight for each class" in caught.value.hint
    assert not (tmp_path / "bank" / "small" / "model.json").exists()


# --- the layer's rate ---


class Rates(NeverGoesBack):
    """A link that keeps the layer's learning rate of each update."""

    def __init__(self, rule: PlainStep) -> None:
        self._rule = rule
        self.given: list[float] = []

    def start(self, handle: RowHandle, *, training: bool) -> None:
        del training
        self._rows = handle.rows

    def result(self) -> NDArray[np.float64]:
        return np.ones((self._rows, 4))

    def update(self, scaled_NK: NDArray[np.float64], dz_NK: NDArray[np.float64]) -> None:
        assert np.array_equal(scaled_NK, self._rule.learning_rate * dz_NK)
        self.given.append(self._rule.learning_rate)


@pytest.mark.parametrize(
    ("schedule", "options", "expected"),
    [
        (None, "", [0.5] * 4),
        ("StepLR", "step_size = 1\ngamma = 0.5", [0.5, 0.25, 0.125, 0.0625]),
        ("LinearLR", "start_factor = 0.25\ntotal_iters = 3", [0.125, 0.25, 0.375, 0.5]),
    ],
)
def test_interactive_layer_follows_the_schedule_from_the_first_epoch(
    tmp_path: Path, schedule: str | None, options: str, expected: list[float]
) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train.epochs": 4, "train.learning_rate": 0.5, "train.schedule": schedule})
    if schedule is not None:
        with files.label_owner.open("a", encoding="utf-8") as file:
            file.write(f"[train.schedule_options]\n{options}\n")
    settings, rule = load_label_owner_run(files.label_owner), PlainStep(0.5)
    link = Rates(rule)
    layer = InteractiveLinear(link, in_features=8, out_features=4, rule=rule)
    handle = RowHandle(split=Split.TRAIN, epoch=0, batch=0, rows=6)

    def batches(split: str) -> Iterator[Batch]:
        del split
        yield Batch(rows=handle, target=torch.tensor([0.0, 1.0] * 3))

    top = build_top(settings, outputs=1)
    fit(batches, layer, top, settings=settings, criterion=make_loss("binary", None))
    assert link.given == pytest.approx(expected)


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_session_error_counts_what_the_protocol_opens(tmp_path: Path, protocol: str) -> None:
    files = make_parties(tmp_path)
    chosen = {"name": protocol, "reveals": "gradients"}
    configure(files.label_owner, {"protocol": chosen})
    configure(files.data_owner, {"protocol": chosen, "model": {"bottom": "moiety.demo.networks:bottom"}})
    result = trained(files)
    # 4 units, 16 activations: z of every pass, W of every step, da of every training row and W_0.
    passes, trained_rows = 2 * (420 + 60) + 120, 2 * 420
    values = 4 * passes + 4 * 16 * result.steps + 16 * trained_rows + 4 * 16
    assert result.spare_bits is not None
    assert result.spare_bits >= 40
    assert 0 < result.session_error <= values * 2.0**-result.spare_bits
    assert (result.protocol, result.in_features, result.released_z_per_row) == (protocol, 16, 8)
    assert len(result.parameters) == (2 if protocol == "joint" else 1)


def test_products_opened_are_counted_one_by_one(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    chosen = {"name": "acml", "reveals": "gradients"}
    configure(files.label_owner, {"protocol": chosen})
    configure(files.data_owner, {"protocol": chosen, "model": {"bottom": "moiety.demo.networks:bottom"}})
    with open_run(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"run")) as run:
        opened = {product: result.opened_values(run, product) for product in Product}
        assert result.least_spare(run, Product.FORWARD) < math.inf
    assert opened == {
        Product.FORWARD: 4 * (2 * (420 + 60) + 120),
        Product.UPDATE: 0,  # no step was made
        Product.INPUT_GRADIENT: 16 * 2 * 420,
        Product.INITIAL: 16 * 4,
        Product.CHOICE: 16 * 4,
    }
