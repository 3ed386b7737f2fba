"""A running digest of what crossed in a session: halves of a checkpoint belong together where it is equal.

Each direction has its own SHA-256, because frames of the two directions overtake each other; both parties
take the digest between exchanges, when everything that was sent has arrived. Of a block go in its place, its
length and both ends of its payload: payloads are ciphertexts and masked shares under fresh randomness, so
that two sessions never agree there, and that no byte between was damaged is what checksum and TLS say. The
blocks that speak of checkpoints are left out. Imported by the session's window.
"""

import struct
from hashlib import sha256
from typing import Final

from moiety.contract.products import Role
from moiety.protocol.messages import ABOUT_CHECKPOINTS, Block

TRANSCRIPT_BYTES: Final = 32
NO_TRANSCRIPT: Final = bytes(TRANSCRIPT_BYTES)
_PLACE: Final = struct.Struct("<BQIII")
_END_BYTES: Final = 64


class Transcript:
    """The digest of one party.

    Args:
        role: the party's.
    """

    def __init__(self, role: Role) -> None:
        self._role = role
        self._sent = sha256()
        self._received = sha256()

    def sent(self, block: Block) -> None:
        """Take in a block that was sent."""
        if block.kind not in ABOUT_CHECKPOINTS:
            self._sent.update(_summary(block))

    def received(self, block: Block) -> None:
        """Take in a block that was received."""
        if block.kind not in ABOUT_CHECKPOINTS:
            self._received.update(_summary(block))

    def continue_from(self, earlier: bytes) -> None:
        """Chain to the digest of the checkpoint that the session goes on from."""
        self._sent.update(earlier)
        self._received.update(earlier)

    def digest(self) -> bytes:
        """Return the digest so far, 32 bytes, alike on both sides between exchanges."""
        halves = (self._sent.digest(), self._received.digest())
        return sha256(b"".join(halves if self._role is Role.LABEL_OWNER else halves[::-1])).digest()


def _summary(block: Block) -> bytes:
    payload = block.payload
    place = _PLACE.pack(block.kind, block.step, block.index, block.count, len(payload))
    return place + payload[:_END_BYTES] + payload[-_END_BYTES:]
