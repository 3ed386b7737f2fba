"""`product` again: the peers on the same shapes, in the same run, on the same core.

SEAL's two ways and ours take turns, run by run; their ratio is of the same minutes. Paillier and TenSEAL are
scaled from parts of the product.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from benchmarks.measure import MILLISECONDS, Record, Stages, Times
from benchmarks.peer_paillier import paillier_records
from benchmarks.peer_seal import SealProduct
from benchmarks.peer_tenseal import tenseal_records
from benchmarks.products import Product, bytes_records, each_record, total_of
from benchmarks.results import single
from benchmarks.shapes import SIZES, Bytes, Size, System

RUNS: Final = 5


def peer_records(sizes: tuple[Size, ...] = SIZES, *, runs: int = RUNS) -> Iterator[Record]:
    """Measure every peer on every size, and say how many times ours of the same run it takes."""
    own = {}
    for size in sizes:
        totals, crossed = side_by_side(size, runs=runs)
        first, *peers = totals
        own[size.text] = statistics.median(totals[first].cpu) * MILLISECONDS
        for name in peers:
            records = [
                *totals[name].records("product", shape=size.text, system=name),
                each_record(totals[name], size, name),
                *bytes_records(size, name, crossed[name]),
            ]
            yield from with_ratios(records, own)
    yield from with_ratios([*paillier_records(sizes), *tenseal_records(sizes)], own)


def side_by_side(size: Size, *, runs: int) -> tuple[dict[str, Times], dict[str, Bytes]]:
    """Let the systems that can run the whole product take turns, ours first."""
    systems: list[System] = [
        Product(size),
        SealProduct(size, constant=True),
        SealProduct(size, constant=False),
    ]
    stages = {each.name: Stages() for each in systems}
    crossed = {}
    for _ in range(runs + 1):
        for each in systems:
            crossed[each.name] = each.run(stages[each.name])
    return {name: total_of(each, warm_up=1) for name, each in stages.items()}, crossed


def with_ratios(records: Sequence[Record], own: Mapping[str, float]) -> Iterator[Record]:
    """Add a ratio to every total, ours of the same run being one; `own` is in milliseconds, by shape."""
    for each in records:
        yield each
        if each.name == "product":
            value, system = each.value / own[each.shape], f"{each.system} over moiety"
            yield single("product, ratio", shape=each.shape, system=system, value=value, unit="times")
