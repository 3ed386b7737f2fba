"""A session on a hostile wire: a typed error, a closed session, and nothing half-applied."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from moiety.contract.policy import exceeded
from moiety.contract.products import Role
from moiety.crypto.ring import encode_gradients
from moiety.errors import (
    CapacityError,
    ConfigError,
    ContractMismatchError,
    DataError,
    LocalProtocolError,
    MalformedMessageError,
    MoietyError,
    PeerAbortedError,
    PeerTimeoutError,
    PeerUnreachableError,
    ProtocolError,
    RemoteProtocolError,
    TransportError,
)
from moiety.net.channel import MemoryChannel, memory_pair
from moiety.net.frame import HEADER_BYTES, NO_CONTRACT, NO_SESSION, Frame, decode_frame, encode_frame
from moiety.net.session import Session
from moiety.protocol.messages import PAYLOAD_LIMIT, AbortCode, Block, Kind, abort_block
from tests.support.pair import (
    Tamper,
    contract_of,
    cut,
    drop,
    flip,
    grow,
    intact,
    parties,
    reorder,
    repeat,
    rewrite,
    training_handles,
    with_block,
)

BLOCK = Block(kind=Kind.HELLO, step=0, payload=b"hello")
CONTRACT = contract_of()
FIRST = training_handles(CONTRACT)[0]
BOUND = (b"c" * 32, b"s" * 16)


def sessions(*, bound: bool = True) -> tuple[Session, Session, MemoryChannel, MemoryChannel]:
    ends = memory_pair()
    first = Session(ends[0], role=Role.LABEL_OWNER, deadline_seconds=1.0)
    second = Session(ends[1], role=Role.DATA_OWNER, deadline_seconds=1.0)
    for session in (first, second):
        if bound:
            session.bind(contract=BOUND[0], session=BOUND[1])
    return first, second, *ends


def frame(**changes: object) -> Frame:
    usual = Frame(
        role=Role.LABEL_OWNER,
        contract=BOUND[0],
        session=BOUND[1],
        sequence=0,
        acknowledged=0,
        block=BLOCK,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def test_blocks_arrive_in_order_and_are_counted() -> None:
    first, second, first_end, second_end = sessions()
    blocks = [replace(BLOCK, step=step) for step in range(3)]
    first.send(blocks)
    assert [second.receive() for _ in blocks] == blocks
    assert first.bytes_sent == second.bytes_received == 3 * (HEADER_BYTES + 5)
    assert (first_end.bytes_sent, second_end.bytes_received) == (first.bytes_sent, first.bytes_sent)
    second.send([BLOCK])
    assert decode_frame(first_end.inbox[0]).acknowledged == 3


def test_frames_are_bound_to_contract_session_and_place() -> None:
    first, _, _, second_end = sessions(bound=False)
    first.send([BLOCK])
    first.bind(contract=BOUND[0], session=BOUND[1])
    first.send([BLOCK])
    frames = [decode_frame(data) for data in second_end.inbox]
    assert frames[0] == frame(contract=NO_CONTRACT, session=NO_SESSION)
    assert frames[1] == frame(sequence=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": Role.DATA_OWNER}, "both sides say they are the data owner"),
        ({"contract": NO_CONTRACT}, "another contract or session"),
        ({"session": NO_SESSION}, "another contract or session"),
        ({"sequence": 1}, "frame 1 came where frame 0 was expected"),
        ({"acknowledged": 1}, "acknowledges 1 frames, and 0 were sent"),
    ],
)
def test_frame_out_of_place_ends_the_session(change: dict[str, object], message: str) -> None:
    _, second, first_end, second_end = sessions()
    first_end.send(encode_frame(frame(**change)))
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        second.receive()
    assert second.closed
    first_end.send(encode_frame(frame()))
    with pytest.raises(LocalProtocolError, match="closed"):
        second.receive()
    with pytest.raises(LocalProtocolError, match="closed"):
        second.send([BLOCK])
    second.abort(caught.value)
    assert [decode_frame(data).block.kind for data in first_end.inbox] == [Kind.ABORT]
    del second_end


def test_malformed_frame_ends_the_session_and_the_peer_is_told() -> None:
    first, second, first_end, _ = sessions()
    first_end.send(b"GET / HTTP/1.1")
    with pytest.raises(MalformedMessageError) as caught:
        second.receive()
    assert second.closed
    second.abort(caught.value)
    with pytest.raises(PeerAbortedError, match="protocol"):
        first.receive()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContractMismatchError(field="rows", own=1, peer=2), AbortCode.CONTRACT),
        (exceeded("predictions", allowed=1, asked=2), AbortCode.POLICY),
        (CapacityError("x"), AbortCode.CAPACITY),
        (DataError("x"), AbortCode.DATA),
        (ConfigError("x"), AbortCode.PROTOCOL),
        (MalformedMessageError("x"), AbortCode.PROTOCOL),
        (KeyboardInterrupt(), AbortCode.INTERRUPTED),
        (PeerTimeoutError("x"), AbortCode.INTERRUPTED),
        (ValueError("secret 42"), AbortCode.INTERRUPTED),
    ],
)
def test_abort_tells_one_code_and_no_detail(error: BaseException, code: AbortCode) -> None:
    first, second, first_end, _ = sessions()
    second.abort(error)
    sent = decode_frame(first_end.inbox[0])
    assert sent.block == abort_block(error)
    assert sent.block.payload[:1] == bytes([code])
    with pytest.raises(PeerAbortedError, match=code.name.lower()) as caught:
        first.receive()
    assert caught.value.hint
    assert first.closed
    assert second.closed


def test_abort_closes_both_connections() -> None:
    first, second, first_end, second_end = sessions()
    second.abort(DataError("x"))
    with pytest.raises(PeerAbortedError):
        first.receive()
    for end in (first_end, second_end):
        assert end._closed
        with pytest.raises(PeerUnreachableError):
            end.send(b"")


def test_abort_before_the_peer_bound_its_session() -> None:
    first, second, first_end, _ = sessions(bound=False)
    first.bind(contract=BOUND[0], session=BOUND[1])
    second.abort(exceeded("predictions", allowed=1, asked=2))
    assert decode_frame(first_end.inbox[0]).contract == NO_CONTRACT
    with pytest.raises(PeerAbortedError, match="policy"):
        first.receive()


def test_abort_of_an_interrupt_between_sending_a_frame_and_counting_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, first_end, _ = sessions()
    delivered = first_end.send

    def send(data: bytes) -> None:
        delivered(data)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(first_end, "send", send)
    with pytest.raises(KeyboardInterrupt) as caught:
        first.send([BLOCK])
    first.abort(caught.value)
    assert second.receive() == BLOCK
    with pytest.raises(PeerAbortedError, match="interrupted"):
        second.receive()


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff"])
def test_abort_with_an_unknown_code(payload: bytes) -> None:
    _, second, first_end, _ = sessions()
    first_end.send(encode_frame(frame(block=Block(kind=Kind.ABORT, step=0, payload=payload))))
    with pytest.raises(PeerAbortedError, match="unknown"):
        second.receive()


def test_abort_after_a_transport_error_sends_nothing() -> None:
    _, second, first_end, _ = sessions()
    second.abort(PeerUnreachableError("x"))
    assert not first_end.inbox
    assert second.closed


def test_abort_twice_tells_once() -> None:
    _, second, first_end, _ = sessions()
    second.abort(DataError("x"))
    second.abort(DataError("x"))
    assert len(first_end.inbox) == 1


def test_abort_on_a_lost_connection_keeps_the_first_error() -> None:
    first, second, _, _ = sessions()
    first.close()
    second.abort(DataError("x"))
    assert second.closed


def test_closed_session_neither_sends_nor_receives() -> None:
    first, second, _, _ = sessions()
    first.send([BLOCK])
    second.close()
    for call in (second.receive, lambda: second.send([BLOCK])):
        with pytest.raises(LocalProtocolError, match="closed") as caught:
            call()
    assert caught.value.hint


def test_answer_that_does_not_come() -> None:
    first, _, _, _ = sessions()
    with pytest.raises(PeerTimeoutError):
        first.receive()
    assert not first.closed  # the caller aborts; a lost connection is not the peer's fault


# --- whole steps on a wire that changes frames ---


def run_step(outgoing: Tamper = intact, incoming: Tamper = intact) -> list[type[MoietyError]]:
    """Run one step over a changed wire; check both sides' state, and return what each of them says."""
    both = parties(CONTRACT, outgoing=outgoing, incoming=incoming)
    label_share = both.label_owner.share.copy()
    data_share = both.data_owner.machine.state().share_DK.copy()
    scaled_NK = np.full((FIRST.rows, 3), 0.5)
    errors: list[type[MoietyError]] = []
    try:
        both.link.start(FIRST, training=True)
        both.link.result()
        both.link.update(scaled_NK, scaled_NK)
        both.data_owner.pump()
    except MoietyError as error:
        both.label_session.abort(error)
        errors.append(type(error))
    if both.data_owner.error is not None:
        errors.append(type(both.data_owner.error))
    assert not errors or both.label_session.closed or both.data_owner.session.closed
    x_ND = both.activations()[CONTRACT.schedule.rows_of(FIRST)].astype(object)
    rounded_NK, _ = encode_gradients(scaled_NK, np.zeros(scaled_NK.shape, dtype=np.uint64))
    update = (x_ND.T @ rounded_NK.astype(object)) % 2**64
    assert both.label_owner.updates in {0, both.data_owner.machine._updates}
    if both.label_owner.updates == 0:
        assert np.array_equal(both.label_owner._share, label_share)
    if both.data_owner.machine._updates == 0:
        assert np.array_equal(both.data_owner.machine._share, data_share)
    if both.label_owner.updates == both.data_owner.machine._updates == 1:
        total = both.label_owner._share + both.data_owner.machine._share
        before = (label_share + data_share).astype(object)
        assert total.tolist() == ((before - update) % 2**64).tolist()
    return errors


CHANGED_FRAMES: list[Callable[[Frame], Frame]] = [
    lambda each: replace(each, role=Role(3 - each.role)),
    lambda each: replace(each, contract=bytes(32)),
    lambda each: replace(each, session=bytes(16)),
    lambda each: replace(each, sequence=each.sequence + 1),
    lambda each: replace(each, acknowledged=2**64 - 1),
    lambda each: with_block(each, step=each.block.step + 1),
    lambda each: with_block(each, step=0),
    lambda each: with_block(each, count=2),
    lambda each: with_block(each, index=1, count=2),
    lambda each: with_block(each, kind=Kind.FINISH, payload=b""),
    lambda each: with_block(each, payload=b""),
    lambda each: with_block(each, kind=Kind.WEIGHTS, payload=bytes(PAYLOAD_LIMIT + 1)),
]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("change", CHANGED_FRAMES)
def test_changed_frame_to_the_data_owner(change: Callable[[Frame], Frame], number: int) -> None:
    at_label_owner, at_data_owner = run_step(outgoing=rewrite(number, change))
    assert issubclass(at_data_owner, RemoteProtocolError)
    assert issubclass(at_label_owner, PeerAbortedError | TransportError)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("change", CHANGED_FRAMES)
def test_changed_frame_to_the_label_owner(change: Callable[[Frame], Frame], number: int) -> None:
    errors = run_step(incoming=rewrite(number, change))
    assert issubclass(errors[0], RemoteProtocolError)
    assert not issubclass(errors[0], PeerAbortedError)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("disturb", [drop, repeat, reorder])
def test_lost_repeated_and_reordered_frames(disturb: Callable[[int], Tamper], number: int) -> None:
    outgoing = run_step(outgoing=disturb(number))
    incoming = run_step(incoming=disturb(number))
    assert outgoing
    # A repeated last answer is never asked for: it stays in the inbox.
    assert bool(incoming) == ((disturb, number) != (repeat, 2))
    assert all(issubclass(error, ProtocolError | TransportError) for error in outgoing + incoming)


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES])
@pytest.mark.parametrize("number", range(3))
def test_cut_frames(number: int, size: int) -> None:
    errors = run_step(outgoing=cut(number, size=size))
    assert MalformedMessageError in errors
    errors = run_step(incoming=cut(number, size=size))
    assert errors[0] is MalformedMessageError


def test_every_changed_byte_of_a_header_is_noticed() -> None:
    for byte in range(HEADER_BYTES):
        _, at_data_owner = run_step(outgoing=flip(1, byte=byte))
        assert issubclass(at_data_owner, RemoteProtocolError), byte


def test_frame_larger_than_any_is_not_even_sent() -> None:
    (at_label_owner,) = run_step(outgoing=grow(1))
    assert at_label_owner is MalformedMessageError


def test_aborting_mid_step_tells_the_peer() -> None:
    both = parties(CONTRACT)
    both.link.start(FIRST, training=True)
    both.link.result()
    both.label_session.abort(CapacityError("x"))
    both.data_owner.pump()
    assert isinstance(both.data_owner.error, PeerAbortedError)
    assert "capacity" in both.data_owner.error.message


def test_abort_that_came_before_the_connection_ended_is_what_sending_raises() -> None:
    label_session, data_session, _, _ = sessions()
    data_session.abort(exceeded("steps", allowed=1, asked=2))
    with pytest.raises(PeerAbortedError, match="steps"):
        label_session.send([BLOCK])
    assert label_session.closed
