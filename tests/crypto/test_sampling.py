"""Streams against the oracle's, and the maps from streams to distributions."""

from hashlib import blake2b

import numpy as np
import pytest

from moiety.crypto import kernel, sampling
from moiety.crypto.parameters import TESTING_ONLY, transform
from moiety.crypto.sampling import Seed
from tests.support import oracle

SEED = Seed(bytes(range(32)))
RING = oracle.Ring(degree=TESTING_ONLY.degree, primes=TESTING_ONLY.primes)


@pytest.mark.parametrize("size", [0, 1, 16, 1000])
def test_expand_equals_oracle(size: int) -> None:
    ours = sampling.expand(SEED, b"mask", index=3, size=size)
    assert ours.tobytes() == oracle.expand(SEED, b"mask", index=3, size=size)


def test_expand_words_equals_oracle() -> None:
    ours = sampling.expand_words(SEED, b"u", index=2**40, count=50)
    assert ours.tolist() == oracle.words(SEED, b"u", index=2**40, count=50)


def test_expand_differs_by_seed_purpose_and_index() -> None:
    other = Seed(bytes(32))
    streams = {
        sampling.expand(seed, purpose, index=index, size=32).tobytes()
        for seed in (SEED, other)
        for purpose in (b"e0", b"e1")
        for index in (0, 1, 256)
    }
    assert len(streams) == 12


def test_derive_separates_its_parts() -> None:
    derived = {
        sampling.derive(SEED, b"ab", b"c"),
        sampling.derive(SEED, b"a", b"bc"),
        sampling.derive(SEED, b"abc"),
        sampling.derive(SEED, b"abc", b""),
    }
    assert len(derived) == 4
    message = (3).to_bytes(8, "little") + b"abc"
    expected = blake2b(message, key=SEED, digest_size=32).digest()
    assert sampling.derive(SEED, b"abc") == expected


def test_system_randomness_fresh_seeds() -> None:
    seeds = {sampling.SystemRandomness().seed() for _ in range(100)}
    assert len(seeds) == 100
    assert {len(seed) for seed in seeds} == {32}


def test_gaussian_thresholds_equal_exact_table() -> None:
    assert sampling.gaussian_thresholds().tolist() == oracle.thresholds()
    assert len(oracle.thresholds()) == sampling.GAUSSIAN_CUT


def test_gaussian_at_every_threshold() -> None:
    table = oracle.thresholds()
    magnitudes = [table[0] - 1, *table, 2**63 - 1]
    words = np.array([[2 * each + sign for each in magnitudes for sign in (0, 1)]], dtype=np.uint64)
    expected = [value for m in [*range(20), 19] for value in (m, -m)]
    drawn = kernel.gaussian(words, sampling.gaussian_thresholds())
    assert drawn[0].tolist() == expected


def test_gaussian_variance_and_mean() -> None:
    words = sampling.expand_words(SEED, b"error", index=0, count=200_000).reshape(1, -1)
    drawn = kernel.gaussian(words, sampling.gaussian_thresholds()).astype(np.float64)
    assert abs(drawn.mean()) < 6 * 3.2 / 200_000**0.5
    assert abs(drawn.var() / 3.2**2 - 1) < 6 * (2 / 200_000) ** 0.5


@pytest.mark.parametrize("index", range(4))
def test_ternary_stream_equals_oracle(index: int) -> None:
    size = 256 + sampling.TERNARY_SPARE_BYTES
    stream = sampling.expand(SEED, b"u", index=index, size=size).reshape(1, -1)
    drawn = kernel.ternary(stream, length=256)
    assert drawn[0].tolist() == oracle.ternary(RING, SEED, b"u", index)


def test_uniform_rejected_words_are_skipped() -> None:
    count = RING.degree + sampling.UNIFORM_SPARE_WORDS
    rows = []
    for prime in RING.primes:
        limit = prime * (2**64 // prime)
        edges = [limit, 2**64 - 1, limit - 1, prime, prime - 1, 0, limit + 1]
        rows.append((edges * count)[: RING.degree] + list(range(count - RING.degree)))
    # Three words in seven are refused, so that only the first 128 residues are certain to be there.
    words = np.array([rows], dtype=np.uint64)
    drawn = transform(TESTING_ONLY).uniform(words, length=128)
    expected = [
        oracle.accept_uniform(row, prime=prime, length=128)
        for row, prime in zip(rows, RING.primes, strict=True)
    ]
    assert drawn[0].tolist() == expected
