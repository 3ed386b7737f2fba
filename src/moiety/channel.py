"""What a session talks through: something that carries whole frames in order, or fails.

`MemoryChannel` joins two parties in one process without threads: a `receive` on an empty inbox runs the
peer. The network's channel is in `transport`. Opaque bytes; knows nothing of messages.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from moiety.errors import MalformedMessageError, PeerTimeoutError, PeerUnreachableError

MAX_FRAME_BYTES: Final = 4 * 2**20 + 64 * 2**10
"""A block of 4 MiB and its header, with room to spare; nothing larger is sent or taken."""


class Channel(Protocol):
    """Carries frames between two parties, in order."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of all frames sent."""
        ...

    @property
    def bytes_received(self) -> int:
        """Bytes of all frames received."""
        ...

    def send(self, frame: bytes) -> None:
        """Send a frame; may wait for a slow peer.

        Raises:
            PeerUnreachableError: the connection is gone.
            MalformedMessageError: the frame is over the limit.
        """
        ...

    def receive(self, *, deadline_seconds: float) -> bytes:
        """Return the next frame.

        Raises:
            PeerTimeoutError: none came in time.
            PeerUnreachableError: the connection is gone.
        """
        ...

    def close(self) -> None:
        """Deliver what was sent, then end; a second call does nothing."""
        ...


class MemoryChannel:
    """One end of an in-memory connection."""

    def __init__(self) -> None:
        self._inbox: deque[bytes] = deque()
        self._other: MemoryChannel | None = None
        self._closed = False
        self.pump: Callable[[], None] | None = None
        self.bytes_sent = 0
        self.bytes_received = 0

    @property
    def pending(self) -> int:
        """Frames that wait to be received at this end."""
        return len(self._inbox)

    def send(self, frame: bytes) -> None:
        """Put a frame into the other end's inbox."""
        check_frame_size(frame)
        if self._other is None or self._closed or self._other._closed:
            raise PeerUnreachableError("the in-memory connection is closed")
        self.bytes_sent += len(frame)
        self._other._inbox.append(frame)

    def receive(self, *, deadline_seconds: float) -> bytes:
        """Return the next frame, running the peer's pump where the inbox is empty."""
        if not self._inbox and self._other is not None and self._other.pump is not None:
            self._other.pump()
        if not self._inbox:
            self._fail(deadline_seconds)
        frame = self._inbox.popleft()
        self.bytes_received += len(frame)
        return frame

    def close(self) -> None:
        """End the connection; what was sent can still be received."""
        self._closed = True

    def _fail(self, deadline_seconds: float) -> None:
        if self._other is None or self._other._closed or self._closed:
            raise PeerUnreachableError("the in-memory connection is closed")
        raise PeerTimeoutError(f"the peer did not answer within {deadline_seconds:g} s")


def memory_pair() -> tuple[MemoryChannel, MemoryChannel]:
    """Return the two ends of an in-memory connection."""
    left, right = MemoryChannel(), MemoryChannel()
    left._other, right._other = right, left
    return left, right


def check_frame_size(frame: bytes) -> None:
    """Refuse a frame over the limit.

    Raises:
        MalformedMessageError: it is larger than `MAX_FRAME_BYTES`.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise MalformedMessageError(
            f"a frame has {len(frame)} bytes, and {MAX_FRAME_BYTES} are allowed"
        )
