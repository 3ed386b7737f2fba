"""The file of results: a flat list of records, one for each figure, the machine's facts among them."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.measure import Record
from moiety.cli.text import table
from moiety.crypto.kernel import instruction_sets

RESULTS: Final = Path(__file__).with_name("results.json")
MACHINE: Final = "machine"
SCALED: Final = " (scaled from "
PACKAGES: Final = ("moiety", "numpy", "torch", "cryptography", "tenseal", "phe", "gmpy2")


def single(name: str, *, shape: str, system: str, value: float, unit: str, runs: int = 1) -> Record:
    """Return a figure that has no spread: counted, or measured once."""
    return Record(name=name, shape=shape, system=system, value=value, least=value, unit=unit, runs=runs)


def read(path: Path = RESULTS) -> list[Record]:
    """Return the records of earlier runs; none where there is no file."""
    if not path.exists():
        return []
    return [Record(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


def combine(runs: Sequence[Sequence[Record]]) -> list[Record]:
    """Join the same figures of several runs: the median, the least, and how many they are.

    >>> first = single("demo", shape="", system="encrypted", value=3.0, unit="s")
    >>> second = single("demo", shape="", system="encrypted", value=1.0, unit="s")
    >>> [joined] = combine([[first], [second]])
    >>> joined.value, joined.least, joined.runs
    (2.0, 1.0, 2)
    """
    found: dict[tuple[str, ...], list[Record]] = {}
    for each in (record for run in runs for record in run):
        found.setdefault((each.name, each.shape, each.system, each.unit), []).append(each)
    return [
        replace(
            same[0],
            value=median(each.value for each in same),
            least=min(each.least for each in same),
            runs=len(same),
        )
        for same in found.values()
    ]


def write(measured: Sequence[Record], path: Path = RESULTS) -> None:
    """Replace what was measured again, figure by figure, and keep the rest."""
    replaced = {_key(each) for each in measured}
    kept = [each for each in read(path) if _key(each) not in replaced]
    lines = [json.dumps(asdict(each)) for each in sorted([*kept, *measured], key=benchmark_of)]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def _key(record: Record) -> tuple[str, str, str]:
    """Tell figures apart: not by how a system was scaled, nor by what a fact of the machine says."""
    system = "" if record.name == MACHINE else record.system.split(SCALED)[0]
    return record.name, record.shape, system


def benchmark_of(record: Record) -> str:
    """Return the name without its part.

    >>> benchmark_of(single("product, respond", shape="", system="moiety", value=1.0, unit="ms of CPU"))
    'product'
    """
    return record.name.split(",")[0]


def show(records: Sequence[Record]) -> None:
    """Print a table."""
    rows = []
    for each in records:
        figures = (f"{each.value:.4g}", f"{each.least:.4g}", each.unit, str(each.runs))
        rows.append([each.name, each.shape, each.system, *figures])
    headings = ("what", "shape", "system", "median", "least", "unit", "runs")
    print(*table(headings, rows, numbers=("median", "least", "runs")), sep="\n")


def load_record(benchmark: str, moment: str) -> Record:
    """Say how busy the machine was: other processes share caches, memory and, with two parties, the cores."""
    return single(
        f"{benchmark}, load average", shape=moment, system=MACHINE, value=os.getloadavg()[0], unit="processes"
    )


def machine_records() -> list[Record]:
    """Describe processor, cores and versions, a fact in each record; no names, no paths."""
    facts = {
        "processor": f"{_processor()} ({platform.machine()})",
        "instruction sets of the kernel": ", ".join(instruction_sets()),
        "revision": _revision(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }
    cores = single(MACHINE, shape="cores", system=MACHINE, value=os.cpu_count() or 1, unit="cores")
    return [cores] + [
        single(MACHINE, shape=name, system=fact, value=1, unit="fact") for name, fact in facts.items()
    ]


def machine() -> dict[str, str]:
    """Return the same by name, for a file of results of another shape."""
    return {each.shape: each.system if each.unit == "fact" else str(each.value) for each in machine_records()}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _revision() -> str:
    """Name the commit; "+" says that something was changed since."""
    command = ["git", "describe", "--always", "--abbrev=8", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=RESULTS.parent)
    return done.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
