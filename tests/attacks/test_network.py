"""Row 15: the network replays, reorders, drops, alters, cuts and reflects frames, and takes sessions over.

TLS keeps the network from all of it; these tests take TLS away and let it reach the session. Each control is
a session that lacks the check in question, and shows what gets through then; ours gives a typed error, a
closed session, and nothing half-applied. Certificates are in test_transport.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from moiety.contract.products import Role
from moiety.errors import (
    LocalProtocolError,
    MalformedMessageError,
    MoietyError,
    OutOfOrderError,
    PeerAbortedError,
    RemoteProtocolError,
)
from moiety.net import channel, frame
from moiety.net.channel import MAX_FRAME_BYTES, MemoryChannel, memory_pair
from moiety.net.frame import HEADER_BYTES, Frame, decode_frame, encode_frame
from moiety.net.reconnect import Recovery
from moiety.net.session import Session
from moiety.net.window import Window
from moiety.party.label_owner.session import finish
from moiety.protocol.messages import Block, Kind
from tests.support.pair import (
    Parties,
    Tamper,
    contract_of,
    cut,
    data_terms,
    drop,
    flip,
    intact,
    parties,
    reorder,
    repeat,
    training_handles,
)
from tests.support.patience import PATIENCE
from tests.support.wire import Wire, WireRedial

BLOCKS = [Block(kind=Kind.WEIGHTS, step=number, payload=bytes([number])) for number in range(4)]
BOUND = {"contract": b"c" * 32, "session": b"s" * 16}
CONTRACT = contract_of()


def believing(window: Window, frame: Frame, *, size: int) -> None:
    """A broken check of the next frame: it counts, and looks at nothing."""
    del size
    window._received += 1
    window._inbox.append(frame.block)


def session_pair() -> tuple[Session, Session, MemoryChannel, MemoryChannel]:
    ends = memory_pair()
    first = Session(ends[0], role=Role.LABEL_OWNER, deadline_seconds=1.0)
    second = Session(ends[1], role=Role.DATA_OWNER, deadline_seconds=1.0)
    for session in (first, second):
        session.bind(**BOUND)
    return first, second, *ends


def delivered(tamper: Tamper) -> tuple[list[int], type[MoietyError] | None]:
    """Send four blocks over a hostile wire; return which the receiver is given, and what is raised."""
    first, second, _, inbox = session_pair()
    first.send(BLOCKS)
    frames = [changed for number, data in enumerate(inbox.inbox) for changed in tamper(number, data)]
    inbox.inbox.clear()
    inbox.inbox.extend(frames)
    given: list[int] = []
    try:
        while inbox.inbox:
            given.append(second.receive().step)
    except MoietyError as error:
        assert second.closed
        with pytest.raises(LocalProtocolError):
            second.receive()
        return given, type(error)
    return given, None


@pytest.mark.parametrize(
    ("attack", "through", "before"),
    [(repeat(1), [0, 1, 1, 2, 3], [0, 1]), (reorder(1), [0, 2, 1, 3], [0]), (drop(1), [0, 2, 3], [0])],
)
def test_replay_reorder_and_drop(
    monkeypatch: pytest.MonkeyPatch, attack: Tamper, through: list[int], before: list[int]
) -> None:
    """The network repeats a frame, swaps two, or loses one.

    Control, no check of the number: the machine is given blocks twice, in another order, or not at all. Ours:
    it is given what came before the attack, and nothing after it.
    """
    assert delivered(intact) == ([0, 1, 2, 3], None)
    assert delivered(attack) == (before, OutOfOrderError)
    monkeypatch.setattr(Window, "put", believing)
    # `reorder` keeps its frame in a closure, so that the control needs one of its own.
    fresh = reorder(1) if through == [0, 2, 1, 3] else attack
    assert delivered(fresh) == (through, None)


# --- whole steps: what reaches the weights


def step(both: Parties) -> MoietyError | None:
    """Run the first training step; return what the label owner says."""
    handle = training_handles(both.contract)[0]
    try:
        both.link.start(handle, training=True)
        both.link.result()
        scaled_NK = np.full((handle.rows, 3), 0.5)
        both.link.update(scaled_NK, scaled_NK)
    except MoietyError as error:
        both.label_session.abort(error)
        both.data_owner.pump()
        return error
    return None


def require_nothing_applied(both: Parties, error: MoietyError | None, kind: type[MoietyError]) -> None:
    """A typed error, both sessions closed, and the label owner's share where it was."""
    assert isinstance(error, kind)
    assert both.label_session.closed
    assert both.data_owner.session.closed
    assert both.label_owner.updates == 0
    untouched = parties(both.contract)
    assert np.array_equal(both.label_owner._share, untouched.label_owner._share)


def honest_weights() -> bytes:
    both = parties(CONTRACT)
    assert step(both) is None
    return both.weights().tobytes()


def from_data_owner(contract_nonce: str) -> list[bytes]:
    """Record what the data owner of another session of the same terms sends in its first step."""
    recorded: list[bytes] = []

    def record(number: int, frame: bytes) -> Iterator[bytes]:
        del number
        recorded.append(frame)
        yield frame

    assert step(parties(contract_of(data=data_terms(nonce=contract_nonce)), incoming=record)) is None
    return recorded


def test_replay_of_another_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network answers with frames that it recorded in another session of the same parties and terms.

    Control, no check of contract and session: the step ends without an error, and the weights are ruined.
    Ours: a typed error, and nothing applied.
    """
    recorded = from_data_owner("77" * 32)

    def replay(number: int, frame: bytes) -> list[bytes]:
        return [recorded[number] if number < len(recorded) else frame]

    both = parties(CONTRACT, incoming=replay)
    require_nothing_applied(both, step(both), RemoteProtocolError)
    monkeypatch.setattr(Window, "check_binding", lambda *_: None)
    broken = parties(CONTRACT, incoming=replay)
    assert step(broken) is None
    assert broken.weights().tobytes() != honest_weights()


@pytest.mark.parametrize("number", range(3))
def test_altered_payload(number: int) -> None:
    """The network inverts a byte of each answer of a step.

    Control: the next test. Ours: a typed error, and nothing applied.
    """
    both = parties(CONTRACT, incoming=flip(number, byte=HEADER_BYTES + 6))
    require_nothing_applied(both, step(both), MalformedMessageError)


def test_altered_payload_without_a_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: any bytes of the right length are an answer; the step ends without an error, W ruined."""
    monkeypatch.setattr(frame, "_check_sum", lambda _: None)
    broken = parties(CONTRACT, incoming=flip(2, byte=HEADER_BYTES + 6))
    assert step(broken) is None
    assert broken.weights().tobytes() != honest_weights()


def test_truncated_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network cuts the last answer of a step short.

    Control, a decoder that fills up with zeros: no error, W ruined. Ours: a typed error, nothing applied.
    """
    attack = cut(2, size=HEADER_BYTES + 100)
    both = parties(CONTRACT, incoming=attack)
    require_nothing_applied(both, step(both), MalformedMessageError)

    def forgiving(data: bytes) -> Frame:
        size = int.from_bytes(data[88:92], "little")
        return decode_frame(data.ljust(HEADER_BYTES + size, b"\0"))

    monkeypatch.setattr(frame, "_check_sum", lambda _: None)
    monkeypatch.setattr("moiety.net.session.decode_frame", forgiving)
    broken = parties(CONTRACT, incoming=attack)
    assert step(broken) is None
    assert broken.weights().tobytes() != honest_weights()


def test_reflected_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sends the label owner its own FINISH back, and the data owner nothing.

    Control, no check of the role: the label owner believes that the data owner has saved its half. Ours: it
    does not.
    """

    def reflecting() -> tuple[Session, MemoryChannel]:
        session, _, own_end, other_end = session_pair()
        monkeypatch.setattr(own_end, "send", own_end.inbox.append)
        return session, other_end

    session, _ = reflecting()
    with pytest.raises(RemoteProtocolError, match="both sides say they are the label owner"):
        finish(session)
    assert session.closed
    monkeypatch.setattr(Window, "check_role", lambda *_: None)
    broken, other_end = reflecting()
    finish(broken)
    assert not other_end.inbox


def test_oversized_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer sends a frame beyond the limit.

    Control, no limit in the channel: the frame is taken into memory. Ours: refused before it is decoded.
    """
    oversized = bytes(MAX_FRAME_BYTES + 1)
    ends = memory_pair()
    ends[1].inbox.append(oversized)
    with pytest.raises(MalformedMessageError, match="are allowed"):
        ends[1].receive(deadline_seconds=1.0)
    with pytest.raises(MalformedMessageError, match="are allowed"):
        ends[0].send(oversized)
    monkeypatch.setattr(channel, "require_size", lambda _: None)
    ends[0].send(oversized)
    assert len(ends[1].receive(deadline_seconds=1.0)) == MAX_FRAME_BYTES + 1


# --- taking a session over: attacks on RECONNECT


class Attacker:
    """The label owner's peer, or someone in its place, at the moment when a connection was lost.

    The label owner has sent four blocks and received two; the attacker answers its RECONNECT.
    """

    def __init__(self) -> None:
        self.wire = Wire()
        redial = self.wire.redial(Role.LABEL_OWNER)
        recovery = Recovery(redial, connect_seconds=PATIENCE, answer_seconds=PATIENCE, wait=lambda _: None)
        own = redial.connect(deadline_seconds=PATIENCE)
        self.session = Session(own, role=Role.LABEL_OWNER, deadline_seconds=PATIENCE, recovery=recovery)
        self.session.bind(**BOUND)
        peer = self.wire.connect(Role.DATA_OWNER)
        self.session.send(BLOCKS)
        self.answers = [
            encode_frame(
                Frame(
                    role=Role.DATA_OWNER,
                    **BOUND,
                    sequence=number,
                    acknowledged=3,
                    block=replace(BLOCKS[number], kind=Kind.MASKED_Z),
                )
            )
            for number in range(2)
        ]
        for answer in self.answers:
            peer.send(answer)
        self.taken = [self.session.receive().step for _ in self.answers]
        peer.close()

    def answer(self, *frames: bytes) -> list[bytes]:
        """Let the label owner reconnect, answer with these frames, and return what it sends after."""
        # The attacker connects first, so that its answers lie there when the label owner looks.
        line = WireRedial(self.wire, Role.DATA_OWNER).connect(deadline_seconds=PATIENCE)
        for each in frames:
            line.send(each)
        sent = self.wire.sent[Role.LABEL_OWNER]
        before = len(sent)
        block = self.session.receive()
        assert block.kind is Kind.MASKED_Z
        return sent[before:]


def reconnect(**changes: object) -> bytes:
    """The RECONNECT that fits, with changes: the peer has 3 of 4 frames and has sent 3."""
    fitting = Frame(
        role=Role.DATA_OWNER,
        **BOUND,
        sequence=3,
        acknowledged=3,
        block=Block(kind=Kind.RECONNECT, step=0, payload=b""),
    )
    return encode_frame(replace(fitting, **changes))  # type: ignore[arg-type]


def third_answer() -> bytes:
    block = replace(BLOCKS[2], kind=Kind.MASKED_Z)
    return encode_frame(Frame(role=Role.DATA_OWNER, **BOUND, sequence=2, acknowledged=3, block=block))


def test_fitting_reconnect_goes_on_where_the_session_was() -> None:
    """The control of the next test: the peer itself comes back, and lacks the fourth block only."""
    attacker = Attacker()
    own, *again = attacker.answer(reconnect(), third_answer())
    assert decode_frame(own).block.kind is Kind.RECONNECT
    assert [decode_frame(data).block for data in again] == BLOCKS[3:]


@pytest.mark.parametrize(
    "change",
    [
        {"acknowledged": 2},  # an older RECONNECT, replayed: asks for what was acknowledged
        {"sequence": 1},  # an older one: had sent less than what came
        {"acknowledged": 5},  # more than was sent
        {"acknowledged": 2**64 - 1},
        {"session": b"t" * 16},
        {"contract": b"d" * 32},
        {"role": Role.LABEL_OWNER},  # the label owner's own, reflected
    ],
)
def test_replayed_or_altered_reconnect(change: dict[str, object]) -> None:
    """Someone answers with a RECONNECT of another time, session or side.

    Control: the test above. Ours: a typed error; the session is closed, sends and takes nothing.
    """
    attacker = Attacker()
    kept = attacker.session._window.retained
    with pytest.raises(RemoteProtocolError) as caught:
        attacker.answer(reconnect(**change), third_answer())
    assert not isinstance(caught.value, PeerAbortedError)
    assert attacker.session.closed
    assert attacker.session._window.retained == kept
    assert attacker.session._window._received == 2
    kinds = [decode_frame(data).block.kind for data in attacker.wire.sent[Role.LABEL_OWNER][4:]]
    assert kinds == [Kind.RECONNECT, Kind.ABORT]


def test_reconnect_that_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control of what RECONNECT may claim: without the check, the peer is never sent a block it lacks."""

    def believe(window: Window, frame: Frame) -> int:
        assert window._outbox is not None
        window._outbox.acknowledge(frame.acknowledged)
        return frame.sequence - window._received

    monkeypatch.setattr(Window, "take_reconnect", believe)
    attacker = Attacker()
    _, *again = attacker.answer(reconnect(acknowledged=5), third_answer())
    assert again == []


DAMAGE: list[Callable[[bytes], bytes]] = [
    lambda data: data[:-1],
    lambda data: data[:70] + b"\1" + data[71:],
    lambda _: b"GET / HTTP/1.1",
]


@pytest.mark.parametrize("change", DAMAGE)
def test_damaged_reconnect_is_a_lost_connection(change: Callable[[bytes], bytes]) -> None:
    """What does not decode says nothing about the peer: the next connection is tried, and that one fits."""
    attacker = Attacker()
    first = WireRedial(attacker.wire, Role.DATA_OWNER).connect(deadline_seconds=PATIENCE)
    first.send(change(reconnect()))
    own, *_ = attacker.answer(reconnect(), third_answer())
    assert decode_frame(own).block.kind is Kind.RECONNECT


def test_frames_damaged_for_ever_end_the_session() -> None:
    """Without an end to it, a hostile wire could keep two sessions busy with each other."""
    attacker = Attacker()
    for _ in range(40):
        line = attacker.wire._pair()
        attacker.wire._waiting[Role.LABEL_OWNER].put(line[Role.LABEL_OWNER])
        line[Role.DATA_OWNER].send(b"damaged")
    with pytest.raises(MalformedMessageError):
        attacker.session.receive()
    assert attacker.session.closed
