"""The tests side by side: the fast part, or the slow one; with branch coverage of the package if asked.

`python -m scripts.run_tests fast` is `make test`. `make check` runs both parts with --coverage, subprocesses
included, and then asks for the coverage of the two together.
"""

import argparse
import os
import subprocess
import sys
from typing import Final

PARTS: Final = {"fast": "not slow and not campaign and not faults", "slow": "slow"}
REST: Final = """
This was the fast part. `make slow` runs the rest: whole runs, real processes and long attacks, for minutes.
`make check` runs both with coverage, beside format, lint and types. `make faults` and `make campaign` are
the same faults and attacks at full count.
"""


def main() -> None:
    """Run one part of the tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--coverage", action="store_true", help="measure it, and add it to what was measured")
    options = parser.parse_args()
    measure = ["--cov", "--cov-append", "--cov-report="] if options.coverage else []
    workers = ["-n", str(os.cpu_count() or 2), "--dist", "worksteal"]
    command = [sys.executable, "-m", "pytest", *workers, *measure, "-m", PARTS[options.part]]
    # The tests fill the processors; further threads of each would only wait for one another.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
    if options.part == "fast" and not code and not options.coverage:
        sys.stdout.write(REST)
    sys.exit(code)


if __name__ == "__main__":
    main()
