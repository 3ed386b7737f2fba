"""Powers modulo a squared modulus against Python's own, and how much work they are."""

import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moiety.crypto.paillier import powers
from moiety.crypto.paillier.powers import (
    Digits,
    fixed_power,
    join,
    multiply,
    power_products,
    split,
    windows_of,
)
from tests.support.randomness import words_of

MODULUS = mpz(2**127 - 1) * mpz(2**89 - 1)
SQUARE = MODULUS * MODULUS


def residues(count: int) -> list[mpz]:
    words = words_of("residues", 8 * count).reshape(count, 8)
    return [mpz(int.from_bytes(each.tobytes(), "little")) % SQUARE for each in words]


def exponents(rows: int, columns: int, *, bits: int, name: str = "") -> NDArray[np.int64]:
    words = words_of(f"exponents {name}", rows * columns).view(np.int64) >> np.int64(63 - bits)
    return words.reshape(rows, columns)


def expected(plain_ND: NDArray[np.int64], bases: list[mpz]) -> list[int]:
    products = []
    for row in plain_ND.tolist():
        product = 1
        for base, exponent in zip(bases, row, strict=True):
            product = product * pow(int(base), exponent, int(SQUARE)) % int(SQUARE)
        products.append(product)
    return products


def products(plain_ND: NDArray[np.int64], bases: list[mpz], *, bits: int) -> list[int]:
    digits = power_products(plain_ND, bases, multiplier_bits=bits, modulus=MODULUS)
    return [int(join(each, MODULUS)) for each in digits]


@given(left=st.integers(0, int(SQUARE) - 1), right=st.integers(0, int(SQUARE) - 1))
def test_multiply_as_integers(left: int, right: int) -> None:
    digits = multiply(split(mpz(left), MODULUS), split(mpz(right), MODULUS), MODULUS)
    assert join(digits, MODULUS) == left * right % SQUARE
    assert all(0 <= digit < MODULUS for digit in digits)


def test_multiply_largest_residues() -> None:
    last = split(SQUARE - 1, MODULUS)
    assert multiply(last, last, MODULUS) == (1, 0)


@pytest.mark.parametrize("exponent", [0, 1, 255, 256, 2**63 - 1, 2**64 - 1, 0xFF00FF00FF00FF00])
def test_fixed_power_as_pow(exponent: int) -> None:
    (base,) = residues(1)
    windows = windows_of(split(base, MODULUS), bits=61, modulus=MODULUS)
    power = join(fixed_power(windows, mpz(exponent), modulus=MODULUS), MODULUS)
    assert power == pow(int(base), exponent, int(SQUARE))


def test_fixed_power_too_long_exponent() -> None:
    windows = windows_of(split(residues(1)[0], MODULUS), bits=64, modulus=MODULUS)
    with pytest.raises(OverflowError):
        fixed_power(windows, mpz(2**64), modulus=MODULUS)


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 40),
    bits=st.integers(0, 63),
    name=st.text(max_size=4),
)
def test_power_products_as_pow(rows: int, columns: int, bits: int, name: str) -> None:
    plain_ND = exponents(rows, columns, bits=bits, name=name)
    plain_ND[0, 0] = -(2**bits)
    plain_ND[-1, -1] = min(2**bits, 2**63 - 1)
    bases = residues(columns)
    assert products(plain_ND, bases, bits=bits) == expected(plain_ND, bases)


@pytest.mark.parametrize("size", [1, 3, 12])
def test_power_products_any_subset_size_and_cut(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    plain_ND, bases = exponents(3, 25, bits=15), residues(25)
    one_table = 2**size * (int(MODULUS.bit_length()) // 4 + 150)
    cuts: list[int] = []
    table_of = powers._subset_table

    def recorded(subset: list[Digits], modulus: mpz) -> list[Digits]:
        cuts.append(len(subset))
        return table_of(subset, modulus)

    monkeypatch.setattr(powers, "subset_size", lambda *_: size)
    monkeypatch.setattr(powers, "_subset_table", recorded)
    for tables in (0, 1, 2, 100):
        monkeypatch.setattr(powers, "TABLE_BYTES", tables * one_table)
        assert products(plain_ND, bases, bits=15) == expected(plain_ND, bases)
    assert set(cuts) == {size, 25 % size} - {0}


def test_power_products_tables_stay_within_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    product_of = powers._power_product

    def recorded(tables: list[list[Digits]], indices: list[list[int]], modulus: mpz) -> Digits:
        held.append(sum(map(len, tables)))
        return product_of(tables, indices, modulus)

    monkeypatch.setattr(powers, "_power_product", recorded)
    monkeypatch.setattr(powers, "TABLE_BYTES", 100_000)
    plain_ND, bases = exponents(20, 60, bits=15), residues(60)
    products(plain_ND, bases, bits=15)
    entry_bytes = int(MODULUS.bit_length()) // 4 + 150
    assert 0 < max(held) * entry_bytes <= 100_000
    assert len(held) > 20


def test_power_products_work_does_not_follow_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros, ones and full entries cost the same products, none of them with 1 after the first."""
    calls: list[bool] = []

    def counted(left: Digits, right: Digits, modulus: mpz) -> Digits:
        calls.append(powers.ONE in {left, right})
        return multiply(left, right, modulus)

    monkeypatch.setattr(powers, "multiply", counted)
    bases = residues(16)
    work = []
    for plain_ND in (
        np.zeros((4, 16), dtype=np.int64),
        np.full((4, 16), -(2**15)),
        exponents(4, 16, bits=15),
    ):
        calls.clear()
        products(plain_ND, bases, bits=15)
        work.append((len(calls), sum(calls)))
    assert work[0] == work[1] == work[2]
    # Once for the correction, once for each table, twice for each row: where every product starts from 1.
    size = powers.subset_size(4, 16, 17)
    assert work[0][1] == 1 + -(-16 // size) + 2 * 4


def test_subset_size_is_the_cheapest(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []

    def counted(left: Digits, right: Digits, modulus: mpz) -> Digits:
        calls.append(None)
        return multiply(left, right, modulus)

    monkeypatch.setattr(powers, "multiply", counted)
    chosen = powers.subset_size
    plain_ND, bases = exponents(40, 24, bits=15), residues(24)
    work = {}
    for size in range(1, 13):
        monkeypatch.setattr(powers, "subset_size", lambda *_, size=size: size)
        calls.clear()
        products(plain_ND, bases, bits=15)
        work[size] = len(calls)
    assert work[chosen(40, 24, 17)] <= 1.02 * min(work.values())
    assert work[1] > 2 * min(work.values())
