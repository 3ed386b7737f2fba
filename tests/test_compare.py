from pathlib import Path

import numpy as np
import pytest

from moiety import checkpoint
from moiety.compare import compare, join, train_twin
from moiety.local import simulate
from tests.parties import Files, configure, make_parties
from tests.randomness import RecordedRandomness


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
    assert comparison.encrypted["test"]["AUC"] == encrypted.metrics["AUC"]
    assert comparison.encrypted["steps"] == 6 * 2


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
