"""`growth`: how the product's time grows with rows, features, units and cores, as a slope in logarithms."""

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # comes with scikit-learn

from benchmarks.measure import Record, Stages
from benchmarks.peer_seal import SealProduct
from benchmarks.products import Product, total_of
from benchmarks.results import single
from benchmarks.scaling import slope
from benchmarks.shapes import Size, System

BASE: Final = Size(rows=2048, contraction=128, kept=32)
STEPS: Final = {
    "rows": (256, 1024, 4096, 16384),
    "contraction": (16, 64, 256, 1024),
    "kept": (4, 16, 64, 256),
}
WORDS: Final = {"rows": "rows", "contraction": "features", "kept": "units"}
RUNS: Final = 5


def growth_records(*, runs: int = RUNS) -> Iterator[Record]:
    """Measure ours along three dimensions, and SEAL's better way beside it."""
    for dimension, values in STEPS.items():
        sizes = [replace(BASE, **{dimension: value}) for value in values]
        for make in (_own, _seal):
            yield from _along(make, dimension, sizes, runs=runs)


def core_records(*, runs: int = RUNS) -> Iterator[Record]:
    """Measure the base product with one thread and with two, by the clock, with all cores to use."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    size = replace(BASE, rows=8192)
    times = {}
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            product, stages = Product(size, threads=threads), Stages()
            for _ in range(runs + 1):
                product.run(stages)
        wall = total_of(stages, warm_up=1).wall
        times[threads] = min(wall)
        value = statistics.median(wall) * 1e3
        yield Record(
            name="growth, cores",
            shape=size.text,
            system=f"moiety, {threads} threads",
            value=value,
            least=min(wall) * 1e3,
            unit="ms",
            runs=runs,
        )
    value = times[1] / times[2]
    yield single("growth, cores", shape=size.text, system="moiety, one over two", value=value, unit="times")


def _own(size: Size) -> System:
    return Product(size)


def _seal(size: Size) -> System:
    """Take the way that should be cheaper."""
    constant, packed = (SealProduct(size, constant=each) for each in (True, False))
    return constant if constant.geometry.cost < packed.geometry.cost else packed


def _along(
    make: "type[Product] | object", dimension: str, sizes: Sequence[Size], *, runs: int
) -> Iterator[Record]:
    assert callable(make)
    points = []
    for size in sizes:
        system, stages = make(size), Stages()
        for _ in range(runs + 1):
            system.run(stages)
        total = total_of(stages, warm_up=1)
        name = "moiety" if system.name == "moiety" else "SEAL BFV N = 4096"
        points.append((float(getattr(size, dimension)), min(total.cpu)))
        yield total.record(f"growth, {WORDS[dimension]}", shape=size.text, system=name)
    value, top = slope(points), slope(points[-2:])
    shape = f"{sizes[0].text} to {sizes[-1].text}"
    yield single(f"growth, slope with {WORDS[dimension]}", shape=shape, system=name, value=value, unit="")
    yield single(
        f"growth, slope with {WORDS[dimension]}, last step", shape=shape, system=name, value=top, unit=""
    )
