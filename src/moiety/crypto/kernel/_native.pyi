"""Types of the C++ extension. Shapes: C count, P primes, L length, M column length."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class Transform:
    """Tables of the negacyclic transform for one degree and a list of primes."""

    def __init__(self, degree: int, primes: Sequence[int]) -> None: ...
    @property
    def degree(self) -> int: ...
    @property
    def primes(self) -> tuple[int, ...]: ...
    @property
    def roots(self) -> tuple[int, ...]: ...
    def forward(
        self,
        polynomials: NDArray[np.uint64],
        *,
        first: int = 0,
        last: int | None = None,
        threads: int = 1,
    ) -> None: ...
    def inverse(
        self,
        polynomials: NDArray[np.uint64],
        *,
        first: int = 0,
        last: int | None = None,
        threads: int = 1,
    ) -> None: ...
    def multiply_accumulate(
        self,
        accumulator: NDArray[np.uint64],
        left: NDArray[np.uint64],
        right: NDArray[np.uint64],
        *,
        threads: int = 1,
    ) -> None: ...
    def add(self, accumulator: NDArray[np.uint64], other: NDArray[np.uint64]) -> None: ...
    def subtract(self, accumulator: NDArray[np.uint64], other: NDArray[np.uint64]) -> None: ...
    def add_small(
        self, accumulator: NDArray[np.uint64], values: NDArray[np.int64], *, threads: int = 1
    ) -> None: ...
    def subring_product(
        self,
        multipliers: NDArray[np.uint64],
        ciphertexts: NDArray[np.uint64],
        *,
        threads: int = 1,
    ) -> NDArray[np.uint64]: ...
    def lift(self, values: NDArray[np.int64], *, threads: int = 1) -> NDArray[np.uint64]: ...
    def encode(self, messages: NDArray[np.uint64], *, threads: int = 1) -> NDArray[np.uint64]: ...
    def round_to_share(self, polynomials: NDArray[np.uint64], *, threads: int = 1) -> NDArray[np.uint64]: ...
    def pack(self, polynomials: NDArray[np.uint64], *, threads: int = 1) -> NDArray[np.uint8]: ...
    def unpack(self, packed: NDArray[np.uint8], *, threads: int = 1) -> NDArray[np.uint64]: ...
    def uniform(self, words: NDArray[np.uint64], *, length: int, threads: int = 1) -> NDArray[np.uint64]: ...

def ternary(stream: NDArray[np.uint8], *, length: int, threads: int = 1) -> NDArray[np.int64]: ...
def gaussian(
    words: NDArray[np.uint64], thresholds: NDArray[np.uint64], *, threads: int = 1
) -> NDArray[np.int64]: ...
def matmul(
    left: NDArray[np.int64] | NDArray[np.int16],
    right: NDArray[np.uint64],
    *,
    threads: int = 1,
) -> NDArray[np.uint64]: ...
