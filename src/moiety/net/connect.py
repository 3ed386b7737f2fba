"""Connects a run to its peer as its run file says: one side listens, the other dials."""

from types import TracebackType
from typing import Self

from moiety.config import DataOwnerRun, LabelOwnerRun
from moiety.net.channel import Channel
from moiety.net.identity import load_identity, load_pinned
from moiety.net.reconnect import Recovery
from moiety.net.transport import Acceptor, dial


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
        self._acceptor: Acceptor | None = None
        self._returned: list[Channel] = []
        if self._peer.listen is not None:
            self._acceptor = Acceptor(self._peer.listen, identity=self._identity, pinned=self._pinned)

    @property
    def listens(self) -> bool:
        """Whether the peer has to dial."""
        return self._acceptor is not None

    @property
    def address(self) -> str:
        """Where this side listens, with the port it was given, or the address it dials."""
        if self._acceptor is not None:
            return self._acceptor.address
        assert self._peer.dial is not None
        return self._peer.dial

    def connect(self, *, deadline_seconds: float | None = None) -> Channel:
        """Return the next connection, waiting up to the run file's connect deadline or the one given.

        Raises:
            PeerUnreachableError, PeerTimeoutError: no connection was made in time.
            PeerIdentityError: the peer's certificate is not the pinned one.
        """
        if self._returned:
            return self._returned.pop()
        if self._acceptor is not None:
            return self._acceptor.accept(deadline_seconds=deadline_seconds)
        assert self._peer.dial is not None
        limit = self._peer.connect_deadline if deadline_seconds is None else deadline_seconds
        return dial(self._peer.dial, identity=self._identity, pinned=self._pinned, deadline_seconds=limit)

    def give_back(self, channel: Channel) -> None:
        """Take a connection that a session found to be for the next one."""
        self._returned.append(channel)

    def end(self) -> None:
        """A session is over: nothing to do, the next one uses this connector too."""

    def recovery(self) -> Recovery:
        """Return how a session gets over lost connections to this peer."""
        return Recovery(
            self,
            connect_seconds=self._peer.reconnect_deadline,
            answer_seconds=self._peer.answer_deadline,
        )

    def close(self) -> None:
        """Stop listening."""
        for channel in self._returned:
            channel.close()
        self._returned.clear()
        if self._acceptor is not None:
            self._acceptor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SessionConnector(Connector):
    """A connector for one session: it stops listening when the session is over."""

    def end(self) -> None:
        """The session is over: no more connections are made."""
        self.close()


def connect(settings: LabelOwnerRun | DataOwnerRun) -> tuple[Channel, SessionConnector]:
    """Make one connection, waiting up to the connect deadline; the connector can replace it.

    Raises:
        PeerIdentityError: a certificate cannot be used, or the peer's is not the pinned one.
        PeerUnreachableError, PeerTimeoutError: no connection was made in time.
        ConfigError: the address to listen at is taken.
    """
    connector = SessionConnector(settings)
    try:
        return connector.connect(deadline_seconds=settings.peer[0].connect_deadline), connector
    except BaseException:
        connector.close()
        raise
