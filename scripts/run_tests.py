"""All tests side by side, with branch coverage of the package, subprocesses included."""

import os
import subprocess
import sys


def main() -> None:
    """Run the tests, then the coverage report and its gate."""
    command = [sys.executable, "-m", "pytest", "-n", str(os.cpu_count() or 2), "--dist", "worksteal"]
    tests = subprocess.run([*command, "--cov", "--cov-report="], check=False)  # noqa: S603
    if tests.returncode:
        sys.exit(tests.returncode)
    report = [sys.executable, "-m", "coverage", "report", "--fail-under=95"]
    sys.exit(subprocess.run(report, check=False).returncode)  # noqa: S603


if __name__ == "__main__":
    main()
