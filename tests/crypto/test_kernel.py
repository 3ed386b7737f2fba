"""The C++ loops against plain Python integers."""

import hashlib
import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moiety.crypto.kernel import Transform, gaussian, matmul, ternary

# All are 1 modulo 32768. The 47-bit ones are those of the default parameter set.
PRIMES_47 = (140737488125953, 140737487306753, 140737486716929)
PRIMES_40 = (1099510054913, 1099508121601, 1099507695617)
# The largest below 2**50 and a small one: they need 7 and 3 bytes, and try the lazy bounds.
PRIMES_50 = (1125899904679937, 1125899903991809, 1125899903827969, 1125899903795201)
PRIME_21 = 1769473
# The smallest above 2**49: the lazy reductions lose most where a prime is close above a power of two.
PRIMES_49 = (562949954142209, 562949954961409, 562949955125249)

Words = NDArray[np.uint64]


def _words(label: str, *shape: int) -> Words:
    """Return reproducible uniform 64-bit words."""
    stream = hashlib.shake_256(label.encode()).digest(8 * math.prod(shape))
    return np.frombuffer(stream, np.uint64).reshape(shape)


def _residues(label: str, transform: Transform, count: int, length: int) -> Words:
    """Return reproducible polynomials, with 0 and p - 1 in the first places of each row."""
    moduli = np.array(transform.primes, np.uint64).reshape(1, -1, 1)
    values = _words(label, count, len(transform.primes), length) % moduli
    values[:, :, 0] = 0
    values[:, :, 1::7] = moduli - np.uint64(1)
    return values


def _reversed(value: int, bits: int) -> int:
    return int(f"{value:0{bits}b}"[::-1], 2) if bits else 0


def _evaluate(coefficients: list[int], root: int, p: int) -> list[int]:
    """Return the values at root**(2 * reversed(i) + 1), by the definition."""
    bits = len(coefficients).bit_length() - 1
    points = [pow(root, 2 * _reversed(i, bits) + 1, p) for i in range(len(coefficients))]
    return [sum(c * pow(x, k, p) for k, c in enumerate(coefficients)) % p for x in points]


def _negacyclic(left: list[int], right: list[int], p: int) -> list[int]:
    """Return left * right modulo (X**N + 1, p) by Kronecker substitution."""
    width = 16  # bytes: a coefficient of the product is below 2**14 * 2**100
    joined = [
        int.from_bytes(b"".join(c.to_bytes(width, "little") for c in each), "little")
        for each in (left, right)
    ]
    size = len(left)
    product = (joined[0] * joined[1]).to_bytes(2 * size * width, "little")
    full = [int.from_bytes(product[i : i + width], "little") for i in range(0, len(product), width)]
    return [(low - high) % p for low, high in zip(full[:size], full[size:], strict=True)]


def _crt(residues: Words, primes: tuple[int, ...]) -> int:
    q = math.prod(primes)
    parts = zip(residues.tolist(), primes, strict=True)
    return sum(int(x) * (q // p) * pow(q // p, -1, p) for x, p in parts) % q


@pytest.mark.parametrize("primes", [PRIMES_47, PRIMES_40, PRIMES_50, (PRIME_21,)])
@pytest.mark.parametrize("degree", [8, 64])
def test_roots_are_the_smallest_primitive_ones(degree: int, primes: tuple[int, ...]) -> None:
    transform = Transform(degree, primes)
    assert transform.degree == degree
    assert transform.primes == primes
    for p, root in zip(primes, transform.roots, strict=True):
        assert pow(root, degree, p) == p - 1
        assert root == min(pow(root, k, p) for k in range(1, 2 * degree, 2))


@pytest.mark.parametrize("primes", [PRIMES_47, PRIMES_40, PRIMES_50, (PRIME_21,)])
@pytest.mark.parametrize("degree", [8, 16, 64])
def test_forward_evaluates_at_odd_powers_of_the_root(degree: int, primes: tuple[int, ...]) -> None:
    transform = Transform(degree, primes)
    given_CPL = _residues("forward", transform, 2, degree)
    result_CPL = given_CPL.copy()
    transform.forward(result_CPL)
    for c in range(2):
        for i, (p, root) in enumerate(zip(primes, transform.roots, strict=True)):
            assert result_CPL[c, i].tolist() == _evaluate(given_CPL[c, i].tolist(), root, p)


def test_forward_of_a_shorter_polynomial_uses_a_power_of_the_root() -> None:
    transform = Transform(64, PRIMES_47)
    for length in (1, 2, 4, 16, 32):
        short_CPL = _residues("short", transform, 1, length)
        result_CPL = short_CPL.copy()
        transform.forward(result_CPL)
        for i, (p, psi) in enumerate(zip(PRIMES_47, transform.roots, strict=True)):
            root = pow(psi, 64 // length, p)
            assert result_CPL[0, i].tolist() == _evaluate(short_CPL[0, i].tolist(), root, p)


@pytest.mark.parametrize("column_length", [2, 8, 32])
def test_first_levels_transform_the_columns(column_length: int) -> None:
    transform = Transform(64, PRIMES_47)
    given_CPL = _residues("columns", transform, 2, 64)
    result_CPL = given_CPL.copy()
    transform.forward(result_CPL, last=column_length.bit_length() - 1)
    slots = 64 // column_length
    for i in range(slots):
        column = np.ascontiguousarray(given_CPL[:, :, i::slots])
        transform.forward(column)
        np.testing.assert_array_equal(result_CPL[:, :, i::slots], column)


@pytest.mark.parametrize("length", [1, 2, 8, 64])
def test_inverse_undoes_every_range_of_levels(length: int) -> None:
    transform = Transform(64, (*PRIMES_50, PRIME_21))
    given_CPL = _residues("inverse", transform, 2, length)
    levels = length.bit_length() - 1
    whole_CPL = given_CPL.copy()
    transform.forward(whole_CPL)
    for first in range(levels + 1):
        for last in range(first, levels + 1):
            part_CPL = given_CPL.copy()
            transform.forward(part_CPL, last=first)
            before_CPL = part_CPL.copy()
            transform.forward(part_CPL, first=first, last=last)
            middle_CPL = part_CPL.copy()
            transform.forward(part_CPL, first=last)
            np.testing.assert_array_equal(part_CPL, whole_CPL)
            transform.inverse(middle_CPL, first=first, last=last)
            np.testing.assert_array_equal(middle_CPL, before_CPL)
    transform.inverse(whole_CPL)
    np.testing.assert_array_equal(whole_CPL, given_CPL)


@pytest.mark.parametrize("value", ["zero", "largest"])
def test_transform_of_extreme_values_at_the_largest_degree(value: str) -> None:
    transform = Transform(16384, PRIMES_50)
    moduli = np.array(PRIMES_50, np.uint64).reshape(1, -1, 1)
    given_CPL = np.zeros((1, 4, 16384), np.uint64)
    if value == "largest":
        given_CPL += moduli - np.uint64(1)
    result_CPL = given_CPL.copy()
    transform.forward(result_CPL)
    assert (result_CPL < moduli).all()
    transform.inverse(result_CPL)
    np.testing.assert_array_equal(result_CPL, given_CPL)
    transform.inverse(result_CPL)
    assert (result_CPL < moduli).all()
    transform.forward(result_CPL)
    np.testing.assert_array_equal(result_CPL, given_CPL)


@pytest.mark.parametrize(
    ("degree", "primes"), [(64, PRIMES_47), (64, PRIMES_50), (8192, PRIMES_47), (16384, PRIMES_40)]
)
@pytest.mark.slow
def test_full_product_equals_kronecker_substitution(degree: int, primes: tuple[int, ...]) -> None:
    transform = Transform(degree, primes)
    left_CPL = _residues("left", transform, 1, degree)
    right_CPL = _residues("right", transform, 1, degree)
    sum_CPL = _residues("sum", transform, 1, degree)
    transformed = [each.copy() for each in (sum_CPL, left_CPL, right_CPL)]
    for each in transformed:
        transform.forward(each)
    transform.multiply_accumulate(transformed[0], transformed[1], transformed[2][0])
    transform.inverse(transformed[0])
    for i, p in enumerate(primes):
        product = _negacyclic(left_CPL[0, i].tolist(), right_CPL[0, i].tolist(), p)
        terms = zip(sum_CPL[0, i].tolist(), product, strict=True)
        assert transformed[0][0, i].tolist() == [(a + b) % p for a, b in terms]


def test_kronecker_oracle_equals_schoolbook() -> None:
    p = PRIMES_47[0]
    left, right = _words("schoolbook", 2, 16).tolist()
    left, right = [x % p for x in left], [x % p for x in right]
    expected = [0] * 16
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            expected[(i + j) % 16] += a * b if i + j < 16 else -a * b
    assert _negacyclic(left, right, p) == [x % p for x in expected]


@given(
    groups=st.integers(1, 5),
    blocks=st.integers(1, 9),
    column_levels=st.integers(0, 6),
    slot_levels=st.integers(0, 6),
    label=st.text(max_size=3),
)
def test_subring_product_is_one_matrix_product_per_frequency(
    groups: int, blocks: int, column_levels: int, slot_levels: int, label: str
) -> None:
    transform = Transform(4096, PRIMES_50)
    m, slots = 1 << column_levels, 1 << slot_levels
    multipliers_GBPM = _residues(f"m{label}", transform, groups * blocks, m)
    multipliers_GBPM = multipliers_GBPM.reshape(groups, blocks, 4, m)
    ciphertexts_B2PL = _residues(f"c{label}", transform, 2 * blocks, m * slots)
    ciphertexts_B2PL = ciphertexts_B2PL.reshape(blocks, 2, 4, m * slots)
    result = transform.subring_product(multipliers_GBPM, ciphertexts_B2PL)
    exact = np.einsum(
        "gbpf,bcpfi->gcpfi",
        multipliers_GBPM.astype(object),
        ciphertexts_B2PL.astype(object).reshape(blocks, 2, 4, m, slots),
    )
    moduli = np.array(PRIMES_50, object).reshape(1, 1, 4, 1, 1)
    expected = (exact % moduli).reshape(groups, 2, 4, m * slots)
    assert result.dtype == np.uint64
    np.testing.assert_array_equal(result.astype(object), expected)


def test_subring_product_multiplies_each_column() -> None:
    transform = Transform(64, PRIMES_47)
    m, slots = 16, 4
    levels = 4
    multiplier_CPM = _residues("multiplier", transform, 1, m)
    ciphertext_CPL = _residues("ciphertext", transform, 2, 64)
    plain, encrypted = multiplier_CPM.copy(), ciphertext_CPL.copy()
    transform.forward(plain)
    transform.forward(encrypted, last=levels)
    result = transform.subring_product(plain[None], encrypted[None])
    product_CPL = result[0].copy()
    transform.inverse(product_CPL, last=levels)
    for i, p in enumerate(PRIMES_47):
        for side in range(2):
            for slot in range(slots):
                column = ciphertext_CPL[side, i, slot::slots].tolist()
                expected = _negacyclic(multiplier_CPM[0, i].tolist(), column, p)
                assert product_CPL[side, i, slot::slots].tolist() == expected


@pytest.mark.parametrize("primes", [PRIMES_50, PRIMES_49])
def test_subring_product_of_the_longest_sums_of_the_largest_values(primes: tuple[int, ...]) -> None:
    transform = Transform(64, primes)
    blocks = 8192
    moduli = np.array(primes, np.uint64).reshape(1, 1, -1, 1)
    multipliers_GBPM = np.broadcast_to(moduli - 1, (1, blocks, len(primes), 1)).copy()
    missing_B2PL = _words("longest", blocks, 2, len(primes), 64) >> np.uint64(40)
    ciphertexts_B2PL = moduli - 1 - missing_B2PL
    result = transform.subring_product(multipliers_GBPM, ciphertexts_B2PL)
    # Each product is (-1)(-1 - missing).
    expected = (blocks + missing_B2PL.sum(axis=0, keepdims=True)) % moduli
    np.testing.assert_array_equal(result, expected)


def test_subring_product_of_many_groups_and_blocks() -> None:
    transform = Transform(64, PRIMES_47[:1])
    multipliers_GBPM = _residues("many", transform, 37 * 512, 2).reshape(37, 512, 1, 2)
    ciphertexts_B2PL = _residues("more", transform, 2 * 512, 4).reshape(512, 2, 1, 4)
    result = transform.subring_product(multipliers_GBPM, ciphertexts_B2PL)
    for f in range(2):
        left_GB = multipliers_GBPM[:, :, 0, f].astype(object)
        for side in range(2):
            right_BI = ciphertexts_B2PL[:, side, 0, 2 * f : 2 * f + 2].astype(object)
            expected = (left_GB @ right_BI) % PRIMES_47[0]
            np.testing.assert_array_equal(result[:, side, 0, 2 * f : 2 * f + 2].astype(object), expected)


@pytest.mark.parametrize("primes", [PRIMES_47, PRIMES_40, PRIMES_50, (PRIME_21,)])
def test_pointwise_operations_at_all_corners(primes: tuple[int, ...]) -> None:
    transform = Transform(64, primes)
    corners = np.array(
        [
            [[x, y, z] for x in (0, 1, p - 1) for y in (0, 1, p - 1) for z in (0, p - 1, p // 2)]
            for p in primes
        ],
        np.uint64,
    )
    x, y, z = (np.ascontiguousarray(np.pad(corners[:, :, i], ((0, 0), (0, 5))))[None] for i in range(3))
    moduli = np.array(primes, object).reshape(1, -1, 1)
    exact = [each.astype(object) for each in (x, y, z)]
    total, difference, product = x.copy(), x.copy(), x.copy()
    transform.add(total, y)
    transform.subtract(difference, y)
    transform.multiply_accumulate(product, y, z[0])
    np.testing.assert_array_equal(total.astype(object), (exact[0] + exact[1]) % moduli)
    np.testing.assert_array_equal(difference.astype(object), (exact[0] - exact[1]) % moduli)
    np.testing.assert_array_equal(product.astype(object), (exact[0] + exact[1] * exact[2]) % moduli)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2))
def test_lift_gives_residues_of_signed_integers(values: list[int]) -> None:
    edges = [0, -1, 1, 2**62, -(2**62), 2**63 - 1, -(2**63), PRIMES_47[0], -PRIMES_47[0]]
    padded = (edges + values)[-8:] + edges[:8]
    for primes in (PRIMES_47, PRIMES_40, (PRIME_21, PRIMES_50[0])):
        result_CPL = Transform(16, primes).lift(np.array([padded], np.int64))
        for i, p in enumerate(primes):
            assert result_CPL[0, i].tolist() == [v % p for v in padded]


@given(st.lists(st.integers(-(2**20), 2**20), min_size=3, max_size=3))
def test_add_small_adds_signed_values(values: list[int]) -> None:
    padded = [0, 1, -1, 2**20, -(2**20), *values]
    transform = Transform(8, (PRIME_21, *PRIMES_50))
    before_CPL = _residues("small", transform, 1, 8)
    after_CPL = before_CPL.copy()
    transform.add_small(after_CPL, np.array([padded], np.int64))
    for i, p in enumerate(transform.primes):
        terms = zip(before_CPL[0, i].tolist(), padded, strict=True)
        assert after_CPL[0, i].tolist() == [(x + v) % p for x, v in terms]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=12, max_size=12))
def test_encode_rounds_the_scaled_message(messages: list[int]) -> None:
    padded = [0, 1, 2**63, 2**64 - 1, *messages]
    for primes in (PRIMES_47, PRIMES_40, PRIMES_47[:1], (PRIME_21, *PRIMES_50)):
        q = math.prod(primes)
        expected = [math.floor(Fraction(m * q, 2**64) + Fraction(1, 2)) for m in padded]
        result_CPL = Transform(16, primes).encode(np.array([padded], np.uint64))
        for i, p in enumerate(primes):
            assert result_CPL[0, i].tolist() == [v % p for v in expected]


@pytest.mark.parametrize("primes", [PRIMES_47, PRIMES_40, PRIMES_47[:1], (PRIME_21, *PRIMES_50)])
def test_round_to_share_of_random_values_is_exact(primes: tuple[int, ...]) -> None:
    transform = Transform(64, primes)
    values_CPL = _residues("round", transform, 4, 64)
    result_CL = transform.round_to_share(values_CPL)
    q = math.prod(primes)
    for c in range(4):
        for k in range(64):
            scaled = Fraction(_crt(values_CPL[c, :, k], primes) << 64, q)
            assert int(result_CL[c, k]) == math.floor(scaled + Fraction(1, 2)) % 2**64


@pytest.mark.parametrize("primes", [PRIMES_47, PRIMES_50, (*PRIMES_47, *PRIMES_50)])
@pytest.mark.parametrize("distance_bits", [50, 60, 70])
def test_round_to_share_close_to_a_half_is_exact(primes: tuple[int, ...], distance_bits: int) -> None:
    q = math.prod(primes)
    step = q >> (64 + distance_bits)  # moves the scaled value by 2**-distance_bits
    assert step > 0
    wholes = [0, 1, 2**63, 2**64 - 1, *_words("half", 4).tolist()]
    middles = [math.floor(Fraction(2 * whole + 1, 2**65) * q) for whole in wholes]
    values = [x for middle in middles for x in (middle - step, middle + step)]
    transform = Transform(16, primes)
    values_CPL = np.array([[[x % p for x in values] for p in primes]], np.uint64)
    expected = [math.floor(Fraction(x << 64, q) + Fraction(1, 2)) % 2**64 for x in values]
    assert expected[::2] == wholes
    assert transform.round_to_share(values_CPL)[0].tolist() == expected


def test_round_to_share_inverts_encode() -> None:
    transform = Transform(64, PRIMES_47)
    messages_CL = _words("messages", 3, 64)
    shares_CL = transform.round_to_share(transform.encode(messages_CL))
    np.testing.assert_array_equal(shares_CL, messages_CL)


@pytest.mark.parametrize(("primes", "width"), [(PRIMES_47, 6), (PRIMES_40, 5), ((PRIME_21, PRIMES_50[0]), 7)])
def test_pack_writes_little_endian_bytes(primes: tuple[int, ...], width: int) -> None:
    transform = Transform(64, primes)
    values_CPL = _residues("pack", transform, 3, 64)
    packed = transform.pack(values_CPL)
    assert packed.shape == (3, len(primes), 64, width)
    expected = b"".join(x.to_bytes(width, "little") for x in values_CPL.ravel().tolist())
    assert packed.tobytes() == expected
    np.testing.assert_array_equal(transform.unpack(packed), values_CPL)


@pytest.mark.parametrize("place", [(0, 0, 0), (0, 2, 63), (1, 1, 7)])
@pytest.mark.parametrize("threads", [1, 2])
def test_unpack_refuses_a_residue_not_below_its_prime(place: tuple[int, int, int], threads: int) -> None:
    transform = Transform(64, PRIMES_47)
    packed = transform.pack(_residues("unpack", transform, 2, 64))
    p = PRIMES_47[place[1]]
    packed[place] = list((p - 1).to_bytes(6, "little"))
    transform.unpack(packed, threads=threads)
    packed[place] = list(p.to_bytes(6, "little"))
    with pytest.raises(ValueError, match="not below its prime"):
        transform.unpack(packed, threads=threads)


@pytest.mark.parametrize("dtype", [np.int64, np.int16])
def test_matmul_equals_python_integers(dtype: type[np.signedinteger[Any]]) -> None:
    limits = np.iinfo(dtype)
    for shape, k in (((250, 7), 399), ((5, 300), 64), ((3, 1), 1), ((1, 9), 13)):
        left = _words("left", *shape).astype(dtype)
        left[0, 0], left[-1, -1] = limits.min, limits.max
        right = _words("right", shape[1], k).copy()
        right[0, 0] = 2**64 - 1
        expected = (left.astype(object) @ right.astype(object)) % 2**64
        np.testing.assert_array_equal(matmul(left, right).astype(object), expected)


def test_matmul_of_an_empty_contraction_is_zero() -> None:
    result = matmul(np.zeros((2, 0), np.int64), np.zeros((0, 3), np.uint64))
    np.testing.assert_array_equal(result, np.zeros((2, 3), np.uint64))


def _heavy_calls(transform: Transform, threads: int) -> dict[str, NDArray[Any]]:
    """Call every function that takes threads and return all the results."""
    x, y, z = (_residues(label, transform, 5, 64) for label in "xyz")
    forward, inverse, product = x.copy(), x.copy(), x.copy()
    transform.forward(forward, threads=threads)
    transform.inverse(inverse, threads=threads)
    transform.multiply_accumulate(product, y, z[0], threads=threads)
    small_sum = x.copy()
    transform.add_small(small_sum, np.full((5, 64), -7, np.int64), threads=threads)
    multipliers = _residues("m", transform, 15, 16).reshape(3, 5, 3, 16)
    ciphertexts = _residues("c", transform, 10, 64).reshape(5, 2, 3, 64)
    words, small = _words("w", 5, 64), _words("s", 5, 10).view(np.uint8)
    return {
        "forward": forward,
        "inverse": inverse,
        "multiply_accumulate": product,
        "add_small": small_sum,
        "subring_product": transform.subring_product(multipliers, ciphertexts, threads=threads),
        "lift": transform.lift(words.astype(np.int64), threads=threads),
        "encode": transform.encode(words, threads=threads),
        "round_to_share": transform.round_to_share(x, threads=threads),
        "pack": transform.pack(x, threads=threads),
        "unpack": transform.unpack(transform.pack(x), threads=threads),
        "uniform": transform.uniform(_words("u", 5, 3, 70), length=64, threads=threads),
        "ternary": ternary(small, length=64, threads=threads),
        "gaussian": gaussian(words, words[0] >> np.uint64(1), threads=threads),
        "matmul": matmul(words.astype(np.int64), _words("r", 64, 9), threads=threads),
        "matmul16": matmul(words.astype(np.int16), _words("r", 64, 9), threads=threads),
    }


@pytest.mark.parametrize("threads", [2, 3, 256])
def test_results_do_not_depend_on_threads(threads: int) -> None:
    transform = Transform(64, PRIMES_47)
    expected = _heavy_calls(transform, 1)
    for name, result in _heavy_calls(transform, threads).items():
        np.testing.assert_array_equal(result, expected[name], err_msg=name)


SHORT_OF_MEMORY = """
import resource
import numpy as np
from moiety.crypto.kernel import Transform

transform = Transform(64, (140737488125953,))
values = np.arange(256 * 64).reshape(256, 64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
result = transform.lift(values, threads=256)
assert (result[:, 0] == values.astype(np.uint64)).all()
"""


def test_results_are_whole_when_the_system_refuses_threads() -> None:
    # 64 MiB of address space are the stacks of a few threads, not of 255.
    command = [sys.executable, "-c", SHORT_OF_MEMORY]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_empty_arrays_give_empty_results() -> None:
    transform = Transform(8, PRIMES_47)
    nothing = np.zeros((0, 3, 8), np.uint64)
    transform.forward(nothing)
    transform.add(nothing, nothing.copy())
    assert transform.pack(nothing).shape == (0, 3, 8, 6)
    assert transform.round_to_share(nothing, threads=2).shape == (0, 8)
    assert gaussian(np.zeros((0, 4), np.uint64), np.zeros(3, np.uint64)).shape == (0, 4)


def test_read_only_arrays_are_read_and_never_written() -> None:
    transform = Transform(8, PRIMES_47)
    given_CPL = _residues("read-only", transform, 2, 8)
    given_CPL.flags.writeable = False
    before = given_CPL.tobytes()
    assert transform.unpack(transform.pack(given_CPL)).tobytes() == before
    with pytest.raises(TypeError):
        transform.forward(given_CPL)
    assert given_CPL.tobytes() == before
