"""`loops`: the time of the kernel's hot loops on each path; `instructions` counts what they execute."""

from collections.abc import Iterator

from benchmarks.instructions import Loop, loops
from benchmarks.measure import Record, Times, measure
from moiety.crypto.kernel import instruction_sets, use_instruction_set

NANOSECONDS = 1e9


def loop_records(*, runs: int) -> Iterator[Record]:
    """Measure every loop on every path, the fastest last: it stays in use."""
    for path in reversed(instruction_sets()):
        use_instruction_set(path)
        for loop in loops():
            yield _record(loop, measure(loop.work, runs=runs, repeat=4), f"moiety, {path}")


def _record(loop: Loop, times: Times, system: str) -> Record:
    """Return the time of one element."""
    median = sorted(times.cpu)[len(times.cpu) // 2]
    value, least = (NANOSECONDS * each / loop.elements for each in (median, min(times.cpu)))
    return Record(
        name="loops",
        shape=loop.name,
        system=system,
        value=value,
        least=least,
        unit="ns of CPU",
        runs=len(times.cpu),
    )
