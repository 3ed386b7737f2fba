"""The parameter chooser: its bound, its table, its refusals."""

from fractions import Fraction
from math import log2, prod, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.crypto.packing import choose
from moiety.crypto.parameters import (
    LEAST_CUT_BYTES,
    LISTED,
    MOST_CUT_BYTES,
    REQUIRED_SECURITY_BITS,
    SECURE_MODULUS_BITS,
    TESTING_ONLY,
    ParameterSet,
    deviation,
    require_secure,
    session_error,
    spare_bits,
)
from moiety.crypto.scheme import ProductNeed, ProductShape
from moiety.errors import InsecureParameterError, ParameterError

STANDARD = {1024: 25, 2048: 51, 4096: 101, 8192: 202, 16384: 411}
"""Limits on log2 q: Homomorphic Encryption Standard, ternary secret, 128 bits, quantum."""


def _shape(*, rows: int, contraction: int, kept: int = 32, bits: int = 15) -> ProductShape:
    return ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=bits)


def _variance(
    shape: ProductShape, parameters: ParameterSet, *, rows: int, sizes: list[int | None]
) -> Fraction:
    """The module's formula in fractions of q, term by term."""
    unit, degree = Fraction(1, prod(parameters.primes)), parameters.degree
    asked, answered = (Fraction(0) if size is None else Fraction(1, 2 ** (16 * size)) for size in sizes)
    error = Fraction(16, 5) ** 2 * unit**2
    terms = shape.contraction * min(rows, shape.rows) * 4**shape.multiplier_bits
    variance: Fraction = (
        terms * (error + unit**2 / 12 + asked / 12) + 2 * degree * error + degree * (answered + unit**2) / 12
    )
    return variance


SIZES = st.integers(LEAST_CUT_BYTES, MOST_CUT_BYTES)


@given(
    rows=st.integers(1, 10**6),
    contraction=st.integers(1, 10**6),
    bits=st.integers(1, 40),
    rows_per_ciphertext=st.integers(1, 8192),
    parameters=st.sampled_from([*LISTED, TESTING_ONLY]),
    request_bytes=SIZES | st.none(),
    response_bytes=SIZES,
)
def test_deviation_random_shapes(
    *,
    rows: int,
    contraction: int,
    bits: int,
    rows_per_ciphertext: int,
    parameters: ParameterSet,
    request_bytes: int | None,
    response_bytes: int,
) -> None:
    shape = _shape(rows=rows, contraction=contraction, bits=bits)
    sizes: dict[str, Any] = {"request_bytes": request_bytes, "response_bytes": response_bytes}
    found = deviation(parameters, shape, rows_per_ciphertext=rows_per_ciphertext, **sizes)
    exact = _variance(shape, parameters, rows=rows_per_ciphertext, sizes=[*sizes.values()])
    # The kernel's sum falls short by less than 2^-158 for each prime, in every coefficient that is cut.
    asked = 0 if request_bytes is None else contraction * min(rows_per_ciphertext, rows) * 2**bits
    short = len(parameters.primes) * 2.0**-158 * (asked + parameters.degree)
    assert found == pytest.approx(sqrt(exact) + short, rel=1e-9)
    spare = spare_bits(parameters, shape, rows_per_ciphertext=rows_per_ciphertext, **sizes)
    assert spare == pytest.approx(-65 - log2(found))


@pytest.mark.parametrize("parameters", [*LISTED[:2], TESTING_ONLY], ids=lambda each: each.name)
def test_most_bytes_lose_nothing(parameters: ParameterSet) -> None:
    shape = _shape(rows=1, contraction=1)
    whole = deviation(parameters, shape, rows_per_ciphertext=1)
    cut = deviation(parameters, shape, rows_per_ciphertext=1, request_bytes=MOST_CUT_BYTES)
    if parameters.modulus.bit_length() <= 150:
        assert cut < 1.01 * whole
    assert deviation(parameters, shape, rows_per_ciphertext=1, request_bytes=16) > 1.01 * whole
    assert deviation(parameters, shape, rows_per_ciphertext=1, response_bytes=15) > 1.01 * whole


def test_deviation_grows_with_rows_per_ciphertext() -> None:
    shape = _shape(rows=1000, contraction=91)
    one, many = (deviation(LISTED[0], shape, rows_per_ciphertext=r) for r in (1, 64))
    assert many == pytest.approx(8 * one, rel=0.01)


def chosen_for(*shapes: ProductShape, spare: int = 40) -> ParameterSet:
    return choose([ProductNeed(shape=shape, spare_bits=spare) for shape in shapes])


def test_choose_smallest_set_that_fits() -> None:
    # A multiplier of k bits costs k bits, so that each listed set is somewhere the answer.
    chosen = [chosen_for(_shape(rows=1, contraction=2, bits=k)) for k in range(15, 160, 4)]
    for level, parameters in enumerate(chosen):
        shape = _shape(rows=1, contraction=2, bits=15 + 4 * level)
        fitting = [s for s in LISTED if spare_bits(s, shape, rows_per_ciphertext=1) >= 40]
        assert parameters == min(fitting, key=lambda each: (each.degree, each.modulus))
    assert set(chosen) == set(LISTED)


def test_choose_larger_set_where_it_is_cheaper() -> None:
    # Exactly opened values leave few bits for rows: the smallest set that fits needs 200 answers.
    shape = _shape(rows=800, contraction=8, kept=16, bits=26)
    assert chosen_for(shape, spare=64).name == "rlwe-8192-188"
    assert spare_bits(LISTED[1], shape, rows_per_ciphertext=1) >= 64


def test_choose_every_shape_must_fit() -> None:
    small, large = _shape(rows=1, contraction=8), _shape(rows=1, contraction=2, bits=45)
    assert chosen_for(small) == LISTED[0]
    assert chosen_for(small, large) == chosen_for(large) != LISTED[0]


def test_choose_stricter_spare_needs_more() -> None:
    shape = _shape(rows=1, contraction=91)
    assert chosen_for(shape, spare=64).modulus > chosen_for(shape).modulus


def test_choose_kept_beyond_the_degree() -> None:
    assert chosen_for(_shape(rows=1, contraction=1, kept=8193)).degree == 16384
    with pytest.raises(ParameterError) as caught:
        chosen_for(_shape(rows=1, contraction=1, kept=16385))
    assert caught.value.hint


def test_choose_nothing_fits() -> None:
    with pytest.raises(ParameterError, match="no listed parameter set"):
        chosen_for(_shape(rows=1, contraction=2, bits=250))


@pytest.mark.parametrize("parameters", LISTED, ids=lambda each: each.name)
def test_listed_sets_secure(parameters: ParameterSet) -> None:
    require_secure(parameters)
    assert log2(parameters.modulus) <= STANDARD[parameters.degree]
    assert parameters.security_bits >= REQUIRED_SECURITY_BITS == 128
    assert not parameters.testing_only
    bits = int(log2(parameters.modulus))
    assert abs(bits - int(parameters.name.rsplit("-", 1)[1])) <= 1
    assert parameters.name.startswith(f"rlwe-{parameters.degree}-")


def test_listed_sets_ascend() -> None:
    keys = [(each.degree, each.modulus) for each in LISTED]
    assert keys == sorted(keys)


@pytest.mark.parametrize(("bits", "count"), [(47, 6), (40, 4)])
def test_listed_primes_are_the_largest(*, bits: int, count: int) -> None:
    found: list[int] = []
    candidate = 2**bits - 2**15 + 1
    while len(found) < count:
        if _is_prime(candidate):
            found.append(candidate)
        candidate -= 2**15
    used = {p for each in LISTED for p in each.primes if p.bit_length() == bits}
    assert used == set(found)


def _is_prime(number: int) -> bool:
    """Miller-Rabin with the bases that decide every number below 3.3 * 10^24."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        powers = [pow(base, odd << level, number) for level in range(twos)]
        if powers[0] != 1 and number - 1 not in powers:
            return False
    return True


@pytest.mark.parametrize(
    "weak",
    [
        TESTING_ONLY,
        ParameterSet(name="degree-4096", degree=4096, primes=LISTED[0].primes),
        ParameterSet(name="modulus-235", degree=8192, primes=LISTED[-1].primes[:5]),
    ],
    ids=lambda each: each.name,
)
def test_insecure_set_refused_with_both_figures(weak: ParameterSet) -> None:
    with pytest.raises(InsecureParameterError) as caught:
        require_secure(weak)
    assert caught.value.bits_required == 128
    assert caught.value.bits_estimated == weak.security_bits < 128
    assert caught.value.hint


def test_modulus_limits_are_the_standard_rounded_down() -> None:
    # 3 % below the standard at most: rounding down is caution, more would refuse secure sets.
    assert set(SECURE_MODULUS_BITS) == {2048, 4096, 8192, 16384}
    for degree, limit in SECURE_MODULUS_BITS.items():
        assert STANDARD[degree] * 0.97 < limit <= STANDARD[degree]


def test_testing_only_never_listed() -> None:
    assert TESTING_ONLY not in LISTED
    assert TESTING_ONLY.testing_only
    assert chosen_for(_shape(rows=1, contraction=1, kept=1, bits=1)) == LISTED[0]


def test_session_error_adds_up() -> None:
    assert session_error(opened=3, spare=40) == 3 * 2.0**-40


@pytest.mark.parametrize(("name", "size"), [("rlwe-8192-141", 6), ("rlwe-8192-160", 5)])
def test_polynomial_bytes(*, name: str, size: int) -> None:
    parameters = next(each for each in LISTED if each.name == name)
    assert parameters.residue_bytes == size
    assert parameters.polynomial_bytes == 8192 * len(parameters.primes) * size
