"""CPU time of a training outside its encrypted products: `python -m benchmarks.outside --runs 3`.

Two real processes over loopback with mutual TLS, the training of `epoch-fate`; `benchmarks.outside_party`
times them by phase. `--profiles FOLDER` runs both once more under cProfile and writes the largest functions
by own CPU time there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.epoch_fate import Epoch, set_up
from benchmarks.outside_party import PHASES, PRODUCTS
from benchmarks.two_processes import FAILED, SECONDS, free_port

COMMANDS: Final = {
    "data owner": ("moiety.party.data_owner.provide", "provide", "--once"),
    "label owner": ("moiety.party.label_owner.train", "train"),
}
"""The module that a command imports, and the command."""

Used = dict[str, Any]


def train(folder: Path, epoch: Epoch, notes: dict[str, Path]) -> None:
    """Run both parties' processes to their end, in a new folder."""
    parties = set_up(folder, epoch, address=f"127.0.0.1:{free_port()}")
    files = {"data owner": parties.data_owner, "label owner": parties.label_owner}
    start = [sys.executable, "-m", "benchmarks.outside_party"]
    processes = [
        subprocess.Popen([*start, str(notes[role]), *words, str(files[role])], stdout=subprocess.DEVNULL)
        for role, words in COMMANDS.items()
    ]
    try:
        for process in reversed(processes):
            if process.wait(SECONDS):
                raise RuntimeError(FAILED)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(epoch: Epoch) -> dict[str, Used]:
    """Train once; return what each party used."""
    with tempfile.TemporaryDirectory() as folder:
        notes = {role: Path(folder, f"{role}.json") for role in COMMANDS}
        train(Path(folder), epoch, notes)
        used = {role: json.loads(note.read_text(encoding="utf-8")) for role, note in notes.items()}
    found = {place for each in used.values() for place in each["found"]}
    missing = {place for places in PHASES.values() for place in places} - found
    if missing:
        raise RuntimeError(f"neither process has {', '.join(sorted(missing))}")
    return used


def lines(runs: list[dict[str, Used]]) -> Iterator[str]:
    """Give a table of medians over the runs, in seconds of CPU, and of products and outside the least."""
    yield f"| seconds of CPU, median of {len(runs)} | " + " | ".join(COMMANDS) + " |"
    yield "|---|" + "---:|" * len(COMMANDS)
    outside: dict[str, list[float]] = {
        role: [run[role]["user"] + run[role]["sys"] - run[role]["phases"][PRODUCTS] for run in runs]
        for role in COMMANDS
    }
    rows: dict[str, list[list[float]]] = {
        name: [[run[role][name] for run in runs] for role in COMMANDS] for name in ("user", "sys")
    }
    names = dict.fromkeys(name for run in runs for role in COMMANDS for name in run[role]["phases"])
    phases = {
        name: [[run[role]["phases"].get(name, 0.0) for run in runs] for role in COMMANDS] for name in names
    }
    rows |= {PRODUCTS: phases.pop(PRODUCTS), "**outside the products**": list(outside.values())}
    for name, values in (rows | phases).items():
        yield f"| {name} | " + " | ".join(f"{statistics.median(each):.3f}" for each in values) + " |"
    yield "| outside, least | " + " | ".join(f"{min(each):.3f}" for each in outside.values()) + " |"


def main() -> None:
    """Measure as asked, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=Epoch.rows)
    parser.add_argument("--features", type=int, default=Epoch.features)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--profiles", type=Path)
    asked = parser.parse_args()
    epoch = Epoch(rows=asked.rows, features=asked.features)
    print(epoch.text, *lines([measure(epoch) for _ in range(asked.runs)]), sep="\n")
    if asked.profiles is not None:
        with tempfile.TemporaryDirectory() as folder:
            names = {role: f"profile-{role.replace(' ', '-')}.txt" for role in COMMANDS}
            train(Path(folder), epoch, {role: asked.profiles / name for role, name in names.items()})


if __name__ == "__main__":
    main()
