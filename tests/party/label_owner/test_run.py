from pathlib import Path

import pytest
import torch
from torch import nn

from moiety.contract.products import Role
from moiety.crypto.sampling import Seed
from moiety.errors import (
    ConfigError,
    LocalProtocolError,
    PeerAbortedError,
    PeerTimeoutError,
    PeerUnreachableError,
    PolicyError,
    RemoteProtocolError,
)
from moiety.net.channel import memory_pair
from moiety.net.frame import decode_frame
from moiety.net.session import Session
from moiety.party.label_owner.run import LabelOwnerRun, open_run
from moiety.party.label_owner.session import finish
from moiety.protocol.messages import AbortCode, Block, Kind
from tests.support.parties import Files, configure, make_parties, wire
from tests.support.randomness import RecordedRandomness


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path)


def opened(files: Files) -> LabelOwnerRun:
    return open_run(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"run"))


def test_run_trains_in_an_ordinary_loop(files: Files) -> None:
    with opened(files) as run:
        layer = run.interactive_layer()
        top = nn.Sequential(nn.ReLU(), nn.Linear(4, 1))
        optimizer = torch.optim.Adam([*layer.parameters(), *top.parameters()], lr=0.02)
        losses = []
        for _ in range(2):
            for batch in run.batches("train"):
                assert batch.features is None
                assert batch.target.shape == (batch.rows.rows,)
                output = top(layer(batch.rows)).squeeze(1)
                loss = nn.functional.binary_cross_entropy_with_logits(output, batch.target)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert run.updates == 4
        assert run.save(top) == files.label_owner.parent / "small"


def test_run_hands_out_every_row_once(files: Files) -> None:
    with opened(files) as run:
        rows = [
            row
            for split in ("train", "validation", "test")
            for batch in run.batches(split)
            for row in run.schedule.rows_of(batch.rows).tolist()
        ]
        assert sorted(rows) == list(range(600))


def test_batches_refuse_more_epochs_than_agreed(files: Files) -> None:
    with opened(files) as run:
        for _ in range(2):
            list(run.batches("train"))
        with pytest.raises(LocalProtocolError, match="2 epochs") as caught:
            next(run.batches("train"))
        assert "train.epochs" in caught.value.hint


def test_batches_refuse_an_unknown_split(files: Files) -> None:
    with opened(files) as run, pytest.raises(ConfigError, match="'all'") as caught:
        next(run.batches("all"))
    assert "validation" in caught.value.hint


def test_interactive_layer_refuses_other_units(files: Files) -> None:
    with opened(files) as run:
        with pytest.raises(ConfigError, match=r"model\.units = 4"):
            run.interactive_layer(5)
        assert run.interactive_layer(4).out_features == 4


def test_interactive_layer_takes_its_own_learning_rate(files: Files) -> None:
    with opened(files) as run:
        assert run.interactive_layer(learning_rate=0.5).learning_rate == 0.5


def test_interactive_layer_refuses_to_be_made_twice(files: Files) -> None:
    with opened(files) as run:
        run.interactive_layer()
        with pytest.raises(LocalProtocolError, match="already made"):
            run.interactive_layer()


def test_save_refuses_a_run_without_its_layer(files: Files) -> None:
    with opened(files) as run, pytest.raises(LocalProtocolError, match="nothing to save"):
        run.save(nn.Identity())


def test_run_that_fails_tells_the_data_owner(files: Files) -> None:
    channel = wire(files)
    run = open_run(files.label_owner, channel=channel)
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError
    told = decode_frame(channel._other.inbox.pop()).block
    assert (told.kind, told.payload) == (Kind.ABORT, bytes([AbortCode.INTERRUPTED]))
    assert run.session.closed
    assert not (files.label_owner.parent / "small" / "model.json").exists()


def test_run_that_ends_without_save_leaves_no_model(files: Files) -> None:
    with opened(files) as run:
        run.interactive_layer()
    assert run.session.closed
    assert not (files.label_owner.parent / "small" / "model.json").exists()
    assert not (files.data_owner.parent / "small" / "model.json").exists()


def test_open_run_ends_the_session_if_the_peer_says_nothing(files: Files) -> None:
    own_end, peer_end = memory_pair()
    with pytest.raises(PeerTimeoutError):
        open_run(files.label_owner, channel=own_end)
    with pytest.raises(PeerUnreachableError):
        peer_end.send(b"too late")


def test_open_run_refuses_an_answer_that_is_no_hello(files: Files) -> None:
    own_end, peer_end = memory_pair()
    peer = Session(peer_end, role=Role.DATA_OWNER, deadline_seconds=0.0)
    peer.send([Block(kind=Kind.FINISH, step=0, payload=b"")])
    with pytest.raises(RemoteProtocolError, match="FINISH"):
        open_run(files.label_owner, channel=own_end)
    peer.receive()
    with pytest.raises(PeerAbortedError, match="protocol"):
        peer.receive()


def test_open_run_shows_the_policy_that_refuses_it(files: Files) -> None:
    configure(files.label_owner, {"model.units": 8})
    with pytest.raises(PolicyError) as caught:
        opened(files)
    assert (caught.value.limit, caught.value.allowed, caught.value.asked) == (
        "wide_layer",
        "false",
        "out_features 8 of in_features 8",
    )


def test_finish_refuses_anything_but_finish() -> None:
    own_end, peer_end = memory_pair()
    session = Session(own_end, role=Role.LABEL_OWNER, deadline_seconds=0.0)
    peer = Session(peer_end, role=Role.DATA_OWNER, deadline_seconds=0.0)
    peer.send([Block(kind=Kind.MASKED_Z, step=0, payload=b"")])
    with pytest.raises(RemoteProtocolError, match="MASKED_Z came where FINISH was expected"):
        finish(session)


def test_open_run_ends_the_session_if_its_key_is_refused(files: Files) -> None:
    channel = wire(files)
    with pytest.raises(LocalProtocolError, match="broken"):
        open_run(files.label_owner, channel=channel, randomness=_Failing())
    with pytest.raises(PeerUnreachableError):
        channel.send(b"")


class _Failing(RecordedRandomness):
    """Gives the nonce, and nothing after it."""

    def __init__(self) -> None:
        super().__init__(b"failing")

    def seed(self) -> Seed:
        if self.given:
            raise LocalProtocolError("broken")
        return super().seed()
