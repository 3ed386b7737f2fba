"""Which rings and moduli there are, what they hold, and which are not secure.

A product is off by one unit, with probability 2^-spare per value at most, when

    log2 q >= 65 + log2(deviation) + spare

where `deviation` bounds the root mean square of the noise, in units of q. The noise of a response is, N being
the ring degree, r the rows per ciphertext and multipliers at most 2^k,

    contraction * r terms p e      e: error of sigma 3.2, rounding of the message, cut of the request
    e_pk u + e1 s                  2 N terms of sigma 3.2 at most, u and s being ternary
    N terms d s                    d: cut of c1'

The errors are independent of each other, of the multipliers and of the secret, and have mean 0: their
variances add up, and multipliers of one sign and of the largest size are allowed for. Rounding to a multiple
of q / 2^b (b bits that cross) has the variance (q / 2^b)^2 / 12; the kernel's sum is below the exact one by
at most primes * q * 2^50 / 2^208 on top, and restoring rounds to an integer.

64 of the 65 bits are the plaintext modulus. The two shares are round(x) and round(y) with x + y the product
plus noise, in units of q / 2^64; they miss the product only where x lies within the noise of a half, on
either side. x is pseudo-random and uniform modulo 1, so that this happens with probability 2 E|noise| 2^64 /
q, at most twice the deviation: that is the 65th bit (ADR 0014).

Security is that of RLWE with a uniform ternary secret and sigma 3.2 at 128 bits: the limits on log2 q are
those of the Homomorphic Encryption Standard against quantum search (51, 101, 202, 411 bits for N = 2048,
4096, 8192, 16384), rounded down; ePrint 2024/463 allows a little more.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from math import log2, prod, sqrt
from typing import Final

from moiety.crypto.kernel import Transform
from moiety.crypto.sampling import SIGMA
from moiety.crypto.scheme import ProductShape
from moiety.errors import InsecureParameterError

REQUIRED_SECURITY_BITS: Final = 128
_VARIANCE: Final = float(SIGMA) ** 2
SECURE_MODULUS_BITS: Final = {2048: 50, 4096: 100, 8192: 200, 16384: 400}
DITHERED_SPARE_BITS: Final = 40
"""For a value that is dithered before it is opened, or whose shares are never opened."""
EXACT_SPARE_BITS: Final = 64
"""For a value that is opened exactly."""

LEAST_CUT_BYTES: Final = 9
MOST_CUT_BYTES: Final = 19
"""What a coefficient is cut to. The kernel cuts to 8 to 19 bytes; 19 lose nothing of moduli of 141 bits."""

# The largest primes of 47 and of 40 bits that are 1 modulo 2^15, so that they serve every degree.
_PRIMES_47: Final = (
    140737488125953,
    140737487306753,
    140737486716929,
    140737486553089,
    140737486520321,
    140737485864961,
)
_PRIMES_40: Final = (1099510054913, 1099508121601, 1099507695617, 1099506515969)


@dataclass(frozen=True, kw_only=True)
class ParameterSet:
    """A ring Z_q[X] / (X^N + 1) with q a product of primes that are 1 modulo 2N."""

    name: str
    degree: int
    primes: tuple[int, ...]
    testing_only: bool = False

    @cached_property
    def modulus(self) -> int:
        """The ciphertext modulus q."""
        return int(prod(self.primes))

    @property
    def residue_bytes(self) -> int:
        """Bytes of one residue on the wire."""
        return (max(self.primes).bit_length() + 7) // 8

    @property
    def security_bits(self) -> int:
        """Estimated security: 128 bits at the table's limit, falling in proportion above it."""
        # A degree that is not in the table has no security that anybody stated: 0 bits, and refused.
        limit = SECURE_MODULUS_BITS.get(self.degree, 0)
        return min(256, int(REQUIRED_SECURITY_BITS * limit / log2(self.modulus)))

    @property
    def polynomial_bytes(self) -> int:
        """Bytes of one polynomial on the wire."""
        return self.degree * len(self.primes) * self.residue_bytes


LISTED: Final = (
    ParameterSet(name="rlwe-8192-141", degree=8192, primes=_PRIMES_47[:3]),
    ParameterSet(name="rlwe-8192-160", degree=8192, primes=_PRIMES_40),
    ParameterSet(name="rlwe-8192-188", degree=8192, primes=_PRIMES_47[:4]),
    ParameterSet(name="rlwe-16384-282", degree=16384, primes=_PRIMES_47),
)
TESTING_ONLY: Final = ParameterSet(
    name="testing-only-256-141", degree=256, primes=_PRIMES_47[:3], testing_only=True
)
"""No security at all: small enough for message-order tests; refused by every connection."""


def require_secure(parameters: ParameterSet) -> None:
    """Refuse parameters under 128 bits of security.

    Raises:
        InsecureParameterError: with the bits required and the bits estimated.
    """
    if parameters.security_bits < REQUIRED_SECURITY_BITS:
        raise InsecureParameterError(
            f"{parameters.name} gives about {parameters.security_bits} bits of security",
            bits_required=REQUIRED_SECURITY_BITS,
            bits_estimated=parameters.security_bits,
        )


def deviation(
    parameters: ParameterSet,
    shape: ProductShape,
    *,
    rows_per_ciphertext: int,
    request_bytes: int | None = None,
    response_bytes: int = MOST_CUT_BYTES,
) -> float:
    """Bound the root mean square of a response's noise, as a fraction of q.

    Args:
        parameters: the ring.
        shape: of the product.
        rows_per_ciphertext: output rows of one response.
        request_bytes: that a coefficient of a request is cut to; None: requests cross whole.
        response_bytes: that a coefficient of c1' is cut to.
    """
    # As many terms as a coefficient of the product has: rows that do not exist are multiplied by 0.
    degree, terms = parameters.degree, shape.contraction * min(rows_per_ciphertext, shape.rows)
    multiplier, unit = 2.0**shape.multiplier_bits, 1 / parameters.modulus
    error = _VARIANCE * unit**2
    asked, answered = _cut(parameters, request_bytes), _cut(parameters, response_bytes)
    # Multipliers are a party's data: taken at their largest, all of one sign. Errors are sampled, so that
    # their variances add up (ADR 0014); an error that somebody chose would spoil that party's own product
    # only.
    variance = terms * multiplier**2 * (error + (unit**2 + asked.variance) / 12)
    variance += 2 * degree * error + degree * (unit**2 + answered.variance) / 12
    return sqrt(variance) + terms * multiplier * asked.bias + degree * answered.bias


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """What cutting a coefficient does: 12 times its variance, and its bias, of a modulus of 1."""

    variance: float
    bias: float


def _cut(parameters: ParameterSet, size: int | None) -> _Cut:
    if size is None:
        return _Cut(variance=0.0, bias=0.0)
    return _Cut(variance=2.0 ** (-16 * size), bias=len(parameters.primes) * 2.0**-158)


def spare_bits(
    parameters: ParameterSet,
    shape: ProductShape,
    *,
    rows_per_ciphertext: int,
    request_bytes: int | None = None,
    response_bytes: int = MOST_CUT_BYTES,
) -> float:
    """Bits left over: a value is off by one with probability 2^-spare at most. Arguments as `deviation`."""
    noise = deviation(
        parameters,
        shape,
        rows_per_ciphertext=rows_per_ciphertext,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
    )
    return -65 - log2(noise)


def session_error(*, opened: int, spare: float) -> float:
    """Bound the probability that any of `opened` values is off by one unit.

    >>> session_error(opened=2**20, spare=40.0) == 2.0**-20
    True
    """
    return float(opened * 2.0**-spare)


@cache
def transform(parameters: ParameterSet) -> Transform:
    """Return the kernel's tables for a parameter set, made once."""
    return Transform(parameters.degree, list(parameters.primes))
