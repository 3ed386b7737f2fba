import json
import signal
from pathlib import Path

import pytest
from pyarrow import csv

from moiety.config.listener import Listener
from moiety.contract.terms import WIRE_VERSION
from moiety.errors import PeerAbortedError, PeerUnreachableError
from moiety.net import frame
from moiety.party.label_owner.train import train
from tests.support.forked import Forked, forked
from tests.support.parties import (
    Files,
    Outcome,
    Provider,
    address_in,
    configure,
    free_address,
    let_data_owner_dial,
    make_parties,
    process,
    run_here,
)

pytestmark = pytest.mark.slow

LIBRARIES = """
import atexit, sys
large = ("torch", "sklearn", "scipy")
atexit.register(lambda: print("loaded:", [name for name in large if name in sys.modules]))
"""
"""Says at the end which of the libraries that take seconds to load were loaded."""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path)


def require_success(outcome: Outcome) -> None:
    assert outcome.errors == ""
    assert outcome.code == 0


def require_error(outcome: Outcome, code: int, says: str, hint: str) -> None:
    assert outcome.code == code
    lines = outcome.errors.splitlines()
    assert len(lines) == 2, outcome.errors
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]


def test_provide_once_answers_one_training(files: Files) -> None:
    with process("provide", "--once", files.data_owner, prelude=LIBRARIES) as provider:
        address = address_in(provider.wait_for("600 rows ready"))
        configure(files.label_owner, {"peer.dial": address})
        with process("train", files.label_owner) as trainer:
            trained, provided = trainer.end(), provider.end()
    require_success(trained)
    require_success(provided)
    result = json.loads((files.label_owner.parent / "small" / "result.json").read_text())
    assert 0 < result["peak_memory_bytes"] < 1.5e9
    for words in ("epoch 2: loss", "test: AUC", "traffic:", "log2 q = 141", "saved in", "no label"):
        assert words in trained.output
    assert "bank is connected" in provided.output
    assert "finished; z released per row so far: 8 of 640" in provided.output
    assert "loaded: []" in provided.output  # a data owner without a bottom model needs none of them
    assert {path.name for path in (files.label_owner.parent / "small").iterdir()} == {
        "contract.json",
        "model.json",
        "model.safetensors",
        "result.json",
    }


def test_provide_answers_runs_in_turn_until_interrupted(files: Files, tmp_path: Path) -> None:
    with forked("provide", files.data_owner) as provider:
        address = address_in(provider.wait_for("listening at"))
        configure(files.label_owner, {"peer.dial": address})
        require_success(run_here("train", files.label_owner))
        with forked("predict", files.label_owner, "--output", tmp_path / "scores.csv") as scorer:
            scored = scorer.end()
        require_success(scored)
        assert "600 scores in" in scored.output
        configure(files.label_owner, {"run": "another"})
        failed = run_here("train", files.label_owner)
        require_error(failed, 5, "differ in run: own another, peer small", "run files")
        said = provider.wait_for("session ended")
        assert "differ in run: own small, peer another" in said
        configure(files.label_owner, {"run": "small"})
        checked = run_here("check", "--peer", files.label_owner)
        require_success(checked)
        assert "telco agrees on 8 in_features, rlwe-8192-141" in checked.output
        again = run_here("predict", files.label_owner, "--output", tmp_path / "again.csv")
        require_success(again)
        provider.wait_for("finished")
        provider.send(signal.SIGINT)
        ended = provider.end()
    assert ended.code == 130
    assert ended.errors.strip() == "interrupted"
    first, second = (csv.read_csv(tmp_path / name).column("score") for name in ("scores.csv", "again.csv"))
    assert first.to_numpy() == pytest.approx(second.to_numpy(), abs=1e-7)


def test_provide_that_dials_answers_runs_in_turn(files: Files, tmp_path: Path) -> None:
    let_data_owner_dial(files, free_address())
    with forked("provide", files.data_owner) as provider:
        provider.wait_for("dialling")
        with forked("train", files.label_owner) as trainer:
            require_success(trainer.end())
        provider.wait_for("finished")
        require_success(run_here("predict", files.label_owner, "--output", tmp_path / "scores.csv"))
        provider.wait_for("finished; z released per row so far: 12 of 640")
        provider.send(signal.SIGTERM)
        ended = provider.end()
    assert ended.code == 143
    assert ended.errors.strip() == "terminated"
    assert csv.read_csv(tmp_path / "scores.csv").num_rows == 600


def write_frames_of_the_next_version() -> None:
    vars(frame)["WIRE_VERSION"] = WIRE_VERSION + 1


def test_both_processes_name_another_wire_version(files: Files) -> None:
    with forked("provide", "--once", files.data_owner, prelude=write_frames_of_the_next_version) as provider:
        configure(files.label_owner, {"peer.dial": address_in(provider.wait_for("listening at"))})
        trained = run_here("train", files.label_owner)
        provided = provider.end()
    require_error(
        provided,
        5,
        f"differ in wire_version: own {WIRE_VERSION + 1}, peer {WIRE_VERSION}",
        "same version of moiety",
    )
    require_error(
        trained,
        5,
        f"differ in wire_version: own {WIRE_VERSION}, peer {WIRE_VERSION + 1}",
        "same version of moiety",
    )


class TerminatesAfterOneEpoch(Listener):
    """A listener that asks the data owner's process to end in the middle of the training."""

    def __init__(self, provider: Forked) -> None:
        self._provider = provider

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        del epoch, loss, metrics
        self._provider.send(signal.SIGTERM)
        self._provider.end()


class KillsAfterOneEpoch(Listener):
    """A listener that ends the data owner's process in the middle of the training."""

    def __init__(self, provider: Forked) -> None:
        self._provider = provider

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        del epoch, loss, metrics
        self._provider.process.kill()
        self._provider.end()


def test_train_ends_when_the_data_owner_is_killed(files: Files) -> None:
    configure(files.label_owner, {"peer.reconnect_deadline": 1.0})
    with forked("provide", "--once", files.data_owner) as provider:
        configure(files.label_owner, {"peer.dial": address_in(provider.wait_for("listening at"))})
        with pytest.raises(PeerUnreachableError, match="no other was made within 1 s") as caught:
            train(files.label_owner, listener=KillsAfterOneEpoch(provider))
    assert "--resume" in caught.value.hint
    assert {path.name for path in (files.label_owner.parent / "small").iterdir()} == {
        "checkpoints",
        "contract.json",
    }


def test_train_that_is_interrupted_tells_the_data_owner(files: Files) -> None:
    with (
        Provider(files) as provider,
        forked("train", files.label_owner, stop_at="epoch 1: loss") as trainer,
    ):
        trainer.wait_for("epoch 1: loss")
        trainer.send(signal.SIGINT)
        trainer.release()
        trained = trainer.end()
    assert trained.code == 130
    assert trained.errors.strip().endswith("interrupted")
    assert isinstance(provider.error, PeerAbortedError)
    assert "stopped the session (interrupted)" in provider.error.message


def test_provide_that_is_terminated_tells_the_label_owner(files: Files) -> None:
    with forked("provide", files.data_owner) as provider:
        configure(files.label_owner, {"peer.dial": address_in(provider.wait_for("listening at"))})
        with pytest.raises(PeerAbortedError, match=r"stopped the session \(interrupted\)"):
            train(files.label_owner, listener=TerminatesAfterOneEpoch(provider))
        ended = provider.end()
    assert ended.code == 143
    assert ended.errors.strip() == "terminated"
