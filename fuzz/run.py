"""Fuzz all targets in turn, each in a process of its own, within bounds; print what ran.

`make fuzz` calls it; `python -m fuzz.run --help` says what can be chosen. Exit code 1 if anything was found.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.targets import TARGETS

PATIENCE_SECONDS: Final = 60
"""What a process may take longer than it was told, before it is ended as hanging."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one target came to."""

    target: str
    executions: int
    seconds: int
    peak_megabytes: int
    found: bool


def main() -> None:
    """Run the chosen targets and print a table."""
    options = _options()
    outcomes = []
    sys.stdout.write(f"{'target':<24}{'executions':>12}{'seconds':>9}{'peak MB':>9}  finding\n")
    for name in options.targets or TARGETS:
        outcome = fuzz(name, folder=options.folder / name, runs=options.runs, seconds=options.seconds)
        outcomes.append(outcome)
        finding = str(options.folder / name) if outcome.found else "none"
        sys.stdout.write(
            f"{outcome.target:<24}{outcome.executions:>12,}{outcome.seconds:>9}{outcome.peak_megabytes:>9}"
            f"  {finding}\n"
        )
        sys.stdout.flush()
    sys.exit(any(outcome.found for outcome in outcomes))


def fuzz(name: str, *, folder: Path, runs: int, seconds: int) -> Outcome:
    """Fuzz one target in a process of the lowest priority.

    Args:
        name: of the target.
        folder: for its corpus, its log and the input of a finding.
        runs: most executions.
        seconds: most seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz.one", name, folder, runs, seconds, TARGETS[name].megabytes]
    log = folder / "log"
    with log.open("wb") as file, tempfile.TemporaryDirectory(prefix="moiety-fuzz-", dir=_memory()) as scratch:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [str(part) for part in command],
            stdout=file,
            stderr=file,
            env={**os.environ, "TMPDIR": scratch},  # libFuzzer ends a process without its exit handlers
            preexec_fn=_step_back,  # noqa: PLW1509
        )
        try:
            code = process.wait(timeout=seconds + PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    return outcome_of(name, log.read_text(encoding="utf-8", errors="replace"), code=code)


def outcome_of(name: str, text: str, *, code: int) -> Outcome:
    r"""Read what libFuzzer printed.

    >>> outcome_of("frame", "Done 7 runs in 2 second(s)\nstat::peak_rss_mb: 80", code=0)
    Outcome(target='frame', executions=7, seconds=2, peak_megabytes=80, found=False)
    """
    done = re.search(r"Done (\d+) runs in (\d+) second", text)
    executed = re.search(r"stat::number_of_executed_units:\s+(\d+)", text) or done
    peak = re.search(r"stat::peak_rss_mb:\s+(\d+)", text)
    return Outcome(
        target=name,
        executions=int(executed[1]) if executed else 0,
        seconds=int(done[2]) if done else 0,
        peak_megabytes=int(peak[1]) if peak else 0,
        found=code != 0 or done is None,
    )


def _memory() -> Path | None:
    folder = Path("/dev/shm")  # noqa: S108 - only if it is there; the folder in it is private
    return folder if folder.is_dir() else None


def _step_back() -> None:
    os.nice(19)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all if left out"
    )
    parser.add_argument("--runs", type=int, default=10**7, help="most executions of a target")
    parser.add_argument("--seconds", type=int, default=20, help="most seconds for a target")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="corpora, logs, findings")
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
