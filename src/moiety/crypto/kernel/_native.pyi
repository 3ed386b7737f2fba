"""Types of the C++ extension.

Arrays are C-contiguous and of exactly the type named; another type is a TypeError, another shape
a ValueError. Residues are below their primes on entry and on return. An array that is changed in
place may be the same as another argument of the same shape, and must not overlap one otherwise.

Shapes: C count, P primes, L length, M column length (divides L), G groups, B blocks, W bytes of a residue.
L is a power of two, at most the degree; of add, subtract, add_small, round_to_share, cut, restore and uniform
it is any number. `threads` is from 1 to 256 and never changes a result.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class Transform:
    """Tables of the negacyclic transform for one degree and a list of primes.

    Args:
        degree: N, a power of two from 8 to 16384.
        primes: one to eight distinct primes between 2**20 and 2**50, each 1 modulo 2 N.

    Raises:
        ValueError: the degree or a prime is none of these.
    """

    def __init__(self, degree: int, primes: Sequence[int]) -> None: ...
    @property
    def degree(self) -> int: ...
    @property
    def primes(self) -> tuple[int, ...]: ...
    @property
    def roots(self) -> tuple[int, ...]:
        """The smallest primitive root of unity of order 2 N for each prime."""

    def forward(
        self,
        polynomials: NDArray[np.uint64],
        *,
        first: int = 0,
        last: int | None = None,
        threads: int = 1,
    ) -> None:
        """Apply levels first..last-1 (all by default) of the transform to (C, P, L), in place.

        After all log2(L) levels position i holds the value at root**(N / L * (2 * reversed(i) + 1)).
        After the first log2(M) levels each of the L / M columns along X**(L / M) is transformed.
        """

    def inverse(
        self,
        polynomials: NDArray[np.uint64],
        *,
        first: int = 0,
        last: int | None = None,
        threads: int = 1,
    ) -> None:
        """Undo forward with the same levels, in place."""

    def multiply_accumulate(
        self,
        accumulator: NDArray[np.uint64],
        left: NDArray[np.uint64],
        right: NDArray[np.uint64],
        *,
        threads: int = 1,
    ) -> None:
        """Add left (C, P, L) times right (P, L), point by point, to accumulator (C, P, L)."""

    def add(self, accumulator: NDArray[np.uint64], other: NDArray[np.uint64]) -> None:
        """Add other to accumulator, both (C, P, L), in place."""

    def subtract(self, accumulator: NDArray[np.uint64], other: NDArray[np.uint64]) -> None:
        """Subtract other from accumulator, both (C, P, L), in place."""

    def add_small(
        self, accumulator: NDArray[np.uint64], values: NDArray[np.int64], *, threads: int = 1
    ) -> None:
        """Add values (C, L), at most 2**20 in magnitude, to accumulator (C, P, L), in place."""

    def subring_product(
        self,
        multipliers: NDArray[np.uint64],
        ciphertexts: NDArray[np.uint64],
        *,
        threads: int = 1,
    ) -> NDArray[np.uint64]:
        """Return (G, 2, P, L), at each frequency the matrix product of the two arguments.

        With l = L / M, multipliers (G, B, P, M), ciphertexts (B, 2, P, L) and B from 1 to 8192,
        out[g,c,p,f*l+i] = sum over b of multipliers[g,b,p,f] * ciphertexts[b,c,p,f*l+i].
        """

    def lift(self, values: NDArray[np.int64], *, threads: int = 1) -> NDArray[np.uint64]:
        """Return the residues (C, P, L) of signed integers (C, L)."""

    def encode(self, messages: NDArray[np.uint64], *, threads: int = 1) -> NDArray[np.uint64]:
        """Return round(m * q / 2**64) modulo each prime, (C, P, L), for messages m (C, L)."""

    def round_to_share(self, polynomials: NDArray[np.uint64], *, threads: int = 1) -> NDArray[np.uint64]:
        """Return floor(x * 2**64 / q + 1/2) modulo 2**64, (C, L), for x of residues (C, P, L)."""

    def cut(self, polynomials: NDArray[np.uint64], *, width: int, threads: int = 1) -> NDArray[np.uint8]:
        """Return x * 2**b / q rounded modulo 2**b as little-endian bytes, (C, L, width), b = 8 * width.

        For residues (C, P, L) of x and a width of 8 to 19. What is rounded, halves upwards, is the sum over
        the primes of y * floor(2**208 / p) / 2**(208 - b), with y = x * (q / p)**-1 modulo p.
        """

    def restore(self, cut: NDArray[np.uint8], *, threads: int = 1) -> NDArray[np.uint64]:
        """Return floor(m * q / 2**b + 1/2) modulo each prime, (C, P, L), for m in (C, L, width)."""

    def pack(self, polynomials: NDArray[np.uint64], *, threads: int = 1) -> NDArray[np.uint8]:
        """Return the residues as little-endian bytes (C, P, L, W), as the largest prime needs."""

    def unpack(self, packed: NDArray[np.uint8], *, threads: int = 1) -> NDArray[np.uint64]:
        """Return the packed residues (C, P, L); ValueError if one is not below its prime."""

    def uniform(self, words: NDArray[np.uint64], *, length: int, threads: int = 1) -> NDArray[np.uint64]:
        """Map words (C, P, length + spare) to uniform residues (C, P, length) by rejection.

        ValueError if a row runs out of words.
        """

def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that this build and this processor have, the fastest first.

    The last is "portable". All give the same integers; the first is used.
    """

def use_instruction_set(name: str) -> None:
    """Use another of `instruction_sets` from now on: for tests and benchmarks, with no call under way.

    ValueError if there is none of this name.
    """

def ternary(stream: NDArray[np.uint8], *, length: int, threads: int = 1) -> NDArray[np.int64]:
    """Map uniform bytes (C, length + spare) to uniform values in {-1, 0, 1}, (C, length).

    A byte of 255 is skipped; ValueError if a row runs out of bytes.
    """

def gaussian(
    words: NDArray[np.uint64], thresholds: NDArray[np.uint64], *, threads: int = 1
) -> NDArray[np.int64]:
    """Map uniform words (C, L) to signed values: the low bit is the sign, negative where set.

    The magnitude is the number of thresholds, each at most 2**63, that are at most word >> 1.
    """

def matmul(
    left: NDArray[np.int64] | NDArray[np.int16],
    right: NDArray[np.uint64],
    *,
    threads: int = 1,
) -> NDArray[np.uint64]:
    """Return left (n, d) times right (d, k) modulo 2**64."""
