"""A training that continues must find the table that it began with, down to the values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moiety.errors import CheckpointMismatchError, PeerAbortedError
from moiety.party.label_owner.train import train
from moiety.protocol.resume import require_same_table, table_digest
from tests.party.label_owner.test_train import Notes
from tests.support.parties import Files, configure, make_parties, rewrite_table, wire, with_column


class Interrupted(Exception):  # noqa: N818 - what the test itself raises
    """The training stops here."""


class StopsAtThird(Notes):
    """A listener that ends the training."""

    def step(self, **told: Any) -> None:
        super().step(**told)
        if len(self.steps) == 3:
            raise Interrupted


@pytest.fixture
def unfinished(tmp_path: Path) -> Files:
    """Train until the third step, with a checkpoint after each."""
    files = make_parties(tmp_path)
    configure(files.label_owner, {"checkpoint.every": "1 steps"})
    with pytest.raises(Interrupted):
        train(files.label_owner, channel=wire(files), listener=StopsAtThird())
    return files


def test_training_continues_with_the_same_tables(unfinished: Files) -> None:
    assert train(unfinished.label_owner, channel=wire(unfinished), resume=True).steps == 4


def test_training_does_not_go_on_with_other_features(unfinished: Files) -> None:
    path = unfinished.data_owner.parent / "features.parquet"
    rewrite_table(path, lambda table: with_column("f0", table.column("f1").to_pylist())(table))
    with pytest.raises((CheckpointMismatchError, PeerAbortedError)) as caught:
        train(unfinished.label_owner, channel=wire(unfinished), resume=True)
    errors = [caught.value, caught.value.__context__, caught.value.__cause__]
    assert any("values of this side's table" in str(error) for error in errors)


def test_training_does_not_go_on_with_other_labels(unfinished: Files) -> None:
    path = unfinished.label_owner.parent / "labels.parquet"
    rewrite_table(path, lambda table: with_column("target", table.column("target").to_pylist()[::-1])(table))
    with pytest.raises(CheckpointMismatchError, match="values of this side's table") as caught:
        train(unfinished.label_owner, channel=wire(unfinished), resume=True)
    assert "--resume" in caught.value.hint


def test_digest_tells_values_types_and_shapes_apart() -> None:
    row = np.array([1.0, 2.0])
    digests = [
        table_digest(row),
        table_digest(row[::-1]),
        table_digest(row[:, None]),
        table_digest(row.astype(np.float32)),
        table_digest(row, row),
        table_digest(row[:1], row[1:]),
    ]
    assert len(set(digests)) == len(digests)
    assert table_digest(np.array([[1.0, 2.0], [3.0, 4.0]]).T) == table_digest(
        np.array([[1.0, 3.0], [2.0, 4.0]])
    )


def test_checkpoint_without_a_digest_is_not_gone_on_from() -> None:
    require_same_table({"table": "a"}, "a")
    with pytest.raises(CheckpointMismatchError):
        require_same_table({}, "a")
