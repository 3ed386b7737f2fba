"""Random seeds, and the streams expanded from them.

A seed is 32 fresh bytes of the operating system, drawn per message and per purpose, so that there is no
counter which a restart could repeat. Within a message every block has its own stream, keyed by purpose
and number: what comes out does not depend on threads, workers or order.

Does not decide what is secret; `rlwe` says which seed feeds what. The maps from bytes to distributions
are in the kernel.
"""

import os
from decimal import Decimal, localcontext
from functools import cache
from hashlib import blake2b
from typing import Final, NewType, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Seed = NewType("Seed", bytes)

SEED_BYTES: Final = 32
SIGMA: Final = Decimal("3.2")
GAUSSIAN_CUT: Final = 19  # 6 sigma = 19.2: the largest magnitude the sampler returns

UNIFORM_SPARE_WORDS: Final = 64
"""Extra words per polynomial for rejections.

A word is rejected with probability below p / 2^64 < 2^-14; that 65 of 16384 + 64 are, has probability
below C(16448, 65) * 2^-910 < 2^-300.
"""
TERNARY_SPARE_BYTES: Final = 512
"""Extra bytes per polynomial for rejections.

A byte is rejected with probability 2^-8: 16896 bytes lose 66 on average with a deviation of 8.1, and
more than 512 with probability below 2^-900 (Chernoff).
"""


class Randomness(Protocol):
    """Where seeds come from; passed as an argument to everything that needs one."""

    def seed(self) -> Seed:
        """Return 32 fresh bytes, never returned before."""
        ...


class SystemRandomness:
    """Seeds from the operating system."""

    def seed(self) -> Seed:
        """Return 32 fresh bytes of `os.urandom`."""
        return Seed(os.urandom(SEED_BYTES))


def derive(seed: Seed, purpose: bytes, *context: bytes) -> Seed:
    """Derive an independent seed: BLAKE2b keyed by `seed` over length-prefixed purpose and context."""
    digest = blake2b(key=seed, digest_size=SEED_BYTES)
    for part in (purpose, *context):
        # With lengths, or ("a", "bc") and ("ab", "c") would be one seed.
        digest.update(len(part).to_bytes(8, "little") + part)
    return Seed(digest.digest())


def expand(seed: Seed, purpose: bytes, *, index: int, size: int) -> NDArray[np.uint8]:
    """Expand a seed to `size` bytes: the AES-256-CTR keystream under a key of (purpose, index)."""
    key = derive(seed, purpose, index.to_bytes(8, "little"))
    # A counter from 0 repeats nothing: the key is one of this seed, purpose and number, and a seed serves one
    # message.
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(size)), dtype=np.uint8)


def expand_words(seed: Seed, purpose: bytes, *, index: int, count: int) -> NDArray[np.uint64]:
    """Expand a seed to `count` uniform words, little-endian on every machine."""
    stream = expand(seed, purpose, index=index, size=8 * count)
    return stream.view(np.dtype("<u8")).astype(np.uint64, copy=False)


@cache
def gaussian_thresholds() -> NDArray[np.uint64]:
    """Cumulative table of |e| for the discrete Gaussian of sigma 3.2, cut at 19.

    Entry m is floor(2^63 * P(|e| <= m)); a magnitude is the number of entries not above a uniform 63-bit
    integer, so each probability is met to 2^-63.
    """
    with localcontext() as context:
        context.prec = 60
        weights = [(-(Decimal(m) ** 2) / (2 * SIGMA**2)).exp() for m in range(GAUSSIAN_CUT + 1)]
        masses = [weights[0]] + [2 * weight for weight in weights[1:]]
        total = sum(masses)
        cumulative = [sum(masses[: m + 1]) / total for m in range(GAUSSIAN_CUT)]
        thresholds = [int(value * 2**63) for value in cumulative]
    return np.array(thresholds, dtype=np.uint64)
