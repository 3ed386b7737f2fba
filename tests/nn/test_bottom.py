"""The bottom model: its modes, its random stream, its gradients and what cannot be used."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from moiety.config import DataOwnerRun, load_data_owner_run
from moiety.crypto.sampling import Seed
from moiety.errors import CheckpointMismatchError, ConfigError, NonFiniteError
from moiety.nn import bottom as bottom_module
from moiety.nn.bottom import BottomModel, TrainedActivations, check_bottom
from moiety.protocol.dither import row_digests
from tests.support.parties import configure, features_of, make_parties

FACTORIES = """
import torch
from torch import nn

class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
    def forward(self, values):
        return values * self.weight * 6.0

class Returning(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.change = change
    def forward(self, values):
        return self.change(values)

def linear(columns):
    return nn.Linear(columns, 5)

def wide(columns):
    return nn.Linear(columns, 6)

def dropout(columns):
    return nn.Sequential(nn.Linear(columns, 16), nn.Dropout(0.5), nn.Linear(16, 5))

def norm(columns):
    return nn.Sequential(nn.Linear(columns, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))

def growing(columns):
    return Growing()

def three(columns):
    return Returning(lambda values: values[:, :, None])

def row(columns):
    return Returning(lambda values: values.sum(0, keepdim=True))

def pair(columns):
    return Returning(lambda values: (values, values))

def missing(columns):
    return Returning(lambda values: values / 0.0 * 0.0)

def nothing(columns):
    return columns
"""

SEED = Seed(bytes(range(32)))
ROWS, COLUMNS = 60, 4
VALUES = features_of(ROWS, COLUMNS)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DataOwnerRun]:
    """Return a function that reads a run file with a bottom model of these factories."""
    (tmp_path / "bottoms_of_test.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bottoms_of_test", raising=False)
    files = make_parties(tmp_path)

    def read(factory: str, *, text: str = "", **train: Any) -> DataOwnerRun:
        configure(
            files.data_owner,
            {
                "protocol": {"name": "joint", "reveals": "gradients"},
                "model": {"bottom": f"bottoms_of_test:{factory}"},
                "train": train,
            },
        )
        with files.data_owner.open("a", encoding="utf-8") as file:
            file.write(text)
        return load_data_owner_run(files.data_owner)

    return read


Read = Callable[..., DataOwnerRun]


def trained(run: DataOwnerRun, *, steps_per_epoch: int = 2) -> tuple[BottomModel, TrainedActivations]:
    bottom = BottomModel(run, columns=COLUMNS, seed=SEED)
    return bottom, TrainedActivations(bottom, run, VALUES, steps_per_epoch=steps_per_epoch)


def rows_of(*rows: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64)


ALL = np.arange(ROWS)


def weights(bottom: BottomModel) -> dict[str, NDArray[Any]]:
    return {name: array.copy() for name, array in bottom.arrays().items()}


def equal(one: dict[str, NDArray[Any]], two: dict[str, NDArray[Any]]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


# --- activations ---


def test_activations_are_the_networks_outputs_in_fixed_point(settings: Read) -> None:
    bottom = BottomModel(settings("linear"), columns=COLUMNS, seed=SEED)
    features, clipped = bottom.fixed(VALUES)
    with torch.no_grad():
        output = bottom.network(torch.from_numpy(VALUES.astype(np.float32))).numpy()
    assert np.array_equal(features.activation_ND, np.rint(output.astype(np.float64) * 4096).astype(np.int16))
    assert np.array_equal(features.digest_N, row_digests(features.activation_ND))
    assert clipped == 0


def test_network_is_applied_in_pieces(settings: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    bottom = BottomModel(settings("linear"), columns=COLUMNS, seed=SEED)
    whole, _ = bottom.fixed(VALUES)
    sizes = []
    bottom.network.register_forward_hook(lambda _, values, __: sizes.append(len(values[0])))
    monkeypatch.setattr(bottom_module, "_CHUNK", 25)
    pieces, _ = bottom.fixed(VALUES)
    assert sizes == [25, 25, 10]
    assert np.abs(whole.activation_ND.astype(int) - pieces.activation_ND).max() <= 1


def test_activations_of_a_batch_are_its_rows(settings: Read) -> None:
    bottom, activations = trained(settings("linear"))
    whole, _ = bottom.fixed(VALUES)
    rows = rows_of(7, 3, 50)
    for training in (False, True):
        activation_ND, digest_N = activations.batch(rows, training=training)
        assert np.abs(activation_ND.astype(int) - whole.activation_ND[rows]).max() <= 1
        assert np.array_equal(digest_N, row_digests(activation_ND))


def test_clipped_activations_are_counted_and_get_no_gradient(settings: Read) -> None:
    bottom, activations = trained(settings("growing"))
    beyond = np.abs(VALUES * 6.0) > 8
    _, clipped = bottom.fixed(VALUES)
    assert 0 < clipped < VALUES.size
    activation_ND, _ = activations.batch(ALL, training=True)
    assert activations.clipped == clipped == np.count_nonzero(np.abs(activation_ND) == 32767)
    activations.batch(ALL, training=False)
    assert activations.clipped == 2 * clipped
    before = weights(bottom)
    activations.batch(ALL, training=True)
    activations.backward(beyond.astype(np.float64))
    assert equal(weights(bottom), before)  # only clipped entries had a gradient
    activations.batch(ALL, training=True)
    activations.backward((~beyond).astype(np.float64))
    assert not equal(weights(bottom), before)


def test_forward_only_uses_eval_mode_and_training_its_own(settings: Read) -> None:
    bottom, activations = trained(settings("norm"))
    before = weights(bottom)
    one, two = (activations.batch(ALL, training=False)[0] for _ in range(2))
    assert np.array_equal(one, two)
    assert equal(weights(bottom), before)
    two = activations.batch(ALL, training=True)[0]
    assert not np.array_equal(one, two)  # dropout
    activations.batch(ALL, training=True)
    moved = weights(bottom)
    assert not np.array_equal(moved["bottom.1.running_mean"], before["bottom.1.running_mean"])
    assert moved["bottom.1.num_batches_tracked"] == 2
    bottom.fixed(VALUES)
    assert equal(weights(bottom), moved)


def test_forward_only_keeps_no_graph(settings: Read) -> None:
    _, activations = trained(settings("linear"))
    activations.batch(ALL, training=False)
    assert activations._output is not None
    assert not activations._output.requires_grad


# --- training ---


def reference(run: DataOwnerRun, optimizer: Callable[[Any], torch.optim.Optimizer]) -> nn.Module:
    """Train the same network plainly, by the same gradients."""
    network = BottomModel(run, columns=COLUMNS, seed=SEED).network
    made = optimizer(network.parameters())
    for number in range(6):
        output = network(torch.from_numpy(VALUES.astype(np.float32)))
        output.backward(torch.from_numpy(gradient_of(number)).float())
        made.step()
        made.zero_grad()
    return network


def gradient_of(number: int) -> NDArray[np.float64]:
    return features_of(ROWS, 5) * (number + 1) / 100


OPTIMIZERS: list[tuple[dict[str, Any], str, Callable[[Any], torch.optim.Optimizer]]] = [
    ({"optimizer": "adam"}, "", lambda p: torch.optim.Adam(p, lr=0.01)),
    ({"optimizer": "AdamW", "learning_rate": 0.1}, "", lambda p: torch.optim.AdamW(p, lr=0.1)),
    ({"optimizer": "rmsprop"}, "", lambda p: torch.optim.RMSprop(p, lr=0.01)),
    (
        {"optimizer": "sgd", "learning_rate": 0.02},
        "[train.optimizer_options]\nmomentum = 0.9\nnesterov = true\n",
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    ),
    (
        {"optimizer": "adam"},
        "[train.optimizer_options]\nbetas = [0.5, 0.75]\n",
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.75)),
    ),
    ({"optimizer": "torch.optim:Adagrad"}, "", lambda p: torch.optim.Adagrad(p, lr=0.01)),
]


@pytest.mark.parametrize(("train", "text", "optimizer"), OPTIMIZERS)
def test_training_equals_a_plain_loop(
    settings: Read, train: dict[str, Any], text: str, optimizer: Callable[[Any], torch.optim.Optimizer]
) -> None:
    run = settings("linear", text=text, **train)
    bottom, activations = trained(run)
    for number in range(6):
        activations.batch(ALL, training=True)
        activations.backward(gradient_of(number))
    expected = reference(run, optimizer).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in bottom.network.state_dict().items())


SCHEDULES: list[tuple[str, str, list[float]]] = [
    ("StepLR", "step_size = 1\ngamma = 0.5\n", [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]),
    ("LinearLR", "start_factor = 0.5\ntotal_iters = 2\n", [0.005, 0.005, 0.0075, 0.0075, 0.01, 0.01]),
    ("CosineAnnealingLR", "T_max = 2\n", [0.01, 0.01, 0.005, 0.005, 0.0, 0.0]),
]


@pytest.mark.parametrize(("name", "options", "expected"), SCHEDULES)
def test_schedule_steps_at_the_end_of_each_epoch(
    settings: Read, name: str, options: str, expected: list[float]
) -> None:
    run = settings("linear", text=f"[train.schedule_options]\n{options}", schedule=name)
    _, activations = trained(run, steps_per_epoch=2)
    rates = []
    for number in range(6):
        rates.append(activations._optimizer.param_groups[0]["lr"])
        activations.batch(ALL, training=True)
        activations.backward(gradient_of(number))
    assert rates == pytest.approx(expected)


def test_schedule_that_ends_before_the_training_is_refused(settings: Read) -> None:
    text = "[train.schedule_options]\nmax_lr = 0.1\ntotal_steps = 2\n"
    _, activations = trained(settings("linear", text=text, schedule="OneCycleLR"), steps_per_epoch=1)
    for number in range(2):
        activations.batch(ALL, training=True)
        activations.backward(gradient_of(number))
    activations.batch(ALL, training=True)
    with pytest.raises(ConfigError, match="cannot step: Tried to step 3 times") as caught:
        activations.backward(gradient_of(2))
    assert "over all epochs" in caught.value.hint


# --- its random stream ---


def test_network_and_dropout_follow_the_seed_alone(settings: Read) -> None:
    run = settings("dropout")

    def train(*, disturbed: bool, seed: Seed = SEED) -> dict[str, NDArray[Any]]:
        torch.manual_seed(int(disturbed))
        bottom = BottomModel(run, columns=COLUMNS, seed=seed)
        activations = TrainedActivations(bottom, run, VALUES, steps_per_epoch=1)
        for number in range(3):
            activations.batch(ALL, training=True)
            if disturbed:
                torch.empty(17).uniform_()
            activations.backward(gradient_of(number))
        return weights(bottom)

    usual = train(disturbed=False)
    assert equal(train(disturbed=True), usual)
    assert not equal(train(disturbed=False, seed=Seed(bytes(32))), usual)


def test_dropout_is_drawn_anew_in_every_batch(settings: Read) -> None:
    bottom, activations = trained(settings("dropout"))
    before = weights(bottom)
    one = activations.batch(ALL, training=True)[0]
    again = activations.batch(ALL, training=True)[0]
    assert np.array_equal(one, again)  # a step that is made again is the same step
    activations.backward(np.zeros_like(one, dtype=np.float64))
    assert equal(weights(bottom), before)
    assert not np.array_equal(activations.batch(ALL, training=True)[0], one)


def test_bottom_model_leaves_the_process_stream_alone(settings: Read) -> None:
    run = settings("dropout")
    torch.manual_seed(5)
    undisturbed = torch.empty(3).uniform_()
    torch.manual_seed(5)
    bottom, activations = trained(run)
    activations.batch(ALL, training=True)
    bottom.fixed(VALUES)
    assert torch.equal(torch.empty(3).uniform_(), undisturbed)


def test_stream_is_given_back_when_the_network_fails(settings: Read) -> None:
    bottom = BottomModel(settings("linear"), columns=COLUMNS, seed=SEED)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        bottom.apply(torch.zeros(2, COLUMNS + 1))
    assert torch.equal(torch.get_rng_state(), before)


# --- saving ---


def test_saved_weights_and_buffers_come_back(settings: Read) -> None:
    run = settings("norm")
    bottom, activations = trained(run)
    activations.batch(ALL, training=True)
    activations.backward(gradient_of(0))
    saved = {**weights(bottom), "share": np.zeros(3)}
    # As a saved file has them: no array without a dimension.
    stored = {name: np.ascontiguousarray(array) for name, array in saved.items()}
    other = BottomModel(run, columns=COLUMNS, seed=Seed(bytes(32)))
    assert not np.array_equal(other.fixed(VALUES)[0].activation_ND, bottom.fixed(VALUES)[0].activation_ND)
    other.load(stored)
    assert equal(weights(other), weights(bottom))
    assert np.array_equal(other.fixed(VALUES)[0].activation_ND, bottom.fixed(VALUES)[0].activation_ND)
    stored["bottom.0.weight"][:] = 0  # what was loaded is a copy
    assert equal(weights(other), weights(bottom))


@pytest.mark.parametrize("factory", ["wide", "norm", "dropout"])
def test_saved_weights_of_another_network_are_refused(settings: Read, factory: str) -> None:
    saved = weights(BottomModel(settings("linear"), columns=COLUMNS, seed=SEED))
    other = BottomModel(settings(factory), columns=COLUMNS, seed=SEED)
    with pytest.raises(CheckpointMismatchError, match="another shape") as caught:
        other.load(saved)
    assert "restore the module" in caught.value.hint


# --- what cannot be used ---


@pytest.mark.parametrize(
    ("factory", "says"), [("three", r"\(2, 4, 1\) for \(2, 4\)"), ("row", r"\(1, 4\)"), ("pair", "tuple")]
)
def test_output_that_is_not_rows_by_features_is_refused(settings: Read, factory: str, says: str) -> None:
    run = settings(factory)
    with pytest.raises(ConfigError, match=f"returned {says}") as caught:
        check_bottom(run, VALUES)
    assert "nn.Flatten" in caught.value.hint
    _, activations = trained(run)
    with pytest.raises(ConfigError):
        activations.batch(rows_of(0, 1), training=True)


def test_output_that_is_not_finite_is_refused(settings: Read) -> None:
    run = settings("missing")
    with pytest.raises(NonFiniteError, match="activations of the bottom model: 8 of 8") as caught:
        check_bottom(run, VALUES)
    assert "learning rate" in caught.value.hint
    _, activations = trained(run)
    with pytest.raises(NonFiniteError, match="bottom model"):
        activations.batch(ALL, training=True)


@pytest.mark.parametrize(("factory", "says"), [("absent", "cannot be imported"), ("nothing", "returned int")])
def test_factory_that_cannot_be_used_is_refused(settings: Read, factory: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.bottom = .*{says}") as caught:
        check_bottom(settings(factory), VALUES)
    assert "torch.nn.Module" in caught.value.hint or "module:factory" in caught.value.hint


@pytest.mark.parametrize(
    ("train", "text", "says"),
    [
        ({"optimizer": "lbfgs"}, "", r"train\.optimizer = 'lbfgs' cannot be used"),
        ({"optimizer": "nope"}, "", r"train\.optimizer is not known"),
        ({}, "[train.optimizer_options]\nspeed = 1\n", r"train\.optimizer cannot be made"),
        ({"schedule": "ReduceLROnPlateau"}, "", r"train\.schedule = 'ReduceLROnPlateau' cannot be used"),
        (
            {"schedule": "StepLR"},
            "[train.schedule_options]\nstep_size = 0\n",
            r"train\.schedule cannot step",
        ),
    ],
)
def test_training_that_cannot_be_made_is_refused_before_it_begins(
    settings: Read, train: dict[str, Any], text: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_bottom(settings("linear", text=text, **train), VALUES)
    assert caught.value.hint


def test_check_tells_the_width(settings: Read) -> None:
    assert check_bottom(settings("linear"), VALUES) == 5
    assert check_bottom(settings("wide"), VALUES) == 6
