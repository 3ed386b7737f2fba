"""One party's command, and what it used: `python -m benchmarks.party USAGE.json train run.toml`.

A process takes over the high-water mark of whoever started it, so `ru_maxrss` of a child of a large parent
tells nothing. The mark in /proc starts anew with the program.
"""

import json
import resource
import sys
from pathlib import Path

from moiety.cli.app import main


def used() -> dict[str, float]:
    """Return seconds of CPU time and the bytes of the largest resident set of this process so far."""
    times = resource.getrusage(resource.RUSAGE_SELF)
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return {"cpu": times.ru_utime + times.ru_stime, "peak": 1024.0 * int(kilobytes)}


if __name__ == "__main__":
    try:
        main(sys.argv[2:])
    finally:
        Path(sys.argv[1]).write_text(json.dumps(used()), encoding="utf-8")
