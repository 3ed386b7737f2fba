"""Fixed point numbers and additive shares in the ring of integers modulo 2^64.

Everything two parties share or encrypt is a uint64 array read as two's complement; sums and products
wrap. Scales are chosen so that no product is ever truncated:

    activation a          12 fractional bits   |a| < 8, so 16-bit signed
    scaled gradient dz'   26                   |dz'| <= 16, stochastic rounding
    weight W              38 = 12 + 26         so that W -= a^T dz' is exact
    z = a W               50 = 12 + 38         the ring wraps at 2^13, we stop at 2^10
    dz'' = rows x dz      18                   |dz''| <= 8, for the input gradient only
    da x rows             56 = 18 + 38         the ring wraps at 2^7, we stop at 2^6

This module holds no keys and draws no randomness: random words are arguments. Imported by crypto,
protocol, nn and data.

Shapes: N rows, D in_features, K out_features.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.errors import NonFiniteError, RingOverflowError

RingArray = NDArray[np.uint64]

WORD_BITS: Final = 64
ACTIVATION_BITS: Final = 12
GRADIENT_BITS: Final = 26
WEIGHT_BITS: Final = ACTIVATION_BITS + GRADIENT_BITS
Z_BITS: Final = ACTIVATION_BITS + WEIGHT_BITS

INPUT_SCALE_BITS: Final = 18
INPUT_GRADIENT_BITS: Final = INPUT_SCALE_BITS + WEIGHT_BITS

GRADIENT_LIMIT: Final = 16.0
INPUT_LIMIT: Final = 8.0
Z_LIMIT_BITS: Final = 10
INPUT_GRADIENT_LIMIT_BITS: Final = 6

# What a noise bound has to count with: |a| * 2^12, |dz'| * 2^26, |dz''| * 2^18 and a share as signed 64 bits.
ACTIVATION_MULTIPLIER_BITS: Final = 15
GRADIENT_MULTIPLIER_BITS: Final = GRADIENT_BITS + 4
INPUT_GRADIENT_MULTIPLIER_BITS: Final = INPUT_SCALE_BITS + 3
SHARE_MULTIPLIER_BITS: Final = 63


def encode(values: NDArray[np.float64], *, scale_bits: int) -> RingArray:
    """Encode real values as ring integers: v becomes round(v * 2**scale_bits) modulo 2**64.

    Args:
        values: real values, any shape.
        scale_bits: fractional bits; the error of one value is at most 2**-(scale_bits + 1).

    Raises:
        NonFiniteError: a value is NaN or infinite.
        RingOverflowError: some |v| * 2**scale_bits is not below 2**63.

    Leaks:
        Nothing: runs on the owner's machine.

    >>> encode(np.array([[0.5, -0.25]]), scale_bits=2).view(np.int64)
    array([[ 2, -1]])
    """
    reals = np.asarray(values, dtype=np.float64)
    _require_finite(reals)
    # Before scaling, which could leave the range of float64. Rounding cannot reach 2^63 afterwards:
    # above 2^52 every float64 is an integer.
    _require_below(reals, limit_bits=63 - scale_bits, hint="scale the values down")
    return np.rint(np.ldexp(reals, scale_bits)).astype(np.int64).view(np.uint64)


def decode(values: RingArray, *, scale_bits: int) -> NDArray[np.float64]:
    """Read ring integers as real values with `scale_bits` fractional bits.

    >>> decode(np.array([2, 2**64 - 1], dtype=np.uint64), scale_bits=2)
    array([ 0.5 , -0.25])
    """
    return np.ldexp(values.view(np.int64).astype(np.float64), -scale_bits)


def encode_activations(values_ND: NDArray[np.float64]) -> tuple[NDArray[np.int16], int]:
    """Encode activations with 12 fractional bits; clip what lies outside (-8, 8) and count it.

    Returns:
        int16 (rows, in_features), and the number of clipped values.

    Raises:
        NonFiniteError: a value is NaN or infinite.

    >>> encode_activations(np.array([[1.0, -9.0]]))
    (array([[  4096, -32767]], dtype=int16), 1)
    """
    values = np.asarray(values_ND, dtype=np.float64)
    _require_finite(values)
    # Symmetric, without -2^15: the noise bound counts with 15 bits and a sign (ADR 0001).
    limit = 2.0**ACTIVATION_MULTIPLIER_BITS - 1
    bound = 2.0 ** (ACTIVATION_MULTIPLIER_BITS - ACTIVATION_BITS)
    scaled = np.rint(np.ldexp(np.clip(values, -bound, bound), ACTIVATION_BITS))
    clipped = int(np.count_nonzero(np.abs(scaled) > limit))
    return np.clip(scaled, -limit, limit).astype(np.int16), clipped


def encode_gradients(scaled_NK: NDArray[np.float64], words_NK: NDArray[np.uint64]) -> tuple[RingArray, int]:
    """Encode dz' with 26 fractional bits by unbiased stochastic rounding; clip to +-16 and count.

    v becomes floor(v * 2**26 + U) with U uniform in [0, 1), so its expectation is v.

    Args:
        scaled_NK: learning rate x dz x column scaling.
        words_NK: uniform random words of the same shape; the top 53 bits of each are used.

    Returns:
        uint64 (rows, out_features), and the number of clipped values.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    rounded, clipped = _round(scaled_NK, words_NK, limit=GRADIENT_LIMIT, scale_bits=GRADIENT_BITS)
    return rounded.view(np.uint64), clipped


def encode_input_gradients(
    rows_times_dz_NK: NDArray[np.float64], words_NK: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], int]:
    """Encode dz'' with 18 fractional bits by unbiased stochastic rounding; clip to +-8 and count.

    Args:
        rows_times_dz_NK: batch rows x dz, which undoes the mean of the loss.
        words_NK: uniform random words of the same shape.

    Returns:
        int64 (rows, out_features), and the number of clipped values.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    return _round(rows_times_dz_NK, words_NK, limit=INPUT_LIMIT, scale_bits=INPUT_SCALE_BITS)


def _round(
    reals: NDArray[np.float64], words: NDArray[np.uint64], *, limit: float, scale_bits: int
) -> tuple[NDArray[np.int64], int]:
    values = np.asarray(reals, dtype=np.float64)
    _require_finite(values)
    clipped = int(np.count_nonzero(np.abs(values) > limit))
    # The 53 bits that a float64 holds exactly: a 54th could round up to 1, and floor(v + 1) is biased.
    uniform = np.ldexp((words >> np.uint64(11)).astype(np.float64), -53)
    bounded = np.ldexp(np.clip(values, -limit, limit), scale_bits)
    return np.floor(bounded + uniform).astype(np.int64), clipped


def check_z(z_NK: RingArray) -> None:
    """Stop when z has left its range: the ring wraps at 2^13, and three guard bits show growth.

    Raises:
        RingOverflowError: some |z| is 2**10 or more, or nearer to it than float64 can tell.
    """
    _require_below(
        decode(z_NK, scale_bits=Z_BITS),
        # Three bits before the ring wraps: W is held by nobody, so z is the first place where growth can be
        # seen (ADR 0001).
        limit_bits=Z_LIMIT_BITS,
        hint="lower the learning rate, or scale the features down",
    )


def decode_input_gradient(sum_ND: RingArray) -> NDArray[np.float64]:
    """Read da from the sum of its shares, and stop when da x rows has left its range.

    Args:
        sum_ND: da x rows in ring integers of 56 fractional bits, (rows, in_features).

    Returns:
        da, float64 (rows, in_features).

    Raises:
        RingOverflowError: some |da x rows| is 2**6 or more.
    """
    values = decode(sum_ND, scale_bits=INPUT_GRADIENT_BITS)
    _require_below(
        values,
        limit_bits=INPUT_GRADIENT_LIMIT_BITS,
        hint="lower the learning rate, or scale the loss down",
    )
    return values / len(values)


def _require_finite(values: NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        raise NonFiniteError(
            f"{int(np.count_nonzero(~np.isfinite(values)))} of {values.size} values are not finite",
            hint="look for missing values, a learning rate too high, or a division by zero",
        )


def _require_below(values: NDArray[np.float64], *, limit_bits: int, hint: str) -> None:
    largest = float(np.abs(values).max(initial=0.0))
    magnitude = int(np.frexp(largest)[1])  # 2^(magnitude - 1) <= largest < 2^magnitude, exactly
    if magnitude > limit_bits:
        raise RingOverflowError(
            f"a value needs {magnitude} bits before the point, and {limit_bits} are allowed",
            largest_magnitude_bits=magnitude,
            limit_bits=limit_bits,
            hint=hint,
        )
