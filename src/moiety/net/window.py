"""Where one session stands: what was sent and came, what is retained to send again, and the transcript.

Pure bookkeeping over bytes: no channel, no clock. Everything is checked before anything is counted. A block
that came enters the transcript when it is taken, not when it arrives: between exchanges both sides have the
same one. Imported by session and recovery.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from moiety.contract.products import Role
from moiety.errors import OutOfOrderError, RemoteProtocolError
from moiety.net.frame import NO_CONTRACT, NO_SESSION, Frame, encode_frame
from moiety.net.transcript import Transcript
from moiety.protocol.messages import Block, Kind


class Window:
    """Numbers what leaves and checks what comes.

    Args:
        role: this side's.

    Attributes:
        role: this side's.
        transcript: the digest of what crossed.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.transcript = Transcript(role)
        self._contract = NO_CONTRACT
        self._session = NO_SESSION
        self._sent = 0
        self._received = 0
        self._owed_bytes = 0
        self._bound = False
        self._outbox: Outbox | None = None
        self._inbox: deque[Block] = deque()

    @property
    def place(self) -> tuple[int, int]:
        """Frames sent and received so far: the place in the transcript."""
        return self._sent, self._received

    @property
    def bound(self) -> bool:
        """Whether the handshake is over: only then can a session survive its connection."""
        return self._bound

    @property
    def settled(self) -> bool:
        """Whether the peer has acknowledged everything that is retained."""
        return not self._outbox

    @property
    def owes(self) -> bool:
        """Whether the peer received no acknowledgement of the last frames."""
        return self._owed_bytes > 0

    @property
    def owes_much(self) -> bool:
        """Whether so much came without an answer that the peer's outbox fills up."""
        return self._owed_bytes >= ACKNOWLEDGE_BYTES

    @property
    def retained(self) -> tuple[bytes, ...]:
        """Frames that the peer may lack, in order."""
        return () if self._outbox is None else tuple(self._outbox)

    @property
    def waiting(self) -> bool:
        """Whether a block came that was not taken yet."""
        return bool(self._inbox)

    def bind(self, *, contract: bytes, session: bytes, retain: bool) -> None:
        """Bind every later frame to what the handshake agreed on, and retain frames from now on if asked."""
        self._contract, self._session = contract, session
        self._bound = True
        self._outbox = Outbox(self._sent) if retain else None

    def has_room(self, size: int) -> bool:
        """Whether a frame of `size` bytes can be sent without waiting for an acknowledgement."""
        return self._outbox is None or self._outbox.has_room(size)

    def number(self, block: Block) -> bytes:
        """Return a block's frame: counted, retained, and in the transcript."""
        frame = self.uncounted(block)
        self._sent += 1
        if self._outbox is not None:
            self._outbox.add(frame)
        self.transcript.sent(block)
        return frame

    def uncounted(self, block: Block) -> bytes:
        """Return a frame that says where the session stands and takes no number itself."""
        self._owed_bytes = 0
        return encode_frame(
            Frame(
                role=self.role,
                contract=self._contract,
                session=self._session,
                sequence=self._sent,
                acknowledged=self._received,
                block=block,
            )
        )

    def put(self, frame: Frame, *, size: int) -> None:
        """Check the peer's next frame, count it, and forget what it acknowledges; its block waits in order.

        Raises:
            OutOfOrderError: it is not the next one.
            RemoteProtocolError: it belongs elsewhere, or acknowledges what cannot be.
        """
        self.check_role(frame)
        if frame.sequence != self._received:
            raise OutOfOrderError(f"frame {frame.sequence} came where frame {self._received} was expected")
        self.check_binding(frame)
        self._acknowledge(frame.acknowledged)
        if frame.block.kind is not Kind.ACKNOWLEDGE:
            self._received += 1
            self._owed_bytes += size
            self._inbox.append(frame.block)

    def take(self) -> Block:
        """Return the block that waits longest; it is in the transcript from now on."""
        block = self._inbox.popleft()
        self.transcript.received(block)
        return block

    def take_reconnect(self, frame: Frame) -> int:
        """Check the peer's RECONNECT, forget what it has, and return how many frames this side lacks.

        Raises:
            RemoteProtocolError: it is of another session, or asks for what it has, or was never sent.
        """
        self.check_role(frame)
        self.check_binding(frame)
        first = self._sent if self._outbox is None else self._outbox.first
        if frame.sequence < self._received or frame.acknowledged < first:
            raise RemoteProtocolError(
                f"the peer reconnects at frames {frame.sequence} and {frame.acknowledged}, "
                f"and was at {self._received} and {first} before"
            )
        self._acknowledge(frame.acknowledged)
        return frame.sequence - self._received

    def check_role(self, frame: Frame) -> None:
        """Refuse a frame of this side's own role.

        Raises:
            RemoteProtocolError: the peer says it has this side's role.
        """
        if frame.role is self.role:
            raise RemoteProtocolError(
                f"both sides say they are the {self.role.name.lower().replace('_', ' ')}",
                hint='write role = "data-owner" in one run file, role = "label-owner" in the other',
            )

    def check_binding(self, frame: Frame) -> None:
        """Refuse a frame of another session.

        Raises:
            RemoteProtocolError: contract or session differ.
        """
        if (frame.contract, frame.session) != (self._contract, self._session):
            raise RemoteProtocolError("a frame belongs to another contract or session")

    def _acknowledge(self, received: int) -> None:
        if received > self._sent:
            raise RemoteProtocolError(f"the peer acknowledges {received} frames, and {self._sent} were sent")
        if self._outbox is not None:  # a frame that is sent again says what was true when it was made
            self._outbox.acknowledge(received)


OUTBOX_BYTES: Final = 32 * 2**20
"""Retained for one peer; eight full frames."""
ACKNOWLEDGE_BYTES: Final = OUTBOX_BYTES // 4
"""Received without an answer before an ACKNOWLEDGE is sent; a sender never waits for less than it retains."""


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
        """Retain a frame."""
        self._frames.append(frame)
        self._bytes += len(frame)

    def acknowledge(self, received: int) -> None:
        """Forget the frames below number `received`: the peer has them."""
        while self._frames and self._first < received:
            self._bytes -= len(self._frames.popleft())
            self._first += 1
