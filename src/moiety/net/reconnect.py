"""A session continues over another connection: find it, exchange RECONNECT, send again what the peer lacks.

    label owner -> RECONNECT (contract, session, frames sent, frames received)
    data owner  -> RECONNECT, then the frames that the label owner lacks
    label owner -> the frames that the data owner lacks

The label owner speaks first, in a new session as in an old one, so that the data owner tells by one frame
which of the two a connection is for. The frames are the bytes that were sent before; nothing is computed.
They go one direction after the other, so that neither side waits for a reader. Imported by session and peer.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Final, Protocol

from moiety.config.listener import SILENT, Listener
from moiety.contract.products import Role
from moiety.errors import (
    MalformedMessageError,
    MoietyError,
    OutOfOrderError,
    PeerAbortedError,
    PeerUnreachableError,
    RemoteProtocolError,
    SessionLostError,
    TransportError,
)
from moiety.net.channel import Channel, ReturnedChannel
from moiety.net.frame import NO_CONTRACT, NO_SESSION, Frame, decode_frame
from moiety.net.window import Window
from moiety.protocol.messages import AbortCode, Block, Kind, abort_block, peer_aborted

FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 5.0
DAMAGED_FRAMES: Final = 16
"""Connections dropped in one session because of a damaged frame. Under TLS there are none."""
LOST: Final = (PeerUnreachableError, MalformedMessageError, OutOfOrderError)
"""What says that a connection is of no more use, and nothing about the peer."""


class Redial(Protocol):
    """Makes further connections to the same pinned peer."""

    def connect(self, *, deadline_seconds: float) -> Channel:
        """Return the next connection.

        Raises:
            PeerUnreachableError: none was made in time.
            PeerIdentityError: the peer's certificate is not the pinned one.
        """
        ...

    def give_back(self, channel: Channel) -> None:
        """Take a connection that is for the next session: the next `connect` returns it."""
        ...

    def end(self) -> None:
        """The session is over and asks for no more connections."""
        ...


class Recovery:
    """How one session gets over lost connections.

    Args:
        redial: makes connections.
        connect_seconds: how long the two sides may be without a connection, from when this side noticed.
        answer_seconds: how long a connected peer may work before it answers RECONNECT.
        wait: waits between two attempts, seconds.

    Attributes:
        listener: told when a connection is lost and replaced; the session sets it.
    """

    def __init__(
        self,
        redial: Redial,
        *,
        connect_seconds: float,
        answer_seconds: float,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.redial = redial
        self.listener: Listener = SILENT
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        self._wait = wait
        self._damaged = 0

    def reconnect(self, window: Window, lost: MoietyError) -> Channel:
        """Return a connection that stands where the lost one stood; what came on it is in the window.

        Args:
            window: of the session.
            lost: how the connection was lost.

        Raises:
            PeerUnreachableError: no connection before the deadline.
            SessionLostError: the peer has no such session, or is opening another one.
            RemoteProtocolError: the peer's RECONNECT does not fit, or frames are damaged again and again.
        """
        left, pause = self._connect_seconds, FIRST_WAIT_SECONDS
        self._count_damage(lost)
        self.listener.say(f"the connection was lost; trying to connect again for {left:g} s")
        while True:
            started = time.monotonic()
            channel = self._connect(max(left, 0.0))
            left -= time.monotonic() - started
            try:
                self._exchange(channel, window)
            except LOST as error:
                channel.close()
                self._count_damage(error)
                self._wait(pause)
                left, pause = left - pause, min(2 * pause, LONGEST_WAIT_SECONDS)
                continue
            except SessionLostError:
                raise  # the connection was closed, or is the next session's
            except BaseException as error:
                self._refuse(channel, window, error)
                raise
            self.listener.say("connected again")
            return channel

    def _count_damage(self, error: MoietyError) -> None:
        self._damaged += isinstance(error, RemoteProtocolError)
        if self._damaged > DAMAGED_FRAMES:
            raise error

    def _connect(self, seconds: float) -> Channel:
        try:
            return self.redial.connect(deadline_seconds=seconds)
        except PeerUnreachableError as error:
            raise PeerUnreachableError(
                f"the connection was lost, and no other was made within {self._connect_seconds:g} s",
                hint="see whether the peer and the network are up, then start the run again",
            ) from error

    def _exchange(self, channel: Channel, window: Window) -> None:
        speaks_first = window.role is Role.LABEL_OWNER
        own = window.uncounted(Block(kind=Kind.RECONNECT, step=0, payload=b""))
        if speaks_first:
            channel.send(own)
        lacking = self._read_reconnect(channel, window)
        if not speaks_first:
            channel.send(own)
            lacking = 0  # they come when the label owner has taken what it lacks
        for _ in range(lacking):
            data = channel.receive(deadline_seconds=self._answer_seconds)
            window.put(decode_frame(data), size=len(data))
        for frame_bytes in window.retained:
            channel.send(frame_bytes)

    def _read_reconnect(self, channel: Channel, window: Window) -> int:
        data = channel.receive(deadline_seconds=self._answer_seconds)
        frame = decode_frame(data)
        if frame.block.kind is Kind.RECONNECT:
            return window.take_reconnect(frame)
        window.check_role(frame)
        if _opens(frame):
            self.redial.give_back(ReturnedChannel(channel, data))
            raise SessionLostError(
                "the peer started anew while this session was under way",
                hint="start the run again: both sides go back to the newest checkpoint they have in common",
            )
        raise _instead_of_reconnect(channel, frame, window)

    def _refuse(self, channel: Channel, window: Window, error: BaseException) -> None:
        if isinstance(error, RemoteProtocolError) and not isinstance(error, PeerAbortedError):
            with contextlib.suppress(TransportError):  # the error that is on its way matters more
                channel.send(window.uncounted(abort_block(error)))
        channel.close()


def _opens(frame: Frame) -> bool:
    """Whether a frame is the first of a new session: bound to nothing yet."""
    bound = (frame.contract, frame.session) != (NO_CONTRACT, NO_SESSION)
    return not bound and frame.sequence == 0 and frame.block.kind is not Kind.ABORT


def _instead_of_reconnect(channel: Channel, frame: Frame, window: Window) -> MoietyError:
    if frame.block.kind is not Kind.ABORT:
        window.check_binding(frame)
        return OutOfOrderError(f"{frame.block.kind.name} came where RECONNECT was expected")
    if frame.block.payload != bytes([AbortCode.UNKNOWN_SESSION]):
        return peer_aborted(frame.block.payload)
    channel.close()
    return SessionLostError(
        "the peer does not know this session: its process was started anew",
        hint="start the run again: both sides go back to the newest checkpoint they have in common",
    )
