"""The products that are measured, ours and the peers'."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Stages
from moiety.crypto.sampling import Seed, expand_words

MULTIPLIER_BITS: Final = 15  # activations: 16-bit signed
STAGES: Final = ("encrypt", "respond", "decrypt")


@dataclass(frozen=True, kw_only=True)
class Size:
    """One product (rows x contraction)(contraction x kept), and how often it is measured."""

    rows: int
    contraction: int
    kept: int
    runs: int = 1

    @property
    def text(self) -> str:
        """The shape as it is printed."""
        return f"({self.rows} x {self.contraction})({self.contraction} x {self.kept})"

    @property
    def multiplications(self) -> int:
        """Multiply-accumulates of the product in the clear."""
        return self.rows * self.contraction * self.kept

    def with_rows(self, rows: int) -> "Size":
        """Return the product of fewer rows."""
        return replace(self, rows=rows)


SIZES: Final = (
    Size(rows=1024, contraction=64, kept=64, runs=41),
    Size(rows=8192, contraction=300, kept=32, runs=9),
    Size(rows=256, contraction=784, kept=128, runs=15),
)


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """What crosses in each direction; 0 where it was not counted."""

    request: int = 0
    response: int = 0


class System(Protocol):
    """Somebody's way to compute one product, both parties in this process."""

    @property
    def name(self) -> str:
        """What it is called in the results."""
        ...

    def run(self, stages: Stages) -> Bytes:
        """Compute the product once, timing `STAGES`, and refuse a wrong result."""
        ...


def size_of(text: str) -> Size:
    """Read a shape back.

    >>> size_of("(1024 x 64)(64 x 32)").multiplications
    2097152
    """
    rows, contraction, _, kept = (int(word) for word in text.strip("()").replace(")(", " x ").split(" x "))
    return Size(rows=rows, contraction=contraction, kept=kept)


def require_equal(result: NDArray[np.generic], expected: NDArray[np.generic], name: str) -> None:
    """Refuse to give the speed of a wrong product."""
    if not np.array_equal(result, expected):
        raise AssertionError(f"{name}: the result is not the product")


def words(rows: int, columns: int, purpose: bytes) -> NDArray[np.uint64]:
    """Return uniform words that are the same in each run."""
    return expand_words(Seed(bytes(32)), purpose, index=0, count=rows * columns).reshape(rows, columns)


def signed(rows: int, columns: int, purpose: bytes, *, bits: int) -> NDArray[np.int64]:
    """Return signed integers of `bits` bits and a sign, the same in each run."""
    return words(rows, columns, purpose).view(np.int64) >> (63 - bits)


def powers_of_two(limit: int) -> Iterator[int]:
    """Yield 1, 2, 4, up to the limit."""
    value = 1
    while value <= limit:
        yield value
        value *= 2
