"""Times calls on one core; nothing here knows what is measured.

CPU time is `time.process_time`: what this process used, whatever else the machine did meanwhile. Caches
and memory are still shared with other processes, so the least of many runs is given beside the median.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # comes with scikit-learn

MILLISECONDS: Final = 1e3
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One figure.

    Args:
        name: the benchmark, and after a comma the part of it.
        shape: the matrices, the ring or the training it was measured on.
        system: who did the work.
        value: the figure, in `unit`; a median where `runs` is above 1.
        least: the smallest of the runs.
        runs: how many runs stand behind it.
    """

    name: str
    shape: str
    system: str
    value: float
    least: float
    unit: str
    runs: int


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of each run: CPU time of this process, and wall time."""

    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    def __add__(self, other: "Times") -> "Times":
        """Add run by run."""
        return Times(
            cpu=tuple(a + b for a, b in zip(self.cpu, other.cpu, strict=True)),
            wall=tuple(a + b for a, b in zip(self.wall, other.wall, strict=True)),
        )

    def per(self, count: int) -> "Times":
        """Divide by the operations of a run."""
        return Times(cpu=tuple(t / count for t in self.cpu), wall=tuple(t / count for t in self.wall))

    def records(self, name: str, *, shape: str, system: str) -> list[Record]:
        """Return the medians in milliseconds: of CPU time, and of wall time as a part of its own."""
        wall = f"{name} wall" if "," in name else f"{name}, wall"
        return [
            self._record(name, self.cpu, shape=shape, system=system, unit="ms of CPU"),
            self._record(wall, self.wall, shape=shape, system=system, unit="ms"),
        ]

    def record(self, name: str, *, shape: str, system: str) -> Record:
        """Return the median CPU time in milliseconds."""
        return self._record(name, self.cpu, shape=shape, system=system, unit="ms of CPU")

    def _record(self, name: str, times: tuple[float, ...], *, shape: str, system: str, unit: str) -> Record:
        return Record(
            name=name,
            shape=shape,
            system=system,
            value=statistics.median(times) * MILLISECONDS,
            least=min(times) * MILLISECONDS,
            unit=unit,
            runs=len(times),
        )


class Stages:
    """Collects the times of named stages over several runs."""

    def __init__(self) -> None:
        self._cpu: dict[str, list[float]] = {}
        self._wall: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], T]) -> T:
        """Do the work and note its times under `name`."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self._cpu.setdefault(name, []).append(time.process_time() - cpu)
        self._wall.setdefault(name, []).append(time.perf_counter() - wall)
        return result

    def times(self, name: str, *, warm_up: int = 0) -> Times:
        """Return the times of a stage without the first `warm_up` runs."""
        return Times(cpu=tuple(self._cpu[name][warm_up:]), wall=tuple(self._wall[name][warm_up:]))


def measure(work: Callable[[], object], *, runs: int, repeat: int = 1) -> Times:
    """Time `runs` runs of `repeat` calls each, after one call that is not counted; per call."""
    stages = Stages()
    work()
    for _ in range(runs):
        stages.time("work", lambda: [work() for _ in range(repeat)])
    return stages.times("work").per(repeat)


def use_one_core() -> None:
    """Stay on one core with one thread, and let no garbage collection fall into a measurement."""
    threadpool_limits(limits=1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    gc.disable()
