"""Numbers sorted once: what the usual rule, imputation and drift ask of training rows comes of one sort.

Results equal NumPy's and scikit-learn's to the last bit. Imported by prepared columns.

Shapes: N numbers; n some of them.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_TENTHS: Final = np.arange(1, 10) / 10


@dataclass(frozen=True, eq=False)
class Ordered:
    """Some numbers, at least one, none of them missing or infinite.

    Args:
        sorted_N: ascending.
    """

    sorted_N: Numbers = field(repr=False)

    @classmethod
    def of(cls, numbers_N: Numbers) -> "Ordered":
        """Sort numbers."""
        return cls(np.sort(numbers_N))

    @property
    def low(self) -> float:
        """The smallest."""
        return float(self.sorted_N[0])

    @property
    def high(self) -> float:
        """The largest."""
        return float(self.sorted_N[-1])

    @property
    def distinct(self) -> int:
        """How many differ."""
        return len(self._starts)

    @property
    def median(self) -> float:
        """The middle one, or the mean of the two in the middle."""
        count = len(self.sorted_N)
        low, high = float(self.sorted_N[(count - 1) // 2]), float(self.sorted_N[count // 2])
        middle = (low + high) / 2.0
        return middle if np.isfinite(middle) else low / 2.0 + high / 2.0

    @property
    def tenths(self) -> tuple[float, ...]:
        """The edges of tenths, each of them one of the numbers; fewer where numbers repeat."""
        # The inverse of the distribution function, quantile definition 1 of Hyndman and Fan (1996).
        places = np.maximum(np.ceil(len(self.sorted_N) * _TENTHS - 1), 0).astype(np.int64)
        return tuple(np.unique(self.sorted_N[places]).tolist())

    def without_what_fills_half(self) -> "Ordered":
        """Return the numbers without the commonest one, where that is half of them or more."""
        counts = np.diff(self._starts, append=len(self.sorted_N))
        common = int(counts.argmax())
        if 2 * counts[common] < len(self.sorted_N):
            return self
        first = int(self._starts[common])
        return Ordered(np.delete(self.sorted_N, slice(first, first + int(counts[common]))))

    @cached_property
    def middle_half(self) -> float:
        """How far apart the quartiles are; infinite or not a number where that overflows."""
        low, high = np.quantile(self.sorted_N, [0.25, 0.75])
        return float(high - low)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each distinct number begins."""
        return np.flatnonzero(np.append(True, self.sorted_N[1:] != self.sorted_N[:-1]))
