"""Slow systems are measured on a part of the product, and scaled; how well that holds is measured too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log

from benchmarks.measure import Record
from benchmarks.results import SCALED, single
from benchmarks.shapes import Size

Counts = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Seconds of CPU time of a product that was not run in full.

    Args:
        seconds: of the whole product.
        measured: what was run, in words.
        miss: how far the smaller runs were from predicting the largest one, as a fraction of it.
    """

    seconds: float
    measured: str
    miss: float


def extrapolate(points: Sequence[tuple[float, float]], at: float) -> tuple[float, float]:
    """Return the value at `at` on the line through the first and last point, and the miss of the rest.

    The miss is of the line through the first two points, at the last point, as a fraction of its value.

    >>> extrapolate([(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)], 100.0)
    (201.0, 0.0)
    """
    (x0, y0), (x1, y1), (x2, y2) = points
    short, long = (y1 - y0) / (x1 - x0), (y2 - y0) / (x2 - x0)
    return y0 + long * (at - x0), (y0 + short * (x2 - x0) - y2) / y2


def linear(measured: str, cuts: Sequence[int], full: int, seconds: Callable[[int], float]) -> Scaled:
    """Measure at three cuts of one dimension, and follow the line to the full one."""
    points = [(float(cut), seconds(cut)) for cut in cuts]
    value, miss = extrapolate(points, full)
    words = f"{measured} {', '.join(map(str, cuts))}"
    return Scaled(seconds=value, measured=words, miss=miss)


def counted(
    measured: str, *, small: tuple[Counts, Counts], large: tuple[Counts, Counts], full: Counts
) -> Scaled:
    """Multiply the seconds of one operation by the operations of the whole product.

    Args:
        measured: what was run, in words.
        small: seconds and operations of each stage of a small product: it predicts the large one.
        large: the same of a larger product: it is scaled.
        full: operations of each stage of the whole product.
    """
    predicted = sum(small[0][stage] / small[1][stage] * count for stage, count in large[1].items())
    actual = sum(large[0].values())
    seconds = sum(large[0][stage] / large[1][stage] * count for stage, count in full.items())
    return Scaled(seconds=seconds, measured=measured, miss=(predicted - actual) / actual)


def scaled_records(scaled: Scaled, size: Size, system: str) -> Iterator[Record]:
    """Return the figures, marked as scaled."""
    name = f"{system}{SCALED}{scaled.measured})"
    yield single("product", shape=size.text, system=name, value=scaled.seconds * 1e3, unit="ms of CPU")
    value = 1e9 * scaled.seconds / size.multiplications
    yield single(
        "product, each multiply-accumulate", shape=size.text, system=name, value=value, unit="ns of CPU"
    )
    yield single(
        "product, miss of the scaling", shape=size.text, system=name, value=100 * scaled.miss, unit="%"
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the exponent of growth: the least-squares slope of log y against log x.

    >>> round(slope([(1.0, 2.0), (2.0, 8.0), (4.0, 32.0)]), 9)
    2.0
    """
    logs = [(log(x), log(y)) for x, y in points]
    mean_x = sum(x for x, _ in logs) / len(logs)
    spread = sum((x - mean_x) * x for x, _ in logs)
    return sum((x - mean_x) * y for x, y in logs) / spread
