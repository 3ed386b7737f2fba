"""Which rings and moduli there are, what they hold, and which are not secure.

A product is correct but for an error of one unit, with probability 2^-spare per opened value, when

    log2 q >= 65 + log2(19.7 * multiplier * contraction * r + 19.2 * (2N + 1) + cut) + spare

with N the ring degree and r the rows per ciphertext: every slot collects contraction x r noise terms of a
fresh encryption (error at most 19, plus one half for rounding the message to the modulus), and the
re-randomisation adds e0 + e1 s + e_pk u, that is 1 + N + N errors of at most 19.2. 64 of the 65 bits are
the plaintext modulus, the last one is the half unit of rounding: the evaluator's r 2^64 / q lies within the
noise of a half, on either side, with probability 2 * noise * 2^64 / q.

A response crosses cut to b = 8 * response_bytes bits for c1' and b - 8 for c0' (ADR 0013). A restored
coefficient of c1' is off by q / 2^(b + 1), by the 2^50 / 2^208 of q that the kernel's sum loses for each
prime, and by one half for rounding back; c1' s has N such terms, s being ternary, and c0' adds one:

    cut = (N + 2^8) q / 2^(b + 1) + (N + 1) (primes * q / 2^158 + 1/2)

Security is that of RLWE with a uniform ternary secret and sigma 3.2 at 128 bits: the limits on log2 q are
those of the Homomorphic Encryption Standard against quantum search (51, 101, 202, 411 bits for N = 2048,
4096, 8192, 16384), rounded down; ePrint 2024/463 allows a little more.
"""

from dataclasses import dataclass
from functools import cache
from math import log2, prod
from typing import Final

from moiety.crypto.kernel import Transform
from moiety.crypto.scheme import ProductShape
from moiety.errors import InsecureParameterError

REQUIRED_SECURITY_BITS: Final = 128
SECURE_MODULUS_BITS: Final = {2048: 50, 4096: 100, 8192: 200, 16384: 400}
DITHERED_SPARE_BITS: Final = 40
"""For a value that is dithered before it is opened, or whose shares are never opened."""
EXACT_SPARE_BITS: Final = 64
"""For a value that is opened exactly."""

LEAST_RESPONSE_BYTES: Final = 9
MOST_RESPONSE_BYTES: Final = 19
"""The kernel cuts to 8 to 19 bytes, and c0' has one less than c1'. At 19, moduli of 141 bits lose nothing."""

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

    @property
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


def noise_bound(shape: ProductShape, *, degree: int, rows_per_ciphertext: int) -> int:
    """Bound the noise of a response before it is cut, in units of the ciphertext modulus, rounded up."""
    terms = shape.contraction * min(rows_per_ciphertext, shape.rows)
    evaluated = 197 * terms << shape.multiplier_bits
    rerandomised = 192 * (2 * degree + 1)
    return -(-(evaluated + rerandomised) // 10)


@cache
def cut_bound(parameters: ParameterSet, *, response_bytes: int) -> int:
    """Bound what cutting a response adds to its noise, in units of the ciphertext modulus, rounded up."""
    degree, modulus = parameters.degree, parameters.modulus
    dropped = (degree + 2**8) * modulus << (208 - 8 * response_bytes - 1)
    lost = (degree + 1) * len(parameters.primes) * modulus << 50
    return -(-(dropped + lost) >> 208) + degree // 2 + 1


def spare_bits(
    parameters: ParameterSet,
    shape: ProductShape,
    *,
    rows_per_ciphertext: int,
    response_bytes: int = MOST_RESPONSE_BYTES,
) -> float:
    """Bits left over: an opened value is off by one with probability 2^-spare."""
    evaluated = noise_bound(shape, degree=parameters.degree, rows_per_ciphertext=rows_per_ciphertext)
    bound = evaluated + cut_bound(parameters, response_bytes=response_bytes)
    return log2(parameters.modulus) - 65 - log2(bound)


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
