"""The ring against Python integers and exact fractions, 10^5 cases each."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.crypto import ring
from moiety.errors import NonFiniteError, RingOverflowError
from tests.support.randomness import words_of

CASES = 100_000


def _values(*, largest_bits: float) -> NDArray[np.float64]:
    words = words_of("values", CASES)
    fraction = (words >> np.uint64(11)).astype(np.float64) / 2**53
    magnitudes = np.exp2(fraction * (largest_bits + 60) - 60)
    return np.where(words & np.uint64(1), magnitudes, -magnitudes)


def _rounded(value: float, *, bits: int) -> int:
    scaled: Fraction = Fraction(value) * 2**bits
    return round(scaled)  # Python rounds a half to even, and so must we


@pytest.mark.parametrize("bits", [0, ring.ACTIVATION_BITS, ring.WEIGHT_BITS, ring.Z_BITS])
def test_encode_random_values(bits: int) -> None:
    values = _values(largest_bits=62.9 - bits)
    encoded = ring.encode(values, scale_bits=bits)
    assert encoded.tolist() == [_rounded(each, bits=bits) % 2**64 for each in values.tolist()]


def test_encode_halves_to_even() -> None:
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5])
    assert ring.encode(halves, scale_bits=0).view(np.int64).tolist() == [0, 2, 2, 0, -2]


def test_decode_random_words() -> None:
    words = words_of("decoded", CASES)
    decoded = ring.decode(words, scale_bits=ring.Z_BITS)
    signed = [word - 2**64 if word >= 2**63 else word for word in words.tolist()]
    assert decoded.tolist() == [float(Fraction(each, 2**ring.Z_BITS)) for each in signed]


def test_encode_just_below_the_limit() -> None:
    edge = float(np.nextafter(2.0**63, 0))
    assert ring.encode(np.array([edge, -edge]), scale_bits=0).view(np.int64).tolist() == [
        int(edge),
        -int(edge),
    ]


@pytest.mark.parametrize(
    ("value", "bits"), [(2.0**25, 26), (-(2.0**25), 26), (3.0 * 2**25, 27), (2.0**1023, 1024)]
)
def test_encode_at_the_limit(*, value: float, bits: int) -> None:
    with pytest.raises(RingOverflowError) as caught:
        ring.encode(np.array([0.0, value]), scale_bits=38)
    assert caught.value.limit_bits == 25
    assert caught.value.largest_magnitude_bits == bits
    assert caught.value.hint
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_encoders_refuse_non_finite(value: float) -> None:
    values = np.array([[1.0, value]])
    with pytest.raises(NonFiniteError, match="1 of 2"):
        ring.encode(values, scale_bits=12)
    with pytest.raises(NonFiniteError, match="1 of 2"):
        ring.encode_activations(values)
    with pytest.raises(NonFiniteError, match="1 of 2"):
        ring.encode_gradients(values, np.zeros((1, 2), dtype=np.uint64))


def test_encode_activations_random_values() -> None:
    values = _values(largest_bits=4)
    encoded, clipped = ring.encode_activations(values)
    exact = [_rounded(each, bits=12) for each in values.tolist()]
    assert encoded.dtype == np.int16
    assert encoded.tolist() == [max(-32767, min(32767, each)) for each in exact]
    assert clipped == sum(abs(each) > 32767 for each in exact)


def test_encode_activations_at_the_edge() -> None:
    last = 32767 / 4096
    values = np.array([last, -last, 32767.5 / 4096, -32767.5 / 4096, 8.0, -8.0, 1e308])
    encoded, clipped = ring.encode_activations(values)
    assert encoded.tolist() == [32767, -32767, 32767, -32767, 32767, -32767, 32767]
    assert clipped == 5


def test_encode_gradients_random_values() -> None:
    values = np.clip(_values(largest_bits=4.2), -17, 17)
    words = words_of("rounding", CASES)
    encoded, clipped = ring.encode_gradients(values, words)
    expected = []
    for value, word in zip(values.tolist(), words.tolist(), strict=True):
        scaled = np.ldexp(max(-16.0, min(16.0, value)), 26)
        # The sum is taken in float64, so that it is the nearest double to the exact one.
        total = float(Fraction(float(scaled)) + Fraction(word >> 11, 2**53))
        expected.append(floor(total))
    assert encoded.view(np.int64).tolist() == expected
    assert clipped == int(np.count_nonzero(np.abs(values) > 16))


@pytest.mark.parametrize("numerator", [0, 1, 255, 256, 300, 511])
@pytest.mark.parametrize("whole", [-3, -1, 0, 2])
def test_encode_gradients_unbiased(numerator: int, whole: int) -> None:
    # Over all 512 values of U in steps of 1/512 the mean is the value itself, exactly.
    value = Fraction(whole) + Fraction(numerator, 512)
    values = np.full(512, float(value / 2**26))
    words = np.arange(512, dtype=np.uint64) << np.uint64(55)
    encoded, clipped = ring.encode_gradients(values, words)
    assert Fraction(sum(encoded.view(np.int64).tolist()), 512) == value
    assert clipped == 0


def test_encode_gradients_at_the_limit() -> None:
    beyond = float(np.nextafter(16.0, 17.0))
    values = np.array([16.0, -16.0, beyond, -beyond])
    encoded, clipped = ring.encode_gradients(values, np.zeros(4, dtype=np.uint64))
    assert encoded.view(np.int64).tolist() == [2**30, -(2**30), 2**30, -(2**30)]
    assert clipped == 2


def test_check_z_below_the_limit() -> None:
    # 2^60 - 65 is the largest integer that float64 does not round to 2^60.
    ring.check_z(np.array([[2**60 - 65, 2**64 - 2**60 + 65, 0]], dtype=np.uint64))
    ring.check_z(np.empty((0, 4), dtype=np.uint64))


@pytest.mark.parametrize(
    ("word", "bits"), [(2**60, 11), (2**64 - 2**60, 11), (2**61 - 2**10, 11), (2**63, 14)]
)
def test_check_z_at_the_limit(*, word: int, bits: int) -> None:
    with pytest.raises(RingOverflowError) as caught:
        ring.check_z(np.array([[1, word]], dtype=np.uint64))
    assert caught.value.limit_bits == 10
    assert caught.value.largest_magnitude_bits == bits
    assert "learning rate" in caught.value.hint


def test_encode_input_gradients_random_values() -> None:
    values = np.clip(_values(largest_bits=3.2), -9, 9)
    words = words_of("input rounding", CASES)
    encoded, clipped = ring.encode_input_gradients(values, words)
    expected = []
    for value, word in zip(values.tolist(), words.tolist(), strict=True):
        scaled = np.ldexp(max(-8.0, min(8.0, value)), 18)
        total = float(Fraction(float(scaled)) + Fraction(word >> 11, 2**53))
        expected.append(floor(total))
    assert encoded.dtype == np.int64
    assert encoded.tolist() == expected
    assert clipped == int(np.count_nonzero(np.abs(values) > 8))
    assert clipped > 0


@pytest.mark.parametrize("numerator", [0, 1, 300, 511])
@pytest.mark.parametrize("whole", [-3, 0, 2])
def test_encode_input_gradients_unbiased(numerator: int, whole: int) -> None:
    value = Fraction(whole) + Fraction(numerator, 512)
    words = np.arange(512, dtype=np.uint64) << np.uint64(55)
    encoded, _ = ring.encode_input_gradients(np.full(512, float(value / 2**18)), words)
    assert Fraction(sum(encoded.tolist()), 512) == value


def test_encode_input_gradients_at_the_limit() -> None:
    beyond = float(np.nextafter(8.0, 9.0))
    values = np.array([8.0, -8.0, beyond, -beyond])
    encoded, clipped = ring.encode_input_gradients(values, np.zeros(4, dtype=np.uint64))
    assert encoded.tolist() == [2**21, -(2**21), 2**21, -(2**21)]
    assert clipped == 2
    assert np.abs(encoded).max() <= 2**ring.INPUT_GRADIENT_MULTIPLIER_BITS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_encode_input_gradients_refuses_non_finite(value: float) -> None:
    with pytest.raises(NonFiniteError, match="1 of 2"):
        ring.encode_input_gradients(np.array([[1.0, value]]), np.zeros((1, 2), dtype=np.uint64))


def test_decode_input_gradient_divides_by_the_rows() -> None:
    words = words_of("da", 300).reshape(100, 3)
    sum_ND = ((words >> np.uint64(3)).astype(np.int64) - 2**60).view(np.uint64)
    signed = sum_ND.view(np.int64).tolist()
    expected = [[float(Fraction(each, 2**56)) / 100 for each in row] for row in signed]
    assert ring.decode_input_gradient(sum_ND).tolist() == expected


@pytest.mark.parametrize(("word", "bits"), [(2**62, 7), (2**64 - 2**62, 7), (2**63, 8)])
def test_decode_input_gradient_at_the_limit(*, word: int, bits: int) -> None:
    just_below = np.array([[2**62 - 2**9, 2**64 - 2**62 + 2**9]], dtype=np.uint64)
    assert np.abs(ring.decode_input_gradient(just_below)).max() < 2**6
    with pytest.raises(RingOverflowError) as caught:
        ring.decode_input_gradient(np.array([[1, word]], dtype=np.uint64))
    assert caught.value.limit_bits == 6
    assert caught.value.largest_magnitude_bits == bits
    assert "scale the loss down" in caught.value.hint
