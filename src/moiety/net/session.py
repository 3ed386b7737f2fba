"""One session: blocks through a channel, numbered, bound, checked, and sent again where a connection is lost.

Every frame carries the contract's digest, the session's id, the sender's role and its number; a frame that
does not fit is refused and the session is closed for good. Drives machines; decides nothing about them, and
they never notice that a connection was replaced. Imported by the parties' loops.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from moiety.contract.products import Role
from moiety.errors import (
    LocalProtocolError,
    MoietyError,
    OutOfOrderError,
    PeerTimeoutError,
    PeerUnreachableError,
    PolicyError,
    RemoteProtocolError,
    SessionLostError,
    TransportError,
)
from moiety.net import signals
from moiety.net.channel import Channel
from moiety.net.events import (
    CONNECTION_LOST,
    CONNECTION_REPLACED,
    FRAME_RECEIVED,
    FRAME_REFUSED,
    FRAME_SENT,
    PEER_ABORTED,
    SESSION_ABORTED,
    SESSION_CLOSED,
    Event,
    Log,
)
from moiety.net.frame import Frame, decode_frame
from moiety.net.reconnect import LOST, Recovery
from moiety.net.window import Window
from moiety.protocol.messages import Block, Kind, abort_block, abort_code, peer_aborted

DRAIN_SECONDS: Final = 1.0
"""How long a connection that is gone may take to give out what came on it before."""


class Machine(Protocol):
    """A state machine that a session drives: blocks in, blocks out."""

    @property
    def waiting(self) -> bool:
        """Whether it expects a block."""
        ...

    def receive(self, block: Block) -> Iterable[Block]:
        """Take a block; return what answers it."""
        ...


class Session:
    """One session with its numbering; several connections, one after the other, can carry it.

    Args:
        channel: carries the frames.
        role: this side's.
        deadline_seconds: how long an answer may take.
        recovery: how another connection is found; without it, the session ends with its connection.

    Attributes:
        transcript: the digest of what crossed.
        log: of this session's events.
    """

    def __init__(
        self, channel: Channel, *, role: Role, deadline_seconds: float, recovery: Recovery | None = None
    ) -> None:
        self._channel = channel
        self._deadline_seconds = deadline_seconds
        self._recovery = recovery
        self._window = Window(role)
        self.transcript = self._window.transcript
        self.log = Log(role=role.name.lower().replace("_", " "))
        self.log.locate(lambda: self._window.place)
        self._earlier_bytes = (0, 0)
        self._failed = False
        self._closed = False

    @property
    def bytes_sent(self) -> int:
        """Bytes of all frames sent, over all connections."""
        return self._earlier_bytes[0] + self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes of all frames received, over all connections."""
        return self._earlier_bytes[1] + self._channel.bytes_received

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._closed or self._failed

    def bind(self, *, contract: bytes, session: bytes) -> None:
        """Bind every later frame to what the handshake agreed on. Only now can a connection be replaced."""
        self._window.bind(contract=contract, session=session, retain=self._recovery is not None)
        self.log.bind(session=session.hex())

    def tell(self, notice: Callable[[str], None]) -> None:
        """Say from now on, in a sentence, when a connection is lost and replaced."""
        if self._recovery is not None:
            self._recovery.notice = notice

    def send(self, blocks: Iterable[Block]) -> None:
        """Send blocks as they are computed; waits while the peer has acknowledged too little.

        Raises:
            LocalProtocolError: the session is over.
            SessionLostError: the peer started anew.
            TransportError: the connection failed and could not be replaced.
        """
        for block in blocks:
            signals.check()
            self._require_open()
            while not self._window.has_room(len(block.payload)):
                self._take()
            self._deliver(self._window.number(block))
            self._log_frame(FRAME_SENT, block)

    def receive(self) -> Block:
        """Return the peer's next block. A frame that is refused ends the session; `abort` may follow.

        Raises:
            LocalProtocolError: the session is over.
            PeerAbortedError: the peer stopped; a PeerPolicyError says at which limit.
            RemoteProtocolError: the frame does not fit this session.
            SessionLostError: the peer started anew.
            TransportError: the connection failed and could not be replaced, or nothing came in time.
        """
        signals.check()
        self._require_open()
        while not self._window.waiting:
            self._take()
        return self._window.take()

    def ask(self, block: Block) -> Block:
        """Send a block and return the answer, which is one block; raises as `send` and `receive`."""
        self.send([block])
        return self.receive()

    def drive(self, machine: Machine) -> None:
        """Take blocks, and send what answers them, until the machine waits for nothing.

        Raises:
            MoietyError: as `send`, `receive` and the machine.
        """
        while machine.waiting:
            self.send(machine.receive(self.receive()))

    def settle(self) -> bool:
        """Wait until the peer has everything; return whether it says so.

        Without an answer it may have everything all the same: the last acknowledgement can always be lost.

        Raises:
            RemoteProtocolError: the peer sends blocks although none is expected.
        """
        if self._recovery is None:
            return self._window.settled
        try:
            while not self._window.settled:
                self._take()
                if self._window.waiting:
                    self._failed = True
                    raise RemoteProtocolError("a block came after the end")
        except TransportError:
            return False
        return True

    def abort(self, error: BaseException | None = None) -> None:
        """Tell the peer that this side stops, without detail, and close.

        Args:
            error: why; nothing is told where the connection is gone anyway.

        Leaks:
            A code; where a policy stops it, which limit of the contract.
        """
        if self._closed:
            return
        self.log.emit(
            SESSION_ABORTED, error=_name(error), code=abort_code(error).name.lower(), limit=_limit(error)
        )
        if not isinstance(error, TransportError) or isinstance(error, PeerTimeoutError):
            self._try(abort_block(error))
        self.close()

    def close(self) -> None:
        """Deliver what was sent, acknowledge what came, and end the connection."""
        if not self.closed and self._window.owes:
            self._try(Block(kind=Kind.ACKNOWLEDGE, step=0, payload=b""))
        if not self._closed:
            self.log.emit(SESSION_CLOSED, bytes_sent=self.bytes_sent, bytes_received=self.bytes_received)
        self._closed = True
        self._channel.close()
        if self._recovery is not None:
            self._recovery.redial.end()

    def _try(self, block: Block) -> None:
        try:
            self._channel.send(self._window.uncounted(block))
        except TransportError:
            # The session is over either way; what is being reported matters more.
            self._closed = True

    def _deliver(self, frame: bytes) -> None:
        try:
            self._channel.send(frame)
        except PeerUnreachableError as error:
            self._drain()
            self._recover(error)  # the frame is retained, and sent with the others

    def _drain(self) -> None:
        """Take what came before the connection ended: an ABORT among it says why it did."""
        with contextlib.suppress(PeerTimeoutError, *LOST):
            while True:
                self._take_frame(deadline_seconds=DRAIN_SECONDS)

    def _take(self) -> None:
        """Take the next frame from the channel, or replace the channel; blocks wait in order."""
        try:
            self._take_frame(deadline_seconds=self._deadline_seconds)
        except LOST as error:
            self._recover(error)
            return
        except RemoteProtocolError as error:
            self._failed = True
            self.log.emit(FRAME_REFUSED, error=_name(error))
            raise
        self._acknowledge()

    def _take_frame(self, *, deadline_seconds: float) -> None:
        data = self._channel.receive(deadline_seconds=deadline_seconds)
        frame = decode_frame(data)
        if frame.block.kind in (Kind.ABORT, Kind.RECONNECT):
            raise self._ended_by(frame)
        self._window.put(frame, size=len(data))
        self._log_frame(FRAME_RECEIVED, frame.block)

    def _acknowledge(self) -> None:
        if self._window.bound and self._window.owes_much:
            self._deliver(self._window.uncounted(Block(kind=Kind.ACKNOWLEDGE, step=0, payload=b"")))

    def _ended_by(self, frame: Frame) -> MoietyError:
        # A party may stop before it bound the session, so the binding of an ABORT is not compared.
        self._window.check_role(frame)
        if frame.block.kind is Kind.ABORT:
            error = peer_aborted(frame.block.payload)
            self.log.emit(PEER_ABORTED, error=_name(error), limit=_limit(error))
            self.close()
            return error
        if self._window.bound:
            self._window.check_binding(frame)
            return OutOfOrderError("RECONNECT came on a connection that stands")
        lost = SessionLostError(
            "the peer goes on with a session that this process does not know; it was told to start anew",
            hint="start the label owner again if it does not do so by itself",
        )
        self._try(abort_block(lost))
        self.close()
        return lost

    def _recover(self, error: MoietyError) -> None:
        """Replace the connection, or raise what happened to it."""
        if self._recovery is None or not self._window.bound:
            self._failed = isinstance(error, RemoteProtocolError)
            raise error
        self.log.emit(CONNECTION_LOST, error=_name(error))
        earlier = (self.bytes_sent, self.bytes_received)
        self._channel.close()
        try:
            self._channel = self._recovery.reconnect(self._window, error)
        except MoietyError:
            self._failed = True
            raise
        self.log.emit(CONNECTION_REPLACED)
        self._earlier_bytes = earlier

    def _log_frame(self, event: Event, block: Block) -> None:
        self.log.emit(
            event,
            kind=block.kind.name,
            step=block.step,
            block=block.index,
            blocks=block.count,
            bytes=len(block.payload),
        )

    def _require_open(self) -> None:
        if self.closed:
            raise LocalProtocolError("the session is closed", hint="start a new run")


def _name(error: BaseException | None) -> str:
    return type(error).__name__


def _limit(error: BaseException | None) -> str | None:
    return error.limit if isinstance(error, PolicyError) else None
