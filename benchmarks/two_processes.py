"""Two processes of this machine train over loopback with mutual TLS; each says what it used."""

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moiety.demo.demo import Parties

FAILED: Final = "a process of the benchmark failed; its error is above"
SECONDS: Final = 3600


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a party's process used: seconds of CPU time, and the bytes of its largest resident set."""

    cpu: float
    peak: float


def train(parties: Parties) -> dict[str, Used]:
    """Run both parties' commands to their end; by role.

    Raises:
        RuntimeError: one of them failed.
    """
    commands = {
        "data owner": ("provide", "--once", str(parties.data_owner)),
        "label owner": ("train", str(parties.label_owner)),
    }
    folder = parties.label_owner.parent.parent
    notes = {name: folder / f"{name.replace(' ', '-')}.json" for name in commands}
    processes = {name: _start(notes[name], *words) for name, words in commands.items()}
    try:
        for process in reversed(processes.values()):
            if process.wait(SECONDS):
                raise RuntimeError(FAILED)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return {name: Used(**json.loads(note.read_text(encoding="utf-8"))) for name, note in notes.items()}


def libraries_used(folder: Path) -> Used:
    """Return what a process uses that loads the libraries and does nothing."""
    note = folder / "libraries.json"
    code = (
        "import json, sys; import moiety.party.label_owner.train, moiety.party.data_owner.session; "
        "import sklearn.preprocessing; "
        "from benchmarks.party import used; open(sys.argv[1], 'w').write(json.dumps(used()))"
    )
    subprocess.run([sys.executable, "-c", code, str(note)], check=True)
    return Used(**json.loads(note.read_text(encoding="utf-8")))


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(note: Path, *words: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "benchmarks.party", str(note), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)
