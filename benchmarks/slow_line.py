"""`slow-line`: some steps of the epoch through a delay of 50 ms each way and 100 Mbit/s, and without.

The line's part is known beforehand: all bytes of both directions at the rate, and the round trips of the
protocol. A step has two, for z and for the update. What the run takes beyond both is computing that nothing
on the line hid; below them, the two directions or computing and sending ran side by side.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.epoch_fate import Epoch, read_result, set_up
from benchmarks.measure import Record
from benchmarks.proxy import Line, slow_line
from benchmarks.results import single
from benchmarks.two_processes import free_port, train

EPOCH: Final = Epoch(rows=32_768)
ROUND_TRIPS: Final = 2


def slow_line_records(*, epoch: Epoch = EPOCH, line: Line | None = None) -> Iterator[Record]:
    """Train the same epoch twice, with the line and without."""
    line = line or Line()
    direct, _ = _run(epoch, None)
    slow, size = _run(epoch, line)
    transfer = line.seconds(size=size)
    waiting = ROUND_TRIPS * epoch.steps * 2 * line.delay
    shape = f"{epoch.text}; {line.text}"
    figures = {
        "loopback": direct,
        "through the line": slow,
        "bytes at the rate": transfer,
        "round trips": waiting,
        "through the line, beyond bytes and round trips": slow - transfer - waiting,
    }
    for system, value in figures.items():
        yield single("slow-line", shape=shape, system=system, value=value, unit="s")
    ratio = slow / (transfer + waiting)
    yield single(
        "slow-line, ratio", shape=shape, system="time over bytes and round trips", value=ratio, unit="times"
    )


def _run(epoch: Epoch, line: Line | None) -> tuple[float, float]:
    """Return the seconds of the epoch, and its bytes in both directions together."""
    listening, dialled = free_port(), free_port()
    through = None if line is None else f"127.0.0.1:{dialled}"
    with tempfile.TemporaryDirectory() as folder:
        parties = set_up(Path(folder), epoch, address=f"127.0.0.1:{listening}", dialled=through)
        if line is None:
            train(parties)
        else:
            with slow_line(line, port=dialled, target=listening):
                train(parties)
        result = read_result(parties)
    return float(result["seconds"]), float(result["bytes_sent"] + result["bytes_received"])
