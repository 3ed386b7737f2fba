"""The maps from random words to distributions against plain Python integers."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.crypto.kernel import Transform, gaussian, ternary

PRIMES_47 = (140737488125953, 140737487306753, 140737486716929)
PRIMES_40 = (1099510054913, 1099508121601, 1099507695617)
PRIMES_50 = (1125899904679937, 1125899903991809)


@pytest.mark.parametrize("primes", [PRIMES_47, PRIMES_40, PRIMES_50])
def test_uniform_skips_words_at_or_over_the_limit(primes: tuple[int, ...]) -> None:
    transform = Transform(8, primes)
    limits = [p * (2**64 // p) for p in primes]
    stream = hashlib.shake_256(b"uniform").digest(8 * 2 * len(primes) * 12)
    words_CPL = np.frombuffer(stream, np.uint64).reshape(2, len(primes), 12).copy()
    for i, limit in enumerate(limits):
        words_CPL[:, i, :6] = [limit, 2**64 - 1, limit - 1, 0, limit + 1, primes[i]]
    result_CPL = transform.uniform(words_CPL, length=8)
    for c in range(2):
        for i, p in enumerate(primes):
            accepted = [w for w in words_CPL[c, i].tolist() if w < limits[i]]
            assert result_CPL[c, i].tolist() == [w % p for w in accepted[:8]]


@pytest.mark.parametrize("rejected", [0, 1])
def test_uniform_fails_only_when_a_row_runs_out(rejected: int) -> None:
    transform = Transform(8, PRIMES_47)
    words_CPL = np.zeros((2, 3, 9), np.uint64)
    words_CPL[1, 2, : 1 + rejected] = 2**64 - 1
    if rejected == 0:
        assert transform.uniform(words_CPL, length=8).shape == (2, 3, 8)
        return
    with pytest.raises(ValueError, match="rejected"):
        transform.uniform(words_CPL, length=8)


def test_ternary_maps_every_byte() -> None:
    bytes_CB = np.array([[255, *range(256), 255], [*range(256), 255, 255]], np.uint8)
    expected = [b % 3 - 1 for b in range(255)]
    result_CL = ternary(bytes_CB, length=255)
    assert result_CL.dtype == np.int64
    assert result_CL.tolist() == [expected, expected]
    with pytest.raises(ValueError, match="rejected"):
        ternary(bytes_CB, length=256)


@given(st.lists(st.integers(0, 2**63), max_size=25), st.integers(0, 2**63 - 1))
def test_gaussian_counts_the_thresholds_passed(thresholds: list[int], other: int) -> None:
    edges = {0, 2**63 - 1, other, *thresholds, *(t - 1 for t in thresholds)}
    halves = sorted(u for u in edges if 0 <= u < 2**63)
    words = [2 * u + sign for u in halves for sign in (0, 1)] * 7
    result_CL = gaussian(np.array([words], np.uint64), np.array(thresholds, np.uint64))
    counts = [sum(t <= w >> 1 for t in thresholds) for w in words]
    expected = [-n if w & 1 else n for n, w in zip(counts, words, strict=True)]
    assert result_CL.tolist() == [expected]
