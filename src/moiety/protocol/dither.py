"""Dither: the noise under which z is released.

Exact z = a W over the integers gives the features' lattice away from a single batch, without any known
row (the hidden linear combination problem); with 34 or more random low bits it does not. So the data owner
adds rho, uniform in [-2^44, 2^44) of z's 50 fractional bits (width 2^-5), before its share leaves. rho is
a pseudo-random function of (dither key, own share of W, content of the row, column): asking again for the
same row under the same weights gives the same answer, also from another table or in another order, so
that repeats cannot be averaged; any update makes it fresh.

Imported by the data owner's protocols. Reference: docs/design.md, section 3.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Seed, derive

DITHER_BITS: Final = 45  # 2^45 values: a width of 2^-5 at 50 fractional bits
_DIGEST_BYTES: Final = 12
_AES_BYTES: Final = 16

RowDigests = NDArray[np.uint8]


def row_digests(activation_ND: NDArray[np.int16]) -> RowDigests:
    """Digest each row's content, uint8 (rows, 12), once per table.

    Equal rows have equal digests and so equal dither; that two of 2^32 different rows collide has
    probability below 2^-33.
    """
    rows = np.ascontiguousarray(activation_ND.astype("<i2", copy=False))
    digests = b"".join(
        blake2b(row.tobytes(), digest_size=_DIGEST_BYTES, person=b"moiety row").digest() for row in rows
    )
    return np.frombuffer(digests, dtype=np.uint8).reshape(len(rows), _DIGEST_BYTES)


def dither(key: Seed, weights_DK: RingArray, digests_N: RowDigests) -> RingArray:
    """Return rho for a batch as ring integers of 50 fractional bits, uint64 (rows, out_features).

    Args:
        key: the data owner's dither key, kept with its share.
        weights_DK: the data owner's current share of W.
        digests_N: contents of the rows, from `row_digests`.
    """
    columns = weights_DK.shape[1]
    # The share and not a step's number: a number could be set back by a restart, and rho with it be used for
    # another W.
    contents = blake2b(np.ascontiguousarray(weights_DK).tobytes(), digest_size=32).digest()
    words = _function_of(derive(key, b"dither", contents), digests_N, columns)
    return (words >> np.uint64(64 - DITHER_BITS)) - np.uint64(2 ** (DITHER_BITS - 1))


def _function_of(key: Seed, digests_N: RowDigests, columns: int) -> RingArray:
    """Evaluate AES on (row digest, counter): two words of 64 bits for each counter."""
    rows, counters = len(digests_N), -(-columns // 2)
    inputs = np.empty((rows, counters, _AES_BYTES), dtype=np.uint8)
    inputs[:, :, :_DIGEST_BYTES] = digests_N[:, None, :]
    inputs[:, :, _DIGEST_BYTES:] = np.arange(counters, dtype="<u4")[:, None].view(np.uint8)
    # One block per distinct input under a key used for nothing else: AES as a pseudo-random function.
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    stream = np.frombuffer(encryptor.update(inputs.tobytes()), dtype="<u8")
    words = stream.reshape(rows, 2 * counters)[:, :columns]
    return np.ascontiguousarray(words.astype(np.uint64))
