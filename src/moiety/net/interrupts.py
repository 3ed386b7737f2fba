"""Ctrl-C and SIGTERM: the first asks a run to stop at the next step boundary, the second stops it at once.

Where a party only waits, the first is enough. Handlers are installed in the main thread only, for the length
of a `with` block; what was there before is put back. Imported by both parties' loops.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

from moiety.config.listener import SILENT, Listener
from moiety.net.signals import TERMINATED, arrive, forget

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Whether this party was asked to stop; a context manager.

    Args:
        listener: told that the run stops.
    """

    def __init__(self, *, listener: Listener = SILENT) -> None:
        self._listener = listener
        self._asked: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self._asked is not None

    def stop_if_asked(self) -> None:
        """End the process if it was asked to: at a moment between two steps.

        Raises:
            KeyboardInterrupt: by Ctrl-C.
            SystemExit: by SIGTERM, with the code 143.
        """
        if self._asked is not None:
            _stop(self._asked)

    @contextmanager
    def at_once(self, *, waits: bool) -> Iterator[None]:
        """Let a signal end a wait between two steps."""
        self._at_once = waits
        try:
            if waits:
                self.stop_if_asked()
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        forget()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        again = self._asked is not None
        self._asked = number
        if again or self._at_once:
            arrive(number)
            return
        self._listener.say("stopping after this step; once more to stop at once")


def _stop(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(TERMINATED)
