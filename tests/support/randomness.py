"""Test doubles of `moiety.crypto.sampling.Randomness`: repeatable, and nothing for production."""

from collections.abc import Iterable
from hashlib import blake2b, shake_256

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.sampling import SEED_BYTES, Seed


class RecordedRandomness:
    """Seeds that follow from one seed, kept in `given` in the order they were asked for.

    Seed number k is BLAKE2b keyed by the first seed over k as 8 little-endian bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = seed
        self.given: list[Seed] = []

    def seed(self) -> Seed:
        number = len(self.given).to_bytes(8, "little")
        seed = Seed(blake2b(number, key=self._key, digest_size=SEED_BYTES).digest())
        self.given.append(seed)
        return seed


class ListedRandomness:
    """The seeds of a known-answer vector, in order; asking for more is an error of the test."""

    def __init__(self, seeds: Iterable[bytes]) -> None:
        self._seeds = iter(list(seeds))

    def seed(self) -> Seed:
        return Seed(next(self._seeds))


def words_of(name: str, count: int) -> NDArray[np.uint64]:
    """Uniform words that follow from a name: test data."""
    return np.frombuffer(shake_256(name.encode()).digest(8 * count), dtype="<u8").astype(np.uint64)
