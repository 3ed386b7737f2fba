"""One session: blocks through a channel, numbered, bound and checked.

Every frame carries the contract's digest, the session's id, the sender's role and its number; a frame that
does not fit is refused and the session is closed for good. Drives machines; decides nothing about them.
Imported by the parties' loops.
"""

from collections.abc import Iterable

from moiety.aborts import abort_block, peer_aborted
from moiety.channel import Channel
from moiety.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
)
from moiety.messages import (
    NO_CONTRACT,
    NO_SESSION,
    Block,
    Frame,
    Kind,
    Role,
    decode_frame,
    encode_frame,
)
from moiety.transcript import Transcript


class Session:
    """One connection with its numbering.

    Args:
        channel: carries the frames.
        role: this side's.
        deadline_seconds: how long an answer may take.

    Attributes:
        transcript: the digest of what crossed.
    """

    def __init__(self, channel: Channel, *, role: Role, deadline_seconds: float) -> None:
        self._channel = channel
        self._role = role
        self.transcript = Transcript(role)
        self._deadline_seconds = deadline_seconds
        self._contract = NO_CONTRACT
        self._session = NO_SESSION
        self._sent = 0
        self._received = 0
        self._failed = False
        self._closed = False

    @property
    def bytes_sent(self) -> int:
        """Bytes of all frames sent."""
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes of all frames received."""
        return self._channel.bytes_received

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._closed or self._failed

    def bind(self, *, contract: bytes, session: bytes) -> None:
        """Bind every later frame to what the handshake agreed on."""
        self._contract, self._session = contract, session

    def send(self, blocks: Iterable[Block]) -> None:
        """Send blocks as they are computed.

        Raises:
            LocalProtocolError: the session is over.
            TransportError: the connection failed.
        """
        for block in blocks:
            self._require_open()
            self._send(block)
            self.transcript.sent(block)

    def receive(self) -> Block:
        """Return the peer's next block. A frame that is refused ends the session; `abort` may follow.

        Raises:
            LocalProtocolError: the session is over.
            PeerAbortedError: the peer stopped; a PeerPolicyError says at which limit.
            RemoteProtocolError: the frame does not fit this session.
            TransportError: the connection failed, or nothing came in time.
        """
        self._require_open()
        try:
            frame = decode_frame(self._channel.receive(deadline_seconds=self._deadline_seconds))
            self._check(frame)
        except RemoteProtocolError:
            self._failed = True
            raise
        self._received += 1
        if frame.block.kind is Kind.ABORT:
            self.close()
            raise peer_aborted(frame.block.payload)
        self.transcript.received(frame.block)
        return frame.block

    def abort(self, error: BaseException) -> None:
        """Tell the peer that this side stops, without detail, and close.

        Leaks:
            A code; where a policy stops it, which limit of the contract.
        """
        if self._closed:
            return
        if not isinstance(error, TransportError):
            self._try_to_tell(error)
        self.close()

    def close(self) -> None:
        """Deliver what was sent and end the connection."""
        self._closed = True
        self._channel.close()

    def _try_to_tell(self, error: BaseException) -> None:
        try:
            self._send(abort_block(error))
        except TransportError:
            # The session is over either way; the error that is being reported matters more.
            self._closed = True

    def _send(self, block: Block) -> None:
        frame = Frame(
            role=self._role,
            contract=self._contract,
            session=self._session,
            sequence=self._sent,
            acknowledged=self._received,
            block=block,
        )
        self._channel.send(encode_frame(frame))
        self._sent += 1

    def _check(self, frame: Frame) -> None:
        if frame.role is self._role:
            raise RemoteProtocolError(
                f"both sides say they are the {self._role.name.lower().replace('_', ' ')}",
                hint='one run file needs role = "data-owner", the other role = "label-owner"',
            )
        if frame.block.kind is Kind.ABORT:
            return  # a party may stop before it bound the session, or between sending a frame and counting it
        if frame.sequence != self._received:
            raise RemoteProtocolError(f"frame {frame.sequence} came where frame {self._received} was due")
        if frame.acknowledged > self._sent:
            raise RemoteProtocolError(
                f"the peer acknowledges {frame.acknowledged} frames, and {self._sent} were sent"
            )
        if (frame.contract, frame.session) != (self._contract, self._session):
            raise RemoteProtocolError("a frame belongs to another contract or session")

    def _require_open(self) -> None:
        if self.closed:
            raise LocalProtocolError("the session is closed", hint="start a new run")
