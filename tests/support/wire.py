"""Connections in memory between two threads, which break as they are told, and what crossed them.

As TCP under TLS: a connection that lost a frame ends when its reader finds nothing more; one that delivers
wrong frames leaves it to the session to notice. Both sides can connect again; neither waits for the other.
"""

import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from moiety.contract.products import Role
from moiety.errors import PeerTimeoutError, PeerUnreachableError
from moiety.net.channel import Channel
from tests.support.pair import Tamper, intact


class QueueChannel:
    """One end of a connection.

    Args:
        tamper: what happens to the frames this end sends.
        sent: every frame that was handed to `send`, also of other connections.
    """

    def __init__(self, tamper: Tamper, sent: list[bytes]) -> None:
        self.inbox: queue.Queue[bytes | None] = queue.Queue()
        self.other = self
        self.lossy = False
        self.gone = threading.Event()
        self._tamper = tamper
        self._sent = sent
        self._number = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, frame: bytes) -> None:
        """Hand a frame to the wire."""
        if self.gone.is_set():
            raise PeerUnreachableError("gone")
        self._sent.append(frame)
        number, self._number = self._number, self._number + 1
        arrived = list(self._tamper(number, frame))
        self.other.lossy = self.other.lossy or frame not in arrived
        for each in arrived:
            self.other.inbox.put(each)
        if self.other.lossy:
            self.other.inbox.put(b"")  # wakes a reader that waits already
        self.bytes_sent += len(frame)

    def receive(self, *, deadline_seconds: float) -> bytes:
        """Return what arrived."""
        while True:
            if self.lossy and self.inbox.empty():
                self.close()
                raise PeerUnreachableError("a frame was lost")
            try:
                frame = self.inbox.get(timeout=deadline_seconds)
            except queue.Empty as error:
                raise PeerTimeoutError("nothing came") from error
            if frame is None:
                self.inbox.put(None)
                raise PeerUnreachableError("gone")
            if frame:
                self.bytes_received += len(frame)
                return frame

    def close(self) -> None:
        """End the connection for both ends; what was sent can still be received."""
        if not self.gone.is_set():
            for end in (self, self.other):
                end.gone.set()
                end.inbox.put(None)


@dataclass(kw_only=True)
class Wire:
    """Where two parties find each other, again and again.

    Args:
        faults: for one connection after the other, what it does with frames of label owner and data owner.

    Attributes:
        sent: for each role, every frame it sent, on whatever connection.
        connections: made so far.
    """

    faults: Iterable[tuple[Tamper, Tamper]] = ()
    sent: dict[Role, list[bytes]] = field(default_factory=lambda: {role: [] for role in Role})
    connections: int = 0

    def __post_init__(self) -> None:
        self._faults = iter(self.faults)
        self._lock = threading.Lock()
        self._ended: set[Role] = set()
        self._waiting: dict[Role, queue.Queue[QueueChannel]] = {role: queue.Queue() for role in Role}

    def connect(self, role: Role) -> Channel:
        """Return the end that waits for this role, or make a connection."""
        peer = Role(3 - role)
        with self._lock:
            if not self._waiting[role].empty():
                return self._waiting[role].get_nowait()
            if peer in self._ended:
                raise PeerUnreachableError("nobody is there any more")
            ends = self._pair()
            self._waiting[peer].put(ends[peer])
            return ends[role]

    def end(self, role: Role) -> None:
        """Let nobody connect to a role any more."""
        with self._lock:
            self._ended.add(role)
            while not self._waiting[role].empty():
                self._waiting[role].get_nowait().close()

    def _pair(self) -> dict[Role, QueueChannel]:
        self.connections += 1
        outgoing, incoming = next(self._faults, (intact, intact))
        tampers = {Role.LABEL_OWNER: outgoing, Role.DATA_OWNER: incoming}
        ends = {role: QueueChannel(tampers[role], self.sent[role]) for role in Role}
        ends[Role.LABEL_OWNER].other = ends[Role.DATA_OWNER]
        ends[Role.DATA_OWNER].other = ends[Role.LABEL_OWNER]
        return ends

    def redial(self, role: Role) -> "WireRedial":
        """Return how a role connects again."""
        return WireRedial(self, role)


class WireRedial:
    """A role's way to further connections over a wire.

    Attributes:
        returned: connections that are for the next session.
    """

    def __init__(self, wire: Wire, role: Role) -> None:
        self._wire = wire
        self._role = role
        self.returned: list[Channel] = []

    def connect(self, *, deadline_seconds: float) -> Channel:
        """Return the next connection."""
        del deadline_seconds
        return self.returned.pop() if self.returned else self._wire.connect(self._role)

    def give_back(self, channel: Channel) -> None:
        """Keep a connection for the next session."""
        self.returned.append(channel)

    def end(self) -> None:
        """Leave the wire."""
        self._wire.end(self._role)
