"""The in-memory channel: order, sizes, and what a lost end looks like."""

import pytest

from moiety.errors import MalformedMessageError, PeerTimeoutError, PeerUnreachableError
from moiety.net.channel import MAX_FRAME_BYTES, MemoryChannel, memory_pair, require_size

DEADLINE = 1.0


def receive(end: MemoryChannel) -> bytes:
    return end.receive(deadline_seconds=DEADLINE)


def test_frames_arrive_in_order_both_ways() -> None:
    first, second = memory_pair()
    first.send(b"one")
    first.send(b"")
    second.send(b"three")
    assert [receive(second), receive(second), receive(first)] == [b"one", b"", b"three"]
    assert (first.bytes_sent, second.bytes_received) == (3, 3)
    assert (second.bytes_sent, first.bytes_received) == (5, 5)


def test_waiting_runs_the_other_party() -> None:
    first, second = memory_pair()

    def echo() -> None:
        while second.inbox:
            second.send(receive(second) * 2)

    second.pump = echo
    first.send(b"ab")
    assert receive(first) == b"abab"


def test_other_party_runs_only_where_nothing_has_come() -> None:
    first, second = memory_pair()
    calls: list[int] = []
    second.pump = lambda: calls.append(1)
    second.send(b"already here")
    assert receive(first) == b"already here"
    assert calls == []


def test_waiting_for_a_party_that_says_nothing() -> None:
    first, second = memory_pair()
    with pytest.raises(PeerTimeoutError, match="deadline 1 s") as caught:
        receive(first)
    assert caught.value.hint
    second.pump = lambda: None
    with pytest.raises(PeerTimeoutError):
        receive(first)


def test_frame_at_and_over_the_limit() -> None:
    first, second = memory_pair()
    first.send(bytes(MAX_FRAME_BYTES))
    assert len(receive(second)) == MAX_FRAME_BYTES
    with pytest.raises(MalformedMessageError, match=f"{MAX_FRAME_BYTES} are allowed") as caught:
        first.send(bytes(MAX_FRAME_BYTES + 1))
    assert caught.value.hint
    assert not second.inbox
    with pytest.raises(MalformedMessageError):
        require_size(bytes(MAX_FRAME_BYTES + 1))


def test_oversize_frame_is_refused_where_it_arrives() -> None:
    first, _ = memory_pair()
    first.inbox.append(bytes(MAX_FRAME_BYTES + 1))
    with pytest.raises(MalformedMessageError):
        receive(first)


def test_what_was_sent_before_closing_still_arrives() -> None:
    first, second = memory_pair()
    first.send(b"last")
    first.close()
    first.close()
    assert receive(second) == b"last"
    with pytest.raises(PeerUnreachableError) as caught:
        receive(second)
    assert caught.value.hint


def test_closed_channel_neither_sends_nor_receives() -> None:
    first, second = memory_pair()
    second.send(b"unread")
    first.close()
    for call in (lambda: first.send(b"x"), lambda: second.send(b"x"), lambda: receive(first)):
        with pytest.raises(PeerUnreachableError):
            call()
