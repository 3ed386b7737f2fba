"""`paths`: the product with each path of the kernel, by turns: what special instructions bring."""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.measure import Record, Stages
from benchmarks.products import Product, total_of
from benchmarks.shapes import SIZES, STAGES
from moiety.crypto.kernel import instruction_sets, use_instruction_set


def path_records(*, runs: int) -> Iterator[Record]:
    """Measure the products, path by path in every run."""
    for size in SIZES:
        product = Product(replace(size, runs=runs))
        stages = {
            path: Stages() for path in reversed(instruction_sets())
        }  # the fastest last: it stays in use
        for _ in range(runs + 1):
            for path, each in stages.items():
                use_instruction_set(path)
                product.run(each)
        for path, each in stages.items():
            yield total_of(each, warm_up=1).record("paths", shape=size.text, system=f"moiety, {path}")
            for stage in STAGES:
                times = each.times(stage, warm_up=1)
                yield times.record(f"paths, {stage}", shape=size.text, system=f"moiety, {path}")
