"""Measure on this machine, print a table, and write benchmarks/results.json.

Without arguments: products and primitives on one core. With `--demo`: the demonstration's ten epochs in two
processes, on all cores, added to the figures that the file has.
"""

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.demonstration import demonstration_records
from benchmarks.measure import Record, machine, use_one_core
from benchmarks.primitives import primitive_records
from benchmarks.products import SIZES, product_records

RESULTS: Final = Path(__file__).with_name("results.json")
EPOCHS: Final = 10


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="measure the demonstration instead")
    demo = parser.parse_args(arguments).demo
    load = os.getloadavg()[0]
    measured = list(_demonstration() if demo else _one_core())
    measured += [_load("at the start", load), _load("at the end", os.getloadavg()[0])]
    _print(measured)
    _write(measured, demo=demo)


def _one_core() -> Iterator[Record]:
    use_one_core()
    for size in SIZES:
        yield from product_records(size)
    yield from primitive_records()


def _demonstration() -> Iterator[Record]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return demonstration_records(epochs=EPOCHS, port=port)


def _load(moment: str, value: float) -> Record:
    """Say how busy the machine was: other processes share caches, memory and, with `--demo`, the cores."""
    name = f"load average of one minute, {moment}"
    return Record(name=name, shape="", system="machine", value=value, least=value, unit="processes", runs=1)


def _print(records: list[Record]) -> None:
    grid = Table("what", "shape", "system", "median", "least", "unit", "runs")
    for each in records:
        figures = (f"{each.value:.4g}", f"{each.least:.4g}", each.unit, str(each.runs))
        grid.add_row(each.name, each.shape, each.system, *figures)
    Console(width=None if sys.stdout.isatty() else 150).print(grid)


def _write(measured: list[Record], *, demo: bool) -> None:
    """Replace the figures of this kind and keep the other kind's."""
    key = "demo" if demo else "one_core"
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    kept["machine"] = machine()
    kept[key] = [asdict(each) for each in measured]
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
