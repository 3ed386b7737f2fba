"""Signals: raised at once, where it is safe, or at the session's next call; never lost."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from moiety.contract.products import Role
from moiety.net import signals
from moiety.net.channel import memory_pair
from moiety.net.session import Session
from moiety.net.transport import QUEUED_FRAMES, StreamChannel
from moiety.protocol.messages import Block, Kind
from tests.support.patience import PATIENCE

BLOCK = Block(kind=Kind.HELLO, step=0, payload=b"hello")
RAISES = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


@contextmanager
def soon(number: signal.Signals) -> Iterator[None]:
    """Send this process a signal from another thread, while the main thread is busy."""
    timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize(("number", "kind"), RAISES)
def test_signal_raises_at_once(number: signal.Signals, kind: type[BaseException]) -> None:
    with signals.handled(), pytest.raises(kind):
        signal.raise_signal(number)


def test_terminated_has_the_code_that_shells_give() -> None:
    with signals.handled(), pytest.raises(SystemExit) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == signals.TERMINATED == 143


@pytest.mark.parametrize(("number", "kind"), RAISES)
def test_signal_in_a_deferred_section_is_raised_at_its_end(
    number: signal.Signals, kind: type[BaseException]
) -> None:
    passed = []

    def sections() -> None:
        with signals.deferred():
            with signals.deferred():
                signal.raise_signal(number)
                passed.append("inner")
            passed.append("outer")

    with signals.handled(), pytest.raises(kind):
        sections()
    assert passed == ["inner", "outer"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("call", ["send", "receive"])
def test_signal_lost_in_a_callback_from_c_is_raised_at_the_next_call(call: str) -> None:
    """A destructor's exceptions are dropped by Python; only the session's check raises this one."""

    class Destroyed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    session = Session(memory_pair()[0], role=Role.LABEL_OWNER, deadline_seconds=1.0)
    with signals.handled():
        destroyed: Destroyed | None = Destroyed()
        destroyed = None  # the handler runs here, and what it raises is dropped
        assert destroyed is None
        with pytest.raises(KeyboardInterrupt):
            session.send([BLOCK]) if call == "send" else session.receive()
        signals.check()  # once


@pytest.mark.parametrize(("number", "kind"), RAISES)
def test_signal_ends_a_wait_for_a_frame(number: signal.Signals, kind: type[BaseException]) -> None:
    channel = StreamChannel()
    with signals.handled(), pytest.raises(kind), soon(number):
        channel.receive(deadline_seconds=PATIENCE)
    channel._inbox.put(b"frame")  # its lock is free
    assert channel.receive(deadline_seconds=1.0) == b"frame"


def test_signal_ends_a_wait_for_room() -> None:
    channel = StreamChannel()
    for _ in range(QUEUED_FRAMES):
        channel.send(b"frame")
    with signals.handled(), pytest.raises(KeyboardInterrupt), soon(signal.SIGINT):
        channel.send(b"frame")


def test_other_threads_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run() -> None:
        with signals.handled(), signals.deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number, _ in RAISES]
    with signals.handled():
        assert [signal.getsignal(number) for number, _ in RAISES] != before
    assert [signal.getsignal(number) for number, _ in RAISES] == before
