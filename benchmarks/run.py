"""Measure on this machine, print what was measured, write benchmarks/results.json and the pages' tables.

Without names: the short suite (`product`, `ntt`, `epoch-fate`, `demo`; `bytes` and `memory` come with them).
`--full`: more runs, and also `paths`, `loops`, `peers`, `growth` and `slow-line`. Other figures are kept.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from benchmarks import report
from benchmarks.measure import Record, use_one_core
from benchmarks.results import combine, load_record, machine_records, show, write
from benchmarks.shapes import SIZES


class Suite(Protocol):
    """Measures, with more runs where it is the full suite."""

    def __call__(self, *, full: bool) -> Iterator[Record]:
        """Yield the figures."""
        ...


def _product(*, full: bool) -> Iterator[Record]:
    from benchmarks.products import product_records  # noqa: PLC0415 - each suite loads only its own

    use_one_core()
    for size in SIZES:
        yield from product_records(replace(size, runs=size.runs if full else size.runs // 3))


def _ntt(*, full: bool) -> Iterator[Record]:
    from benchmarks.primitives import primitive_records  # noqa: PLC0415

    use_one_core()
    yield from primitive_records(runs=31 if full else 15)


def _paths(*, full: bool) -> Iterator[Record]:
    from benchmarks.paths import path_records  # noqa: PLC0415

    use_one_core()
    yield from path_records(runs=9 if full else 3)


def _loops(*, full: bool) -> Iterator[Record]:
    from benchmarks.loops import loop_records  # noqa: PLC0415

    use_one_core()
    yield from loop_records(runs=31 if full else 15)


def _epoch(*, full: bool) -> Iterator[Record]:
    from benchmarks.epoch_fate import Epoch, epoch_records  # noqa: PLC0415

    yield from combine([list(epoch_records(Epoch())) for _ in range(3 if full else 1)])


def _demo(*, full: bool) -> Iterator[Record]:
    from benchmarks.demonstration import demonstration_records  # noqa: PLC0415

    yield from combine([list(demonstration_records()) for _ in range(3 if full else 1)])


def _peers(*, full: bool) -> Iterator[Record]:
    from benchmarks.peers import peer_records  # noqa: PLC0415

    use_one_core()
    yield from peer_records(runs=5 if full else 2)


def _growth(*, full: bool) -> Iterator[Record]:
    from benchmarks.growth import core_records, growth_records  # noqa: PLC0415

    yield from core_records(runs=5 if full else 2)
    use_one_core()
    yield from growth_records(runs=5 if full else 2)


def _slow_line(*, full: bool) -> Iterator[Record]:
    from benchmarks.slow_line import slow_line_records  # noqa: PLC0415

    yield from combine([list(slow_line_records()) for _ in range(2 if full else 1)])


SUITES: Final[dict[str, Suite]] = {
    "product": _product,
    "ntt": _ntt,
    "paths": _paths,
    "loops": _loops,
    "epoch-fate": _epoch,
    "demo": _demo,
    "peers": _peers,
    "growth": _growth,
    "slow-line": _slow_line,
}
SHORT: Final = ("product", "ntt", "epoch-fate", "demo")
COME_WITH: Final = {"bytes": ("product", "epoch-fate"), "memory": ("epoch-fate",)}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SUITES, *COME_WITH], help="what to measure")
    parser.add_argument("--full", action="store_true", help="more runs, and the peers")
    parser.add_argument("--results", type=Path, help="another file than benchmarks/results.json")
    given = parser.parse_args(arguments)
    if given.results is not None:
        _measure_one(given.names[0], full=given.full, path=given.results)
        return
    for suite in chosen(given.names, full=given.full):
        _in_own_process(suite, full=given.full)
    report.main()


def chosen(names: list[str], *, full: bool) -> list[str]:
    """Return the suites that give the named benchmarks, each once, in the order they are run.

    >>> chosen(["memory", "ntt"], full=False)
    ['ntt', 'epoch-fate']
    """
    wanted = {suite for name in names for suite in COME_WITH.get(name, (name,))}
    return [name for name in SUITES if name in wanted or (not names and (full or name in SHORT))]


def _in_own_process(suite: str, *, full: bool) -> None:
    """Measure in a process that starts anew: bound to one core or not, and with no memory of the others'."""
    print(f"{suite} ...", flush=True)
    from benchmarks.results import RESULTS  # noqa: PLC0415

    command = [sys.executable, "-m", "benchmarks.run", suite, "--results", str(RESULTS)]
    subprocess.run(command + ["--full"] * full, check=True)


def _measure_one(suite: str, *, full: bool, path: Path) -> None:
    start = load_record(suite, "at the start")
    figures = list(SUITES[suite](full=full))
    write([*figures, start, load_record(suite, "at the end"), *machine_records()], path)
    show(figures)


if __name__ == "__main__":
    main()
