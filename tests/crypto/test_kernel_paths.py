"""Every instruction set gives the integers of the portable path, bit for bit."""

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.crypto import kernel
from moiety.crypto.kernel import Transform
from moiety.crypto.parameters import LISTED
from moiety.crypto.sampling import gaussian_thresholds

# The listed primes, and those that try the bounds: close to 2**50, just above 2**49 and 2**47, and small.
LISTED_PRIMES = sorted({p for parameters in LISTED for p in parameters.primes})
PRIMES_50 = (1125899904679937, 1125899903991809)
PRIME_49 = 562949954142209
PRIME_48 = 140737488486401
PRIME_21 = 1769473
ALL_PRIMES = (*LISTED_PRIMES, *PRIMES_50, PRIME_49, PRIME_48, PRIME_21)
SETS = kernel.instruction_sets()

Words = NDArray[np.uint64]


@pytest.fixture(autouse=True)
def _fastest_again() -> Iterator[None]:
    yield
    kernel.use_instruction_set(SETS[0])


def _words(label: str, *shape: int) -> Words:
    stream = hashlib.shake_256(label.encode()).digest(8 * math.prod(shape))
    return np.frombuffer(stream, np.uint64).reshape(shape)


def _inputs(transform: Transform, count: int, length: int) -> dict[str, Words]:
    """Return random residues, zeros and largest residues, (count, primes, length)."""
    moduli = np.array(transform.primes, np.uint64).reshape(1, -1, 1)
    shape = (count, len(transform.primes), length)
    zeros = np.zeros(shape, np.uint64)
    return {
        "random": _words("paths", *shape) % moduli,
        "zeros": zeros,
        "largest": zeros + moduli - np.uint64(1),
    }


def _same_on_every_path(work: Callable[..., NDArray[Any]], *arguments: object, **options: Any) -> None:
    results = {}
    for name in SETS:
        kernel.use_instruction_set(name)
        results[name] = work(*arguments, **options)
    for name in SETS:
        np.testing.assert_array_equal(results[name], results["portable"], err_msg=name)


def _changed(operation: Callable[..., None], target: Words, *others: object, **options: Any) -> Words:
    copy = target.copy()
    operation(copy, *others, **options)
    return copy


def test_the_portable_path_is_always_there_and_unknown_names_are_refused() -> None:
    assert SETS[-1] == "portable"
    assert len(set(SETS)) == len(SETS)
    with pytest.raises(ValueError, match="instruction_sets"):
        kernel.use_instruction_set("quantum")


@pytest.mark.parametrize("degree", [256, 8192, 16384])
@pytest.mark.parametrize("prime", ALL_PRIMES)
def test_whole_transforms(degree: int, prime: int) -> None:
    transform = Transform(degree, (prime,))
    for given in _inputs(transform, 2, degree).values():
        _same_on_every_path(_changed, transform.forward, given)
        _same_on_every_path(_changed, transform.inverse, given)


@pytest.mark.parametrize("prime", [LISTED_PRIMES[-1], PRIMES_50[0], PRIME_48])
@pytest.mark.parametrize("length", [1, 8, 16, 32, 512])
def test_every_range_of_levels(prime: int, length: int) -> None:
    transform = Transform(512, (prime,))
    levels = length.bit_length() - 1
    ranges = [(a, b) for b in range(levels + 1) for a in range(b + 1)]
    for given in _inputs(transform, 1, length).values():
        for first, last in ranges:
            for operation in (transform.forward, transform.inverse):
                _same_on_every_path(_changed, operation, given, first=first, last=last)


@pytest.mark.parametrize("length", [4, 8, 64, 256])
def test_pointwise_operations(length: int) -> None:
    transform = Transform(256, ALL_PRIMES[-6:])
    small = _words("small", 3, length).astype(np.int64) >> 43
    small.flat[:4] = [0, -1, 2**20, -(2**20)]
    inputs = _inputs(transform, 3, length)
    for left in inputs.values():
        _same_on_every_path(_changed, transform.add_small, left, small)
        for right in inputs.values():
            for operation in (transform.add, transform.subtract):
                _same_on_every_path(_changed, operation, left, right)
            for sums in inputs.values():
                _same_on_every_path(_changed, transform.multiply_accumulate, sums, left, right[0])


@pytest.mark.parametrize("length", [4, 8, 16, 256])
def test_encodings(length: int) -> None:
    transform = Transform(256, ALL_PRIMES[-6:])
    words = _words("encode", 3, length).copy()
    words.flat[:8] = [0, 1, 2**52 - 1, 2**52, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1]
    _same_on_every_path(transform.encode, words)
    _same_on_every_path(transform.lift, words.view(np.int64))


@pytest.mark.parametrize(
    "primes", [LISTED_PRIMES[:3], LISTED_PRIMES[-6:], (*PRIMES_50, PRIME_21), ALL_PRIMES[-8:]]
)
@pytest.mark.parametrize("length", [4, 16, 256])
def test_rounding_and_packing(primes: tuple[int, ...], length: int) -> None:
    transform = Transform(256, primes)
    for given in _inputs(transform, 3, length).values():
        _same_on_every_path(transform.round_to_share, given)
        packed = transform.pack(given)
        _same_on_every_path(transform.pack, given)
        _same_on_every_path(transform.unpack, packed)
        np.testing.assert_array_equal(transform.unpack(packed), given)


@pytest.mark.parametrize("name", SETS)
def test_unpack_refuses_a_residue_out_of_range_at_every_place(name: str) -> None:
    transform = Transform(64, LISTED_PRIMES[-1:])
    kernel.use_instruction_set(name)
    for place in range(64):
        packed = transform.pack(np.zeros((1, 1, 64), np.uint64))
        packed[0, 0, place] = list(LISTED_PRIMES[-1].to_bytes(6, "little"))
        with pytest.raises(ValueError, match="not below its prime"):
            transform.unpack(packed)


@pytest.mark.parametrize(
    ("groups", "blocks", "column_length", "length"),
    [
        (1, 1, 8, 64), (2, 3, 8, 256), (3, 5, 32, 256), (5, 7, 16, 256), (9, 40, 8, 512),
        (3, 2, 4, 256), (3, 2, 64, 256), (2, 2, 256, 256), (4, 4096, 8, 64), (2, 8192, 8, 64),
    ],
)  # fmt: skip
def test_subring_product(groups: int, blocks: int, column_length: int, length: int) -> None:
    transform = Transform(512, (*PRIMES_50, PRIME_49, LISTED_PRIMES[-1], PRIME_21))
    multipliers = _inputs(transform, groups * blocks, column_length)
    ciphertexts = _inputs(transform, 2 * blocks, length)
    primes = len(transform.primes)
    kinds = [("random", "random"), ("largest", "largest")]
    for left, right in kinds if blocks > 100 else [*kinds, ("zeros", "random"), ("random", "largest")]:
        m = multipliers[left].reshape(groups, blocks, primes, column_length)
        c = ciphertexts[right].reshape(blocks, 2, primes, length)
        _same_on_every_path(transform.subring_product, m, c)


@pytest.mark.parametrize("length", [4, 8, 64, 256])
def test_samplers_with_many_rejections(length: int) -> None:
    transform = Transform(256, ALL_PRIMES[-6:])
    words = _words("uniform", 2, 6, length + 40 + length // 4).copy()
    words[:, :, ::9] = 2**64 - 1
    words[:, :, 1::16] = [[[p * (2**64 // p)] for p in transform.primes]]
    words[:, :, 2::16] = [[[p * (2**64 // p) - 1] for p in transform.primes]]
    _same_on_every_path(transform.uniform, words, length=length)
    stream = _words("ternary", 2, length).view(np.uint8).reshape(2, -1)[:, : length + length // 2 + 9].copy()
    stream[:, ::5] = 255
    stream[:, 3] = 254
    _same_on_every_path(kernel.ternary, stream, length=length)
    thresholds = gaussian_thresholds()
    edges = [2 * int(t) + step for t in thresholds for step in (-1, -2, 0, 1)]
    samples = np.concatenate([_words("gaussian", 1, length), np.array([edges], np.uint64)], axis=1)
    _same_on_every_path(kernel.gaussian, samples, thresholds)


@pytest.mark.parametrize("dtype", [np.int64, np.int16])
@pytest.mark.parametrize("columns", [1, 7, 8, 16, 37, 64])
def test_matmul(dtype: type[np.signedinteger[Any]], columns: int) -> None:
    left = _words("left", 5, 33).astype(dtype)
    left[0, :2] = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    right = _words("right", 33, columns)
    _same_on_every_path(kernel.matmul, left, right)
