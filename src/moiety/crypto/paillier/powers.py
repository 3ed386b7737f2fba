"""Arithmetic modulo the square of a modulus: products, powers of a fixed base, products of many powers.

A residue x modulo n^2 is kept as its two digits to base n, x = low + high n. A product then is three products
and two divisions of half the size, measured at 0.7 of the time of one product and one division at 3072 bits.

Branches and indices depend on secrets, the number of operations does not: local side channels are out of
scope, but what a peer sees of the time an answer takes must not follow the data.
"""

from collections.abc import Sequence
from typing import Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

Digits = tuple[mpz, mpz]
Windows = Sequence[Sequence[Digits]]

ONE: Final = (mpz(1), mpz(0))
WINDOW_BITS: Final = 8
"""Digits of a fixed base's exponents: 84 windows of 256 residues modulo n^2 are 20 MB at 3072 bits."""
TABLE_BYTES: Final = 2**27
"""Memory for the tables of a product of powers; a longer contraction is cut."""
LARGEST_SUBSET: Final = 12


def split(number: mpz, modulus: mpz) -> Digits:
    """Return the digits of a residue modulo the modulus squared."""
    high, low = gmpy2.f_divmod(number, modulus)
    return low, high


def join(digits: Digits, modulus: mpz) -> mpz:
    """Return the residue with these digits."""
    low, high = digits
    return low + high * modulus


def multiply(left: Digits, right: Digits, modulus: mpz) -> Digits:
    """Multiply modulo the modulus squared; the product of both high digits is a multiple of it."""
    carry, low = gmpy2.f_divmod(left[0] * right[0], modulus)
    return low, (left[0] * right[1] + left[1] * right[0] + carry) % modulus


def windows_of(base: Digits, *, bits: int, modulus: mpz) -> list[list[Digits]]:
    """Tabulate base^(digit 256^place) for exponents of up to `bits` bits."""
    windows = []
    for _ in range(-(-bits // WINDOW_BITS)):
        window = [ONE]
        for _ in range(2**WINDOW_BITS - 1):
            window.append(multiply(window[-1], base, modulus))
        windows.append(window)
        base = multiply(window[-1], base, modulus)
    return windows


def fixed_power(windows: Windows, exponent: mpz, *, modulus: mpz) -> Digits:
    """Raise a tabulated base.

    Raises:
        OverflowError: the exponent is longer than the table.
    """
    power = ONE
    for window, digit in zip(windows, int(exponent).to_bytes(len(windows), "little"), strict=True):
        power = multiply(power, window[digit], modulus)
    return power


def power_products(
    plain_ND: NDArray[np.int64], bases: Sequence[mpz], *, multiplier_bits: int, modulus: mpz
) -> list[Digits]:
    """Return prod_d bases[d]^plain[n, d] for every row n, modulo the modulus squared.

    Straus' method, with squarings shared over the contraction. Bases are taken in subsets whose products
    are tabulated once for all rows, and every bit of the exponents costs one product per subset.

    Exponents must not be negative, so 2^multiplier_bits is added to all of them and taken off again by one
    inverse for all rows. Bits count 1 and 2 instead of 0 and 1, which adds 2^bits - 1: no product can then
    be skipped, and the time does not tell how many entries are zero.

    Args:
        plain_ND: the exponents, |plain| at most 2^multiplier_bits.
        bases: D residues with inverses.
        multiplier_bits: at most 63.
        modulus: the modulus whose square residues are of.
    """
    bits = exponent_bits(multiplier_bits)
    # Never negative and never skipped: the time of a product must not follow the data (ADR 0012).
    exponents_ND = plain_ND.view(np.uint64) + np.uint64(2**multiplier_bits)
    size = subset_size(len(plain_ND), len(bases), bits)
    table_bytes = 2**size * (modulus.bit_length() // 4 + 150)
    chunk = max(1, TABLE_BYTES // table_bytes) * size
    products = [_correction(bases, added=2**multiplier_bits + 2**bits - 1, modulus=modulus)] * len(plain_ND)
    for start in range(0, len(bases), chunk):
        digits = [split(base, modulus) for base in bases[start : start + chunk]]
        subsets = [digits[at : at + size] for at in range(0, len(digits), size)]
        tables = [_subset_table(subset, modulus) for subset in subsets]
        for row, exponents_D in enumerate(exponents_ND[:, start : start + chunk]):
            indices = _subset_indices(exponents_D, bits=bits, size=size)
            products[row] = multiply(products[row], _power_product(tables, indices, modulus), modulus)
    return products


def exponent_bits(multiplier_bits: int) -> int:
    """Bits of plain + 2^multiplier_bits, for |plain| at most 2^multiplier_bits and in a signed word.

    >>> exponent_bits(15), (2**15 + 2**15).bit_length()
    (17, 17)
    >>> exponent_bits(63), (2**63 - 1 + 2**63).bit_length()
    (64, 64)
    """
    return min(multiplier_bits + 2, 64)


def subset_size(rows: int, contraction: int, bits: int) -> int:
    """Return the subset size of the fewest products: rows x bits, and 2^size for the table, per subset.

    >>> subset_size(256, 64, 17), subset_size(32, 91, 64), subset_size(1, 64, 17)
    (8, 8, 4)
    """

    # Buckets (Pippenger) need no tables. With a thousand bases and 17 bits they would save 60% of products
    # for one row and 13% for ten, with 64 bases 9% for one row: too rare for a second way.
    def products(size: int) -> int:
        return -(-contraction // size) * (rows * bits + (1 << size))

    return min(range(1, LARGEST_SUBSET + 1), key=products)


def _correction(bases: Sequence[mpz], *, added: int, modulus: mpz) -> Digits:
    product = ONE
    for base in bases:
        product = multiply(product, split(base, modulus), modulus)
    return split(gmpy2.powmod(join(product, modulus), -added, modulus * modulus), modulus)


def _subset_table(bases: Sequence[Digits], modulus: mpz) -> list[Digits]:
    """Tabulate prod_i bases[i]^(1 + bit i of the index)."""
    table = [ONE]
    for base in bases:
        table[0] = multiply(table[0], base, modulus)
    for base in bases:
        table += [multiply(entry, base, modulus) for entry in table]
    return table


def _power_product(tables: Windows, indices: list[list[int]], modulus: mpz) -> Digits:
    """Multiply the entries chosen by each bit, from the top."""
    power = ONE
    for chosen in indices:
        power = multiply(power, power, modulus)
        for table, index in zip(tables, chosen, strict=True):
            power = multiply(power, table[index], modulus)
    return power


def _subset_indices(exponents_D: NDArray[np.uint64], *, bits: int, size: int) -> list[list[int]]:
    """For every bit from the top, say which bases of each subset have it: indices (bits, subsets)."""
    subsets = -(-len(exponents_D) // size)
    padded = np.zeros(subsets * size, dtype=np.uint64)
    padded[: len(exponents_D)] = exponents_D
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    set_bits = (padded >> places[:, None]) & np.uint64(1)
    weights = np.uint64(1) << np.arange(size, dtype=np.uint64)
    indices: list[list[int]] = (set_bits.reshape(bits, subsets, size) @ weights).tolist()
    return indices
