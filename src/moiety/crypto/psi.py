"""Private set intersection by Diffie-Hellman: what is computed on ids, and no message of it.

Each party hashes its ids to elements of a group of prime order, H(id), and multiplies them by a secret
scalar of its own: a H(id). Multiplied by the other's scalar too, equal ids give equal elements, a b
H(id), and different ids give elements that look random (decisional Diffie-Hellman, H a random oracle).

The group is ristretto255 by libsodium (`rbcl`), the hash that of RFC 9497: expand_message_xmd with
SHA-512 (RFC 9380, section 5.3.1), then the one-way map of RFC 9496. Elements are arrays of bytes, (count,
32): a million ids are 32 MB. Imported by `protocol.alignment` and by who runs it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.sampling import Randomness, Seed, expand, expand_words
from moiety.crypto.scheme import MapFunction
from moiety.crypto.secret import Secret
from moiety.errors import MalformedMessageError

Elements = NDArray[np.uint8]
"""Elements of the group, (count, 32)."""
Rows = NDArray[np.int64]

ELEMENT_BYTES: Final = 32
PIECE: Final = 2**11
"""Elements that a thread works on at a time: about 0.1 s."""
_HASH_BYTES: Final = 64
_DOMAIN: Final = b"moiety ids 1 ristretto255_XMD:SHA-512_R255MAP_RO_"


class Group(Protocol):
    """A group of prime order in which Diffie-Hellman is hard, with a hash into it."""

    def hash(self, message: bytes) -> bytes:
        """Return the element that a message stands for."""
        ...

    def scalar(self, seed: Seed) -> bytes:
        """Return a uniform scalar that is not 0."""
        ...

    def multiply(self, scalar: bytes, element: bytes) -> bytes:
        """Return the multiple of an element.

        Raises:
            MalformedMessageError: it is no element, or the neutral one.
        """
        ...


class Ristretto255:
    """The group of RFC 9496.

    Args:
        domain: separates this use of the hash from others (RFC 9380, section 3.1).
    """

    def __init__(self, domain: bytes = _DOMAIN) -> None:
        self._suffix = domain + bytes([len(domain)])
        self._padded = sha512(bytes(128))

    def hash(self, message: bytes) -> bytes:
        """Return the element that a message stands for."""
        hashed: bytes = _library().crypto_core_ristretto255_from_hash(self._expanded(message))
        return hashed

    def scalar(self, seed: Seed) -> bytes:
        """Return a uniform scalar: 512 bits modulo the order, which is 0 with probability 2^-252."""
        wide = expand(seed, b"psi scalar", index=0, size=_HASH_BYTES).tobytes()
        reduced: bytes = _library().crypto_core_ristretto255_scalar_reduce(wide)
        return reduced

    def multiply(self, scalar: bytes, element: bytes) -> bytes:
        """Return the multiple of an element.

        Raises:
            MalformedMessageError: it is no element, or the neutral one.
        """
        try:
            multiple: bytes = _library().crypto_scalarmult_ristretto255(scalar, element)
        except RuntimeError as error:
            raise MalformedMessageError("a blinded id is no element of the group") from error
        return multiple

    def _expanded(self, message: bytes) -> bytes:
        """Expand a message to 64 bytes, one block of SHA-512: expand_message_xmd."""
        first = self._padded.copy()
        first.update(message + _HASH_BYTES.to_bytes(2, "big") + b"\0" + self._suffix)
        return sha512(first.digest() + b"\x01" + self._suffix).digest()


class Blinding(Secret):
    """A party's scalar and the order in which its ids leave, both used for one alignment.

    Args:
        group: the elements' group.
        count: of own ids.
        randomness: where the seeds come from.
        map_function: spreads pieces of the work; it may use threads, the library releases the lock.
    """

    def __init__(
        self, group: Group, *, count: int, randomness: Randomness, map_function: MapFunction = map
    ) -> None:
        self._group = group
        self._map = map_function
        self._scalar = group.scalar(randomness.seed())
        words = expand_words(randomness.seed(), b"psi order", index=0, count=count)
        # Ids leave in an order of their own: the table's order would tell the peer where its matches lie.
        self.order: Rows = np.argsort(words, kind="stable").astype(np.int64)

    def multiply(self, elements: Elements) -> Elements:
        """Multiply elements by the scalar, in their order.

        Raises:
            MalformedMessageError: one of them is no element, or the neutral one.
        """
        return _mapped(self._map, partial(self._group.multiply, self._scalar), elements)


@cache
def _library() -> Any:
    """Load libsodium, and remove the file that `rbcl` unpacks it to in each process and leaves behind."""
    import rbcl  # noqa: PLC0415 - only where tables are aligned

    with suppress(AttributeError, OSError):
        Path(rbcl._sodium._name).unlink()  # noqa: SLF001 - what is mapped already stays
    return rbcl


def hash_ids(group: Group, ids: Sequence[bytes], *, map_function: MapFunction = map) -> Elements:
    """Hash ids to elements, (count, 32)."""
    pieces = [ids[start : start + PIECE] for start in range(0, len(ids), PIECE)]
    return _joined(map_function(partial(_computed, group.hash), pieces))


def require_distinct(elements: Elements) -> None:
    """Refuse a peer's elements if one comes twice: it would count an id twice.

    Raises:
        MalformedMessageError: they are not distinct.
    """
    if len(np.unique(_keys(elements))) < len(elements):
        raise MalformedMessageError("the peer sent a blinded id twice")


def intersect(own: Elements, peer: Elements) -> tuple[Rows, bytes]:
    """Find the doubly blinded ids that both have.

    Args:
        own: distinct, (count, 32).
        peer: distinct, in any order.

    Returns:
        Where the common ones are in `own`, in ascending order of their bytes: an order that both parties
        find, and that says nothing about ids; and SHA-256 over them.
    """
    common, places, _ = np.intersect1d(_keys(own), _keys(peer), assume_unique=True, return_indices=True)
    return places.astype(np.int64), sha256(b"moiety order 1" + common.tobytes()).digest()


def _keys(elements: Elements) -> NDArray[np.void]:
    """View elements as things to compare and sort: words, because NumPy shortens bytes that end in 0."""
    words = np.ascontiguousarray(elements).view(">u8").astype(np.uint64)
    record = np.dtype([(f"w{place}", np.uint64) for place in range(words.shape[1])])
    return np.ascontiguousarray(words).view(record)[:, 0]


def _mapped(map_function: MapFunction, function: Callable[[bytes], bytes], elements: Elements) -> Elements:
    data = np.ascontiguousarray(elements).tobytes()
    step = PIECE * ELEMENT_BYTES
    pieces = (data[start : start + step] for start in range(0, len(data), step))
    return _joined(map_function(partial(_computed_bytes, function), pieces))


def _computed_bytes(function: Callable[[bytes], bytes], data: bytes) -> bytes:
    starts = range(0, len(data), ELEMENT_BYTES)
    return b"".join([function(data[start : start + ELEMENT_BYTES]) for start in starts])


def _computed(function: Callable[[bytes], bytes], messages: Sequence[bytes]) -> bytes:
    return b"".join([function(message) for message in messages])


def _joined(pieces: Iterable[bytes]) -> Elements:
    return np.frombuffer(b"".join(pieces), dtype=np.uint8).reshape(-1, ELEMENT_BYTES)
