"""Whole sessions over connections that break: every run ends with the weights of the unbroken one."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from moiety.contract.products import Role
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Seed
from moiety.errors import MoietyError, PeerUnreachableError, SessionLostError
from moiety.net.frame import HEADER_BYTES, decode_frame
from moiety.net.reconnect import Recovery
from moiety.net.session import Session
from moiety.net.window import ACKNOWLEDGE_BYTES, OUTBOX_BYTES
from moiety.party.label_owner.link import LabelOwnerLink
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner
from moiety.protocol.handshake import make_keys, public_key, read_public_key
from moiety.protocol.messages import Block, Kind
from tests.support.pair import (
    Tamper,
    contract_of,
    cut,
    drop,
    flip,
    intact,
    label_terms,
    reorder,
    repeat,
    table_of,
    training_handles,
)
from tests.support.patience import PATIENCE
from tests.support.randomness import RecordedRandomness
from tests.support.wire import Wire

CONTRACT = contract_of(label=label_terms(epochs=1))
HANDLES = training_handles(CONTRACT)
CONTROL = {Kind.RECONNECT, Kind.ACKNOWLEDGE}


def session_over(wire: Wire, role: Role) -> Session:
    redial = wire.redial(role)
    recovery = Recovery(redial, connect_seconds=PATIENCE, answer_seconds=PATIENCE, wait=lambda _: None)
    channel = redial.connect(deadline_seconds=PATIENCE)
    session = Session(channel, role=role, deadline_seconds=PATIENCE, recovery=recovery)
    session.bind(contract=CONTRACT.digest, session=CONTRACT.session)
    return session


class DataOwnerThread(threading.Thread):
    """The data owner's loop until FINISH, in a thread."""

    def __init__(self, wire: Wire, machine: BlindDataOwner) -> None:
        super().__init__(daemon=True)
        self.session = session_over(wire, Role.DATA_OWNER)
        self.machine = machine
        self.error: MoietyError | None = None
        self.settled = False

    def run(self) -> None:
        try:
            self._serve()
        except MoietyError as error:
            self.error = error
            self.session.abort(error)

    def _serve(self) -> None:
        self.session.send(self.machine.open(Seed(bytes(32))))
        while (block := self.session.receive()).kind is not Kind.FINISH:
            self.session.send(self.machine.receive(block))
        self.session.send([Block(kind=Kind.FINISH, step=0, payload=b"")])
        self.settled = self.session.settle()
        self.session.close()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a run over a wire came to."""

    shares: tuple[RingArray, RingArray]
    z: list[bytes]
    seeds: tuple[list[Seed], list[Seed]]
    wire: Wire

    def frames(self, role: Role) -> dict[int, set[bytes]]:
        """The different frames of each number that a role sent: one, unless it was made again."""
        numbered: dict[int, set[bytes]] = {}
        for data in self.wire.sent[role]:
            frame = decode_frame(data)
            if frame.block.kind not in CONTROL:
                numbered.setdefault(frame.sequence, set()).add(data)
        return numbered


def run_over(wire: Wire) -> Ended:
    """Train one epoch; both parties have their own recorded seeds."""
    sources = RecordedRandomness(b"label owner"), RecordedRandomness(b"data owner")
    keys = make_keys(CONTRACT, Role.LABEL_OWNER, randomness=sources[0])
    evaluator = read_public_key(CONTRACT, Role.LABEL_OWNER, public_key(keys))
    label_owner = BlindLabelOwner(CONTRACT, keys=keys, randomness=sources[0])
    data_owner = BlindDataOwner(
        CONTRACT,
        evaluator=evaluator,
        features=table_of(CONTRACT),
        state=None,
        charge=lambda *_: None,
        randomness=sources[1],
    )
    peer = DataOwnerThread(wire, data_owner)
    session = session_over(wire, Role.LABEL_OWNER)
    peer.start()
    link = LabelOwnerLink(session, label_owner, rounding_seed=Seed(bytes([9]) * 32))
    z = []
    link.receive()
    for handle in HANDLES:
        link.start(handle, training=True)
        z.append(link.result().tobytes())
        scaled_NK = np.full((handle.rows, 3), 0.5)
        link.update(scaled_NK, scaled_NK)
    session.send([Block(kind=Kind.FINISH, step=0, payload=b"")])
    assert session.receive().kind is Kind.FINISH
    session.close()
    peer.join(PATIENCE)
    assert not peer.is_alive()
    assert peer.error is None
    shares = label_owner.share, data_owner.state().share_DK
    return Ended(shares=shares, z=z, seeds=(sources[0].given, sources[1].given), wire=wire)


@pytest.fixture(scope="module")
def unbroken() -> Ended:
    return run_over(Wire())


def require_same(ended: Ended, unbroken: Ended) -> None:
    for own, expected in zip(ended.shares, unbroken.shares, strict=True):
        assert np.array_equal(own, expected)
    assert ended.z == unbroken.z
    assert ended.seeds == unbroken.seeds  # nothing was drawn again, so no mask or key serves twice
    for role in Role:
        sent, expected_frames = ended.frames(role), unbroken.frames(role)
        assert all(len(each) == 1 for each in sent.values())
        assert len(sent) == len(expected_frames)


def end_before(target: int) -> Tamper:
    """Lose a frame and every later one."""
    return lambda number, frame: [] if number >= target else [frame]


FAULTS: dict[str, Callable[[int], Tamper]] = {
    "end": end_before,
    "drop": drop,
    "repeat": repeat,
    "reorder": reorder,
    "truncate": lambda target: cut(target, size=HEADER_BYTES + 1),
    "alter header": lambda target: flip(target, byte=60),
    "alter payload": lambda target: flip(target, byte=-1),
}
BOUNDARIES = 8


def test_boundaries_are_all_of_them(unbroken: Ended) -> None:
    assert [len(unbroken.wire.sent[role]) for role in Role] == [BOUNDARIES, BOUNDARIES]
    assert unbroken.wire.connections == 1


@pytest.mark.parametrize("boundary", range(BOUNDARIES))
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_at_every_boundary_leaves_the_same_weights(unbroken: Ended, fault: str, boundary: int) -> None:
    for direction in range(2):
        tampers: list[Tamper] = [intact, intact]
        tampers[direction] = FAULTS[fault](boundary)
        require_same(run_over(Wire(faults=[(tampers[0], tampers[1])])), unbroken)


def test_connections_lost_again_and_again_leave_the_same_weights(unbroken: Ended) -> None:
    """Each of 30 connections carries one to three frames in one direction, then is gone."""
    faults = [
        (end_before(1 + n % 3), intact) if n % 2 else (intact, end_before(1 + n % 3)) for n in range(30)
    ]
    ended = run_over(Wire(faults=faults))
    require_same(ended, unbroken)
    assert ended.wire.connections > 3


def both_sessions(wire: Wire) -> tuple[Session, Session]:
    return session_over(wire, Role.LABEL_OWNER), session_over(wire, Role.DATA_OWNER)


def long_message(count: int, *, size: int = 2**20) -> list[Block]:
    return [
        Block(kind=Kind.WEIGHTS, step=1, payload=bytes([index]) * size, index=index, count=count)
        for index in range(count)
    ]


def sending(session: Session, blocks: list[Block]) -> threading.Thread:
    thread = threading.Thread(target=session.send, args=(blocks,), daemon=True)
    thread.start()
    return thread


def test_message_longer_than_the_outbox_is_sent_while_the_peer_only_listens() -> None:
    wire = Wire()
    sender, listener = both_sessions(wire)
    blocks = long_message(3 * OUTBOX_BYTES // 2**20)
    thread = sending(sender, blocks)
    assert [listener.receive() for _ in blocks] == blocks
    thread.join(PATIENCE)
    assert not thread.is_alive()
    kinds = [decode_frame(data).block.kind for data in wire.sent[Role.DATA_OWNER]]
    assert kinds == [Kind.ACKNOWLEDGE] * len(kinds)
    assert len(kinds) == 3 * OUTBOX_BYTES // ACKNOWLEDGE_BYTES


def test_sender_waits_at_the_bound_until_the_peer_acknowledges() -> None:
    wire = Wire()
    sender, listener = both_sessions(wire)
    blocks = long_message(2 * OUTBOX_BYTES // 2**20)
    thread = sending(sender, blocks)
    kept = OUTBOX_BYTES // (2**20 + HEADER_BYTES)
    while len(wire.sent[Role.LABEL_OWNER]) < kept:
        thread.join(0.01)
    assert sum(map(len, sender._window.retained)) <= OUTBOX_BYTES
    assert [listener.receive() for _ in blocks] == blocks
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_connection_lost_in_a_message_longer_than_the_outbox() -> None:
    wire = Wire(faults=[(end_before(20), intact), (intact, end_before(2))])
    sender, listener = both_sessions(wire)
    blocks = long_message(2 * OUTBOX_BYTES // 2**20)
    thread = sending(sender, blocks)
    assert [listener.receive() for _ in blocks] == blocks
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert wire.connections > 1


# --- a process that was started anew


def fresh_session(wire: Wire, role: Role) -> Session:
    """The session of a process that knows of none."""
    return Session(wire.connect(role), role=role, deadline_seconds=PATIENCE)


def test_restarted_data_owner_tells_that_the_session_is_unknown() -> None:
    wire = Wire()
    label_owner, data_owner = both_sessions(wire)
    data_owner._channel.close()
    answers: list[type[MoietyError]] = []

    def restarted() -> None:
        with pytest.raises(SessionLostError, match="does not know") as caught:
            fresh_session(wire, Role.DATA_OWNER).receive()
        answers.append(caught.type)

    thread = threading.Thread(target=restarted)
    thread.start()
    with pytest.raises(SessionLostError, match="started anew") as caught:
        label_owner.receive()
    thread.join(PATIENCE)
    assert answers == [SessionLostError]
    assert "checkpoint" in caught.value.hint
    assert label_owner.closed


def test_restarted_label_owner_is_served_on_the_connection_it_opened() -> None:
    wire = Wire()
    label_owner, data_owner = both_sessions(wire)
    redial = data_owner._recovery.redial  # type: ignore[union-attr]
    label_owner._channel.close()
    hello = Block(kind=Kind.HELLO, step=0, payload=b"hello")
    anew = fresh_session(wire, Role.LABEL_OWNER)
    anew.send([hello])
    with pytest.raises(SessionLostError, match="started anew"):
        data_owner.receive()
    assert data_owner.closed
    data_owner.abort()
    channel = redial.connect(deadline_seconds=PATIENCE)
    served = Session(channel, role=Role.DATA_OWNER, deadline_seconds=PATIENCE)
    assert served.receive() == hello
    served.send([hello])
    assert anew.receive() == hello
    assert channel.bytes_received == HEADER_BYTES + 5


def test_peer_that_does_not_come_back_ends_the_session_at_its_deadline() -> None:
    wire = Wire()
    label_owner, data_owner = both_sessions(wire)
    data_owner.close()
    with pytest.raises(PeerUnreachableError, match=f"no other was made within {PATIENCE:.0f} s") as caught:
        label_owner.receive()
    assert caught.value.hint
    assert label_owner.closed


def test_connection_lost_before_the_handshake_ended_ends_the_session() -> None:
    wire = Wire()
    label_owner = fresh_session(wire, Role.LABEL_OWNER)
    fresh_session(wire, Role.DATA_OWNER)._channel.close()
    with pytest.raises(PeerUnreachableError, match="gone"):
        label_owner.receive()
    assert wire.connections == 1
