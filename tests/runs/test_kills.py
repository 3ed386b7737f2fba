"""Real processes that are killed, interrupted and started again; the full count is in `campaign`."""

import signal
from pathlib import Path

import pytest

from moiety.config import load_run
from tests.support.forked import Forked, forked
from tests.support.killed_processes import Death, Keeper
from tests.support.parties import Files, address_in, configure, make_parties

pytestmark = pytest.mark.slow


def test_training_survives_five_kills_of_either_process(tmp_path: Path) -> None:
    whole = Keeper(tmp_path / "whole", label_owner=[], data_owner=[]).run()
    killed = Keeper(
        tmp_path / "killed",
        label_owner=[Death(frame=16), Death(frame=27), Death(frame=9)],
        data_owner=[Death(frame=21), Death(frame=15)],
    ).run()
    assert (whole.kills, killed.kills) == (0, 5)
    assert killed.learnt == whole.learnt
    assert len(set(killed.seeds)) == len(killed.seeds)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = make_parties(tmp_path)
    configure(made.label_owner, {"train.epochs": 4, "checkpoint.every": "epoch"})
    configure(made.data_owner, {"policy.released_z_per_row": 10_000})
    return made


def started(files: Files, provider: Forked) -> None:
    configure(files.label_owner, {"peer.dial": address_in(provider.wait_for("listening at"))})


def checkpoints(path: Path) -> list[Path]:
    return sorted((load_run(path).folder / "checkpoints").iterdir())


def finish(files: Files) -> None:
    """Go on on both sides, to the end."""
    configure(files.data_owner, {"peer.listen": "127.0.0.1:0"})
    with forked("provide", files.data_owner, "--once", "--resume") as provider:
        started(files, provider)
        with forked("train", files.label_owner, "--resume") as trainer:
            trained, provided = trainer.end(), provider.end()
    assert (trained.code, provided.code) == (0, 0), trained.errors + provided.errors
    assert "the run resumes after step" in trained.output
    assert "the run resumes after step" in provided.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_label_owner_that_is_interrupted_saves_and_tells_the_peer(
    files: Files, number: signal.Signals, code: int
) -> None:
    with forked("provide", files.data_owner) as provider:
        started(files, provider)
        with forked("train", files.label_owner, stop_at="epoch 1: loss") as trainer:
            trainer.wait_for("epoch 1: loss")
            trainer.send(number)
            trainer.release()
            assert trainer.end().code == code
        provider.wait_for("session ended: the peer stopped the session (interrupted)")
        provider.send(signal.SIGTERM)
        assert provider.end().code == 143
    assert len(checkpoints(files.label_owner)) == len(checkpoints(files.data_owner))
    finish(files)


def test_data_owner_that_is_interrupted_saves_and_tells_the_peer(files: Files) -> None:
    configure(files.label_owner, {"checkpoint.every": "9999 s"})
    with forked("provide", files.data_owner) as provider:
        started(files, provider)
        with forked("train", files.label_owner, stop_at="epoch 2: loss") as trainer:
            trainer.wait_for("epoch 2: loss")
            provider.send(signal.SIGTERM)
            assert provider.end().code == 143
            trainer.release()
            trained = trainer.end()
    assert trained.code == 5
    assert "the peer stopped the session (interrupted)" in trained.errors
    # One at the start, one by each side for the interrupt where it fell between two steps.
    assert len(checkpoints(files.data_owner)) == 2
    finish(files)


def test_peer_that_stays_away_ends_the_run_with_its_state_saved(files: Files) -> None:
    configure(files.label_owner, {"peer.reconnect_deadline": 0.5, "peer.connect_deadline": 0.5})
    with forked("provide", files.data_owner) as provider:
        started(files, provider)
        with forked("train", files.label_owner, stop_at="epoch 1: loss") as trainer:
            trainer.wait_for("epoch 1: loss")
            provider.process.kill()
            provider.end()
            trainer.release()
            trained = trainer.end()
    assert trained.code == 6
    assert "hint: the state is saved: resume with `moiety train RUN_FILE --resume`" in trained.errors
    finish(files)


def test_provide_that_is_to_resume_begins_no_new_training(files: Files) -> None:
    with forked("provide", files.data_owner, "--once") as provider:
        started(files, provider)
        with forked("train", files.label_owner, stop_at="epoch 1: loss") as trainer:
            trainer.wait_for("epoch 1: loss")
            trainer.process.kill()
            trainer.end()
        provider.process.kill()
        provider.end()
    for path in checkpoints(files.label_owner):
        path.unlink()
    with forked("provide", files.data_owner, "--once", "--resume") as provider:
        started(files, provider)
        with forked("train", files.label_owner) as trainer:
            trained, provided = trainer.end(), provider.end()
    assert provided.code == 7
    assert "the label owner began a new training" in provided.errors
    assert trained.code == 5
