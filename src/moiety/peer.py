"""Connects a run to its peer as its run file says: one side listens, the other dials."""

from types import TracebackType
from typing import Self

from moiety.channel import Channel
from moiety.config import DataOwnerRun, LabelOwnerRun
from moiety.identity import load_identity, load_pinned
from moiety.transport import Listener, dial


class Connector:
    """Makes connections to the one peer of a run file; a context manager.

    Args:
        settings: the run file. Both certificates are checked locally first.

    Raises:
        PeerIdentityError: a certificate or key cannot be used.
        ConfigError: the address to listen at is taken.
    """

    def __init__(self, settings: LabelOwnerRun | DataOwnerRun) -> None:
        self._peer = settings.peer[0]
        self._identity = load_identity(settings.own.key, settings.own.certificate)
        self._pinned = load_pinned(self._peer.certificate)
        self._listener: Listener | None = None
        if self._peer.listen is not None:
            self._listener = Listener(self._peer.listen, identity=self._identity, pinned=self._pinned)

    @property
    def listens(self) -> bool:
        """Whether the peer has to dial."""
        return self._listener is not None

    @property
    def address(self) -> str:
        """Where this side listens, with the port it was given, or the address it dials."""
        if self._listener is not None:
            return self._listener.address
        assert self._peer.dial is not None
        return self._peer.dial

    def connect(self, *, deadline_seconds: float | None = None) -> Channel:
        """Return the next connection, waiting up to the run file's connect deadline or the one given.

        Raises:
            PeerUnreachableError, PeerTimeoutError: no connection was made in time.
            PeerIdentityError: the peer's certificate is not the pinned one.
        """
        if self._listener is not None:
            return self._listener.accept(deadline_seconds=deadline_seconds)
        assert self._peer.dial is not None
        return dial(
            self._peer.dial,
            identity=self._identity,
            pinned=self._pinned,
            deadline_seconds=deadline_seconds or self._peer.connect_deadline,
        )

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ConnectedChannel:
    """A connection that ends its connector with itself."""

    def __init__(self, connector: Connector, channel: Channel) -> None:
        self._connector = connector
        self._channel = channel
        self.send = channel.send
        self.receive = channel.receive

    @property
    def bytes_sent(self) -> int:
        """Bytes of all frames sent."""
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes of all frames received."""
        return self._channel.bytes_received

    def close(self) -> None:
        """End the connection and stop listening."""
        self._channel.close()
        self._connector.close()


def connect(settings: LabelOwnerRun | DataOwnerRun) -> Channel:
    """Make one connection, waiting up to the connect deadline.

    Raises:
        PeerIdentityError: a certificate cannot be used, or the peer's is not the pinned one.
        PeerUnreachableError, PeerTimeoutError: no connection was made in time.
        ConfigError: the address to listen at is taken.
    """
    connector = Connector(settings)
    try:
        channel = connector.connect(deadline_seconds=settings.peer[0].connect_deadline)
    except BaseException:
        connector.close()
        raise
    return ConnectedChannel(connector, channel)
