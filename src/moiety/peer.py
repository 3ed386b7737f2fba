"""Connects a run to its peer as its run file says: one side listens, the other dials."""

from moiety.channel import Channel
from moiety.config import DataOwnerRun, LabelOwnerRun
from moiety.identity import load_identity, load_pinned
from moiety.transport import Listener, dial


def connect(settings: LabelOwnerRun | DataOwnerRun) -> Channel:
    """Check both certificates locally, then connect once, waiting up to the connect deadline.

    Raises:
        PeerIdentityError: a certificate cannot be used, or the peer's is not the pinned one.
        PeerUnreachableError: no connection was made in time.
        ConfigError: the address to listen at is taken.
    """
    peer = settings.peer[0]
    identity = load_identity(settings.own.key, settings.own.certificate)
    pinned = load_pinned(peer.certificate)
    deadline = float(peer.connect_deadline)
    if peer.dial is not None:
        return dial(peer.dial, identity=identity, pinned=pinned, deadline_seconds=deadline)
    assert peer.listen is not None
    listener = Listener(peer.listen, identity=identity, pinned=pinned)
    return listener.accept_last(deadline_seconds=deadline)
