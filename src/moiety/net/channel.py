"""What carries frames between two parties, and the pair in memory for one process.

A frame is opaque bytes: a channel neither reads, joins nor cuts it. It keeps order and loses nothing
while it stands; what survives a lost channel is `session`'s business. Imported by session, transport
and simulate.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from moiety.errors import MalformedMessageError, PeerTimeoutError, PeerUnreachableError

MAX_FRAME_BYTES: Final = 4 * 2**20 + 64 * 2**10
"""The largest frame: a block of 4 MiB and ample room for its header."""


class Channel(Protocol):
    """One connection to the peer, in both directions."""

    @property
    def bytes_sent(self) -> int:
        """Sum of the sizes of the frames handed to `send`."""
        ...

    @property
    def bytes_received(self) -> int:
        """Sum of the sizes of the frames that `receive` returned."""
        ...

    def send(self, frame: bytes) -> None:
        """Send one frame; may wait while the peer is slow.

        Raises:
            MalformedMessageError: the frame exceeds `MAX_FRAME_BYTES`.
            PeerUnreachableError: the connection is gone.

        Leaks:
            The frame to the peer; its size and time to the network.
        """
        ...

    def receive(self, *, deadline_seconds: float) -> bytes:
        """Return the next frame.

        Raises:
            MalformedMessageError: the frame exceeds `MAX_FRAME_BYTES`.
            PeerUnreachableError: the connection is gone and every frame that came was returned.
            PeerTimeoutError: no frame came before the deadline.
        """
        ...

    def close(self) -> None:
        """Deliver what was sent and end the connection; again: nothing happens."""
        ...


def require_size(frame: bytes) -> None:
    """Refuse a frame that no channel carries.

    Raises:
        MalformedMessageError: the frame exceeds `MAX_FRAME_BYTES`.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise MalformedMessageError(
            f"a frame has {len(frame)} bytes, and {MAX_FRAME_BYTES} are allowed",
            hint="run the same version of moiety on both sides",
        )


class ReturnedChannel:
    """A connection that was read one frame too far: it gives that frame again, and then the next ones.

    Args:
        channel: the connection.
        frame: what was read from it.
    """

    def __init__(self, channel: Channel, frame: bytes) -> None:
        self._channel = channel
        self._frames = [frame]
        self.send = channel.send
        self.close = channel.close

    @property
    def bytes_sent(self) -> int:
        """Bytes of all frames sent."""
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes of all frames received, the returned one among them."""
        return self._channel.bytes_received

    def receive(self, *, deadline_seconds: float) -> bytes:
        """Return the frame, then whatever comes; raises as the connection's `receive`."""
        if self._frames:
            return self._frames.pop()
        return self._channel.receive(deadline_seconds=deadline_seconds)


class MemoryChannel:
    """One end of a pair in this process, without threads; made by `memory_pair`.

    Attributes:
        pump: runs this end's party on whatever lies in its inbox; called when the other end waits.
    """

    def __init__(self) -> None:
        self.pump: Callable[[], None] | None = None
        self.inbox: deque[bytes] = deque()
        self._other: MemoryChannel = self
        self._closed = False
        self._sent = 0
        self._received = 0

    @property
    def bytes_sent(self) -> int:
        """Sum of the sizes of the frames sent."""
        return self._sent

    @property
    def bytes_received(self) -> int:
        """Sum of the sizes of the frames received."""
        return self._received

    def send(self, frame: bytes) -> None:
        """Put a frame into the other end's inbox.

        Raises:
            MalformedMessageError: the frame exceeds `MAX_FRAME_BYTES`.
            PeerUnreachableError: either end is closed.

        Leaks:
            Nothing beyond this process.
        """
        require_size(frame)
        if self._closed or self._other._closed:  # noqa: SLF001 - the two ends are one object
            raise _ended()
        self._other.inbox.append(frame)
        self._sent += len(frame)

    def receive(self, *, deadline_seconds: float) -> bytes:
        """Return the next frame, letting the other end's party run if there is none yet.

        Raises:
            MalformedMessageError: the frame exceeds `MAX_FRAME_BYTES`.
            PeerUnreachableError: either end is closed and the inbox is empty.
            PeerTimeoutError: the other party ran and sent nothing; waiting longer would not help.
        """
        if self._closed:
            raise _ended()
        pump = self._other.pump
        if not self.inbox and pump is not None:
            pump()
        if self.inbox:
            frame = self.inbox.popleft()
            require_size(frame)
            self._received += len(frame)
            return frame
        if self._other._closed:  # noqa: SLF001
            raise _ended()
        raise PeerTimeoutError(
            f"the peer in this process sent nothing to wait for (deadline {deadline_seconds:g} s)",
            hint="let the peer's machine run first: set the pump of its end",
        )

    def close(self) -> None:
        """End the connection; frames already sent can still be received by the other end."""
        self._closed = True


def memory_pair() -> tuple[MemoryChannel, MemoryChannel]:
    """Make two connected ends."""
    first, second = MemoryChannel(), MemoryChannel()
    first._other, second._other = second, first  # noqa: SLF001
    return first, second


def _ended() -> PeerUnreachableError:
    return PeerUnreachableError(
        "the connection to the peer has ended", hint="see the peer's output, then start the run again"
    )
