"""Frames that were sent and that the peer may still ask for: kept as bytes, never made again.

Bounded: whoever sends waits for an acknowledgement when `OUTBOX_BYTES` are full. Every frame carries one; a
side that only listens sends an ACKNOWLEDGE after `ACKNOWLEDGE_BYTES`, a quarter of that, so that a long
message goes on without a pause. Imported by numbering and session.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

OUTBOX_BYTES: Final = 32 * 2**20
"""Kept for one peer; eight full frames."""
ACKNOWLEDGE_BYTES: Final = OUTBOX_BYTES // 4
"""Received without an answer before an ACKNOWLEDGE is due; a sender never waits for less than it keeps."""


class Outbox:
    """Unacknowledged frames in order.

    Args:
        first: number of the first frame it will hold.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._frames: deque[bytes] = deque()
        self._bytes = 0

    @property
    def first(self) -> int:
        """Number of the oldest frame that can still be sent again."""
        return self._first

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._frames))

    def has_room(self, size: int) -> bool:
        """Whether a frame of `size` bytes may be added; an empty outbox takes any."""
        return not self._frames or self._bytes + size <= OUTBOX_BYTES

    def add(self, frame: bytes) -> None:
        """Keep a frame."""
        self._frames.append(frame)
        self._bytes += len(frame)

    def acknowledge(self, received: int) -> None:
        """Forget the frames below number `received`: the peer has them."""
        while self._frames and self._first < received:
            self._bytes -= len(self._frames.popleft())
            self._first += 1
