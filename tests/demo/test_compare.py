from pathlib import Path

import numpy as np
import pytest

from moiety.demo.compare import ClearLayer, compare, join, train_twin
from moiety.demo.local import simulate
from moiety.nn.bottom import TrainedActivations
from moiety.protocol.state import Features
from moiety.store import model as checkpoint
from tests.support.parties import Files, configure, make_parties
from tests.support.randomness import RecordedRandomness


def trained(folder: Path) -> Files:
    files = make_parties(folder)
    configure(files.label_owner, {"train.epochs": 6})
    simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"compare"))
    return files


def test_compare_finds_encrypted_training_close_to_its_twin(tmp_path: Path) -> None:
    files = trained(tmp_path)
    comparison = compare(files.label_owner, files.data_owner)
    encrypted, twin = comparison.rows["encrypted"], comparison.rows["twin, in the clear"]
    assert encrypted.metrics["AUC"] == pytest.approx(twin.metrics["AUC"], abs=0.01)
    assert encrypted.metrics["KS"] == pytest.approx(twin.metrics["KS"], abs=0.05)
    assert comparison.rows["Adam, in the clear"].metrics["AUC"] > 0.8
    assert comparison.encrypted.test["AUC"] == encrypted.metrics["AUC"]
    assert comparison.encrypted.steps == 6 * 2


def test_join_gives_the_twin_the_weights_and_batches_of_the_run(tmp_path: Path) -> None:
    files = trained(tmp_path)
    joined = join(files.label_owner, files.data_owner)
    arrays, _ = checkpoint.load_model(tmp_path / "bank" / "small")
    activation_ND, _ = joined.activations().batch(np.arange(600), training=False)
    assert activation_ND.shape == (600, 8)
    assert activation_ND.dtype == np.int16
    assert set(joined.encoded.tolist()) == {0.0, 1.0}
    assert arrays["share"].shape == (8, 4)
    # The same training in the clear, twice: nothing in it is left to chance.
    assert train_twin(joined) == train_twin(joined)


EXAMPLE: dict[str, object] = {"bottom": "moiety.demo.networks:bottom"}


def configured(folder: Path, protocol: str, model: dict[str, object]) -> Files:
    files = make_parties(folder)
    chosen = {"name": protocol} | ({} if protocol == "blind" else {"reveals": "gradients"})
    configure(files.label_owner, {"protocol": chosen, "train.epochs": 1})
    configure(files.data_owner, {"protocol": chosen, "model": model})
    return files


def run_without_a_step(files: Files) -> None:
    """Train at a rate too small to move a weight in fixed point."""
    configure(files.label_owner, {"train.update": "sgd", "train.learning_rate": 1e-30})
    simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"compare"))


@pytest.mark.parametrize(
    ("protocol", "model"),
    [
        ("blind", {}),
        ("blind", {**EXAMPLE, "frozen": True}),
        ("joint", EXAMPLE),
        ("acml", {}),
        ("acml", EXAMPLE),
    ],
)
def test_twin_begins_with_the_weights_of_the_run(
    tmp_path: Path, protocol: str, model: dict[str, object]
) -> None:
    files = configured(tmp_path, protocol, model)
    run_without_a_step(files)
    shares = [checkpoint.load_model(tmp_path / name / "small")[0]["share"] for name in ("bank", "telco")]
    weights_DK = join(files.label_owner, files.data_owner).weights(len(shares[0]))
    # Stochastic rounding moves an entry of dz' by one unit with probability 2^-70 or so: never here.
    assert np.array_equal(weights_DK, shares[0] + shares[1])


@pytest.mark.parametrize(
    ("protocol", "model", "kind"),
    [
        ("joint", EXAMPLE, TrainedActivations),
        ("acml", EXAMPLE, TrainedActivations),
        ("acml", {**EXAMPLE, "frozen": True}, Features),
        ("blind", {**EXAMPLE, "frozen": True}, Features),
        ("acml", {}, Features),
    ],
)
def test_twin_has_the_activations_of_the_run(
    tmp_path: Path, protocol: str, model: dict[str, object], kind: type
) -> None:
    files = configured(tmp_path, protocol, model)
    simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"compare"))
    joined = join(files.label_owner, files.data_owner)
    activations = joined.activations()
    assert isinstance(activations, kind)
    activation_ND, _ = activations.batch(np.arange(5), training=False)
    assert activation_ND.shape == (5, 16 if model else 8)
    assert joined.schedule.whole_batches is (protocol == "acml" and kind is Features)
    saved, _ = checkpoint.load_model(tmp_path / "telco" / "small")
    if model.get("frozen"):
        arrays = joined.bottom().arrays()
        assert all(np.array_equal(arrays[name], saved[name]) for name in arrays)


def test_ordinary_network_trains_its_bottom_model_too(tmp_path: Path) -> None:
    files = configured(tmp_path, "joint", EXAMPLE)
    configure(files.label_owner, {"train.epochs": 4})
    simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"compare"))
    joined = join(files.label_owner, files.data_owner)
    layer = ClearLayer(joined)
    names = [name for name, _ in layer.named_parameters()]
    assert names == ["linear.0.0.weight", "linear.0.0.bias", "linear.1.weight", "linear.1.bias"]
    frozen = configured(tmp_path / "frozen", "blind", {**EXAMPLE, "frozen": True})
    simulate(frozen.label_owner, frozen.data_owner, randomness=RecordedRandomness(b"compare"))
    layer = ClearLayer(join(frozen.label_owner, frozen.data_owner))
    assert [name for name, _ in layer.named_parameters()] == ["linear.1.weight", "linear.1.bias"]
