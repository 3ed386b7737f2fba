"""Ctrl-C and SIGTERM, so that none is lost and none falls into the middle of a lock.

Python runs a signal's handler between any two instructions of the main thread. An exception raised there is
lost inside a callback from C (a destructor, say), and one inside a queue's own code can leave its lock taken,
on which closing then hangs. While `handled` is active, a signal raises at once where that is safe, waits
where a connection is being used (`deferred`), and is raised again at the session's next call if it was lost.

Without handlers of ours, as in a user's own program, nothing changes. Imported by interrupts, transport,
session and cli.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM
"""Exit codes, as shells have them."""


class _State:
    """What arrived; signals belong to the process, and so does this.

    Attributes:
        waiting: a signal that arrived where raising was not safe.
        raised: a signal that was raised, and may have been lost.
        depth: of sections in which raising is not safe.
    """

    waiting: int | None = None
    raised: int | None = None
    depth: int = 0


_state = _State()


@contextmanager
def handled() -> Iterator[None]:
    """Handle both signals in this way; only the main thread can, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    forget()
    before = {number: signal.signal(number, arrive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        forget()


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait: they are raised by `check_waiting`, or when the section ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    if not _state.depth:
        check_waiting()


def check_waiting() -> None:
    """Raise a signal that waits; call it in a deferred section, between two waits.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        SystemExit: SIGTERM.
    """
    if _state.waiting is not None and threading.current_thread() is threading.main_thread():
        number, _state.waiting = _state.waiting, None
        raise _exception(number)


def check() -> None:
    """Raise a signal that waits or was lost.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        SystemExit: SIGTERM.
    """
    check_waiting()
    if _state.raised is not None and threading.current_thread() is threading.main_thread():
        number, _state.raised = _state.raised, None
        raise _exception(number)


def forget() -> None:
    """Forget what arrived: whoever handled signals does so no more."""
    _state.waiting = _state.raised = None
    _state.depth = 0


def arrive(number: int, frame: FrameType | None = None) -> None:
    """Raise a signal, or let it wait where that is not safe; a handler.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        SystemExit: SIGTERM.
    """
    del frame
    if _state.depth:
        _state.waiting = number
        return
    _state.raised = number
    raise _exception(number)


def _exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED)
