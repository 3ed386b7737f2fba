"""Dither: uniform, as wide as promised, and a function of key, share and row content only."""

import numpy as np

from moiety.crypto.sampling import Seed
from moiety.protocol.dither import DITHER_BITS, dither, row_digests
from tests.support.randomness import words_of

KEY = Seed(bytes(range(32)))
TABLE = (words_of("table", 64 * 7) >> np.uint64(49)).astype(np.int16).reshape(64, 7)
SHARE = words_of("share", 7 * 5).reshape(7, 5)
DIGESTS = row_digests(TABLE)


def test_dither_is_a_function_of_its_arguments() -> None:
    assert np.array_equal(dither(KEY, SHARE, DIGESTS), dither(KEY, SHARE.copy(), DIGESTS.copy()))


def test_dither_has_the_shape_and_range_promised() -> None:
    rho_NK = dither(KEY, SHARE, DIGESTS)
    assert rho_NK.shape == (64, 5)
    assert rho_NK.dtype == np.uint64
    signed = rho_NK.view(np.int64)
    assert signed.min() >= -(2 ** (DITHER_BITS - 1))
    assert signed.max() < 2 ** (DITHER_BITS - 1)
    assert DITHER_BITS == 50 - 5  # a width of 2^-5


def test_dither_is_uniform() -> None:
    share = words_of("share", 7 * 64).reshape(7, 64)
    unit = np.ldexp(dither(KEY, share, DIGESTS).view(np.int64).astype(np.float64), -DITHER_BITS)
    # 4096 values: the mean's deviation is 0.0045, each of 16 counts' 15.5; 6 deviations.
    assert abs(unit.mean()) < 0.027
    counts, _ = np.histogram(unit, bins=16, range=(-0.5, 0.5))
    assert counts.sum() == 4096
    assert np.abs(counts - 256).max() < 93
    odd = dither(KEY, share, DIGESTS) & np.uint64(1)
    assert abs(odd.mean() - 0.5) < 0.047


def test_dither_follows_the_row_and_not_its_place() -> None:
    order = np.argsort(words_of("order", 64))
    assert np.array_equal(dither(KEY, SHARE, row_digests(TABLE[order])), dither(KEY, SHARE, DIGESTS)[order])
    assert np.array_equal(dither(KEY, SHARE, DIGESTS[3:4]), dither(KEY, SHARE, DIGESTS)[3:4])


def test_equal_rows_have_equal_dither_and_all_others_differ() -> None:
    twice = np.concatenate([TABLE, TABLE[:1]])
    rho_NK = dither(KEY, SHARE, row_digests(twice))
    assert np.array_equal(rho_NK[0], rho_NK[-1])
    assert len(np.unique(rho_NK[:-1])) == 64 * 5


def test_any_update_of_the_share_makes_it_fresh() -> None:
    moved = SHARE.copy()
    moved[6, 4] += np.uint64(1)
    assert not np.any(dither(KEY, SHARE, DIGESTS) == dither(KEY, moved, DIGESTS))


def test_another_key_gives_another_dither() -> None:
    assert not np.any(dither(KEY, SHARE, DIGESTS) == dither(Seed(bytes(32)), SHARE, DIGESTS))


def test_dither_with_one_and_with_even_columns() -> None:
    for columns in (1, 2, 6):
        rho_NK = dither(KEY, words_of("w", 7 * columns).reshape(7, columns), DIGESTS)
        assert rho_NK.shape == (64, columns)
        assert len(np.unique(rho_NK)) == rho_NK.size


def test_digests_see_every_bit_of_a_row_and_no_memory_layout() -> None:
    changed = TABLE.copy()
    changed[5, 6] ^= 1
    differing = np.any(row_digests(changed) != DIGESTS, axis=1)
    assert np.flatnonzero(differing).tolist() == [5]
    assert np.array_equal(row_digests(np.asfortranarray(TABLE)), DIGESTS)
    assert np.array_equal(row_digests(TABLE.astype(">i2").view(">i2")), DIGESTS)
    assert DIGESTS.shape == (64, 12)
    assert row_digests(TABLE[:0]).shape == (0, 12)
