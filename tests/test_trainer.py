import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from moiety import checkpoint
from moiety.config import load_label_owner_run
from moiety.errors import CheckpointError, ConfigError, DataError, PeerAbortedError
from moiety.label_owner import open_run
from moiety.networks import make_optimizer
from moiety.trainer import Result, build_top, evaluate, train
from tests.parties import Files, configure, make_parties, meet, rewrite_table, wire, with_column
from tests.randomness import RecordedRandomness


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[dict[str, int]] = []
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def begin(self, *, epochs: int, rows: int) -> None:
        self.begun.append({"epochs": epochs, "rows": rows})

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        self.steps.append({"epoch": epoch, "rows": rows, "loss": loss, "sent": sent, "received": received})

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        self.epochs.append({"epoch": epoch, "loss": loss, "metrics": metrics})


def trained(files: Files, **settings: Any) -> Result:
    return train(
        files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"trainer"), **settings
    )


def test_train_tells_the_observer_every_step_and_epoch(tmp_path: Path) -> None:
    notes = Notes()
    result = trained(make_parties(tmp_path), observer=notes)
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
