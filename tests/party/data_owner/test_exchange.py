"""The data owner's exchanges block by block: what is acceptable when, and what an interrupt saves."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moiety.config import load_data_owner_run
from moiety.contract.products import Role
from moiety.contract.schedule import Split
from moiety.contract.terms import LabelOwnerTerms
from moiety.errors import RemoteProtocolError
from moiety.net.channel import memory_pair
from moiety.net.session import Session
from moiety.party.data_owner.features import read_features
from moiety.party.data_owner.party import DataOwnerParty
from moiety.party.data_owner.session import DataOwnerSession
from moiety.protocol.blind import BlindLabelOwner
from moiety.protocol.handshake import LabelOwnerHandshake, make_keys, public_key
from moiety.protocol.messages import Block, Kind
from moiety.protocol.resume import Mark, mark_block, resume_block
from moiety.store.checkpoints import Checkpoints, open_checkpoints
from moiety.store.model import load_model
from tests.support.killed_runs import Fate, live, pin, tiny_parties
from tests.support.pair import label_terms
from tests.support.parties import Files
from tests.support.randomness import RecordedRandomness

FINISH = Block(kind=Kind.FINISH, step=0, payload=b"")


@pytest.fixture(autouse=True)
def small_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return tiny_parties(tmp_path)


@dataclass
class Met:
    """A data owner's session and the label owner's machine, block by block.

    Args:
        session: takes blocks.
        wire: whose transcript it names checkpoints by; nothing crosses it.
        label_owner: opened; asks.
        checkpoints: where the data owner's lie.
        run: the run's id.
    """

    session: DataOwnerSession
    wire: Session
    label_owner: BlindLabelOwner
    checkpoints: Checkpoints
    run: str

    def give(self, block: Block) -> list[Block]:
        return list(self.session.receive(block))

    def exchange(self, blocks: Iterable[Block]) -> None:
        """Give blocks, and all that the label owner answers, until it waits for nothing."""
        for block in blocks:
            for answer in self.give(block):
                self.exchange(self.label_owner.receive(answer))

    def request(self, *, training: bool) -> list[Block]:
        split = Split.TRAIN if training else Split.VALIDATION
        handle = self.label_owner._contract.schedule.batches(split, epoch=0)[0]
        return list(self.label_owner.request(handle, training=training))

    def here(self, *, updates: int = 0) -> Mark:
        return Mark(updates=updates, transcript=self.wire.transcript.digest())


def session_of(files: Files) -> tuple[DataOwnerSession, Session, Checkpoints]:
    settings = load_data_owner_run(files.data_owner)
    checkpoints = open_checkpoints(settings.folder, settings.checkpoint, report=lambda _: None)
    party = DataOwnerParty(
        settings=settings,
        table=read_features(settings),
        ledger=None,
        randomness=RecordedRandomness(b"data owner"),
        report=lambda _: None,
        checkpoints=checkpoints,
    )
    wire = Session(memory_pair()[1], role=Role.DATA_OWNER, deadline_seconds=0.0)
    return DataOwnerSession(party, wire), wire, checkpoints


def terms_of(files: Files, **changes: Any) -> LabelOwnerTerms:
    settings = load_data_owner_run(files.data_owner)
    table = read_features(settings)
    digest = table.id_digest(settings.table.id).hex()
    return label_terms(run="small", rows=table.rows, order_digest=digest, out_features=2, **changes)


def meet(files: Files, **changes: Any) -> Met:
    """Shake hands, exchange keys and, in a training, the initial share."""
    session, wire, checkpoints = session_of(files)
    handshake = LabelOwnerHandshake(terms_of(files, **changes))
    (answer,) = session.receive(handshake.hello())
    contract = handshake.receive(answer)
    assert contract is not None
    source = RecordedRandomness(b"label owner")
    keys = make_keys(contract, Role.LABEL_OWNER, randomness=source)
    saved = {} if contract.training else _own_share(files)
    label_owner = BlindLabelOwner(contract, keys=keys, randomness=source, **saved)
    met = Met(session, wire, label_owner, checkpoints, contract.run_id)
    for answer in met.give(public_key(keys)):
        label_owner.receive(answer)
    return met


def _own_share(files: Files) -> dict[str, Any]:
    arrays, facts = load_model(files.label_owner.parent / "small")
    return {"share_DK": arrays["share"], "updates": facts["updates"]}


@pytest.mark.parametrize(
    "block", [FINISH, mark_block(Kind.CHECKPOINT, Mark(updates=0, transcript=bytes(32)))]
)
def test_exchange_is_not_ended_or_saved_within(files: Files, block: Block) -> None:
    met = meet(files)
    met.give(met.request(training=True)[0])
    assert not met.session.idle
    with pytest.raises(RemoteProtocolError, match=rf"{block.kind.name} .*came"):
        met.give(block)


def test_training_is_not_ended_within_an_epoch(files: Files) -> None:
    met = meet(files)
    met.exchange(met.request(training=False))
    assert met.session.idle
    with pytest.raises(RemoteProtocolError, match="ended the training after epoch 0, batch 0"):
        met.give(FINISH)
    assert not (files.data_owner.parent / "small" / "model.json").exists()
    assert not met.session.finished


def test_checkpoint_of_another_step_or_transcript_is_refused(files: Files) -> None:
    for wrong in ({"updates": 1}, {"transcript": bytes(32)}):
        met = meet(files)
        mark = Mark(**{"updates": 0, "transcript": met.wire.transcript.digest(), **wrong})  # type: ignore[arg-type]
        with pytest.raises(RemoteProtocolError, match="another transcript"):
            met.give(mark_block(Kind.CHECKPOINT, mark))
        assert not met.checkpoints.saved(met.run)


def test_interrupt_between_exchanges_saves_where_checkpoints_are_taken(files: Files) -> None:
    met = meet(files)
    first = met.here()
    assert met.give(mark_block(Kind.CHECKPOINT, first)) == [mark_block(Kind.CHECKPOINTED, first)]
    assert [saved.mark for saved in met.checkpoints.saved(met.run)] == [first]
    met.exchange(met.request(training=False))
    met.session.stop(KeyboardInterrupt())
    assert [saved.mark for saved in met.checkpoints.saved(met.run)] == [met.here(), first]


def test_interrupt_saves_nothing_where_no_checkpoints_are_taken(files: Files) -> None:
    met = meet(files)
    met.session.stop(KeyboardInterrupt())
    assert not met.checkpoints.saved(met.run)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_interrupt_within_an_exchange_leaves_the_last_checkpoint(files: Files, stop: BaseException) -> None:
    met = meet(files)
    first = met.here()
    met.give(mark_block(Kind.CHECKPOINT, first))
    met.give(met.request(training=True)[0])
    met.session.stop(stop)
    assert [saved.mark for saved in met.checkpoints.saved(met.run)] == [first]


def test_error_of_the_connection_saves_nothing(files: Files) -> None:
    met = meet(files)
    first = met.here()
    met.give(mark_block(Kind.CHECKPOINT, first))
    met.session.stop(RemoteProtocolError("a frame was refused"))
    assert len(met.checkpoints.saved(met.run)) == 1


def test_prediction_takes_no_checkpoint_and_ends_at_any_batch(files: Files) -> None:
    live(files, Fate(), [])
    model = load_model(files.data_owner.parent / "small")[1]["model"]
    prediction = {"purpose": "predict", "model": model, "epochs": 1, "validation": 0.0, "test": 0.0}
    refused = meet(files, **prediction)
    with pytest.raises(RemoteProtocolError, match=r"CHECKPOINT .*came where REQUEST"):
        refused.give(mark_block(Kind.CHECKPOINT, refused.here()))
    ended = meet(files, **prediction)
    assert ended.give(FINISH) == [FINISH]
    assert ended.session.finished


@pytest.mark.parametrize("expected", ["RESUME", "PUBLIC_KEY"])
def test_resumed_run_is_not_ended_before_it_is_taken_up(files: Files, expected: str) -> None:
    met = meet(files)
    mark = met.here()
    met.give(mark_block(Kind.CHECKPOINT, mark))
    (saved,) = met.checkpoints.saved(met.run)
    session, _, _ = session_of(files)
    terms = terms_of(files, resumes=met.run, order=saved.facts["order"])
    list(session.receive(LabelOwnerHandshake(terms).hello()))
    if expected == "PUBLIC_KEY":
        assert list(session.receive(resume_block([mark]))) == [mark_block(Kind.RESUMED, mark)]
    with pytest.raises(RemoteProtocolError, match=f"FINISH came where {expected} was due"):
        list(session.receive(FINISH))
