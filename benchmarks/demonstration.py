"""The demonstration's figures: two processes train on real data, and the same training in the clear."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import Record
from moiety.compare import Comparison, compare
from moiety.demo import Parties, set_up

ROWS: Final = "30,000 rows, 90 or 91 inputs, 32 units"
ADDRESS: Final = "127.0.0.1:{port}"
FAILED: Final = "a process of the demonstration failed; its output is above"


def demonstration_records(*, epochs: int, port: int) -> Iterator[Record]:
    """Train in two processes over loopback with mutual TLS, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        address = ADDRESS.format(port=port)
        parties = set_up(Path(folder) / "demo", address=address, epochs=epochs, rows=None)
        memory = _train(parties)
        comparison = compare(parties.label_owner, parties.data_owner)
    shape = f"{ROWS}, {epochs} epochs"
    yield from _comparison_records(comparison, shape)
    for name, value in memory.items():
        yield _record("peak memory", shape, name, value / 1e6, "MB")


def _train(parties: Parties) -> dict[str, int]:
    """Run both commands; return each one's peak memory in bytes."""
    command = [sys.executable, "-m", "moiety"]
    processes = {
        "data owner": subprocess.Popen([*command, "provide", "--once", str(parties.data_owner)]),
        "label owner": subprocess.Popen([*command, "train", str(parties.label_owner)]),
    }
    memory = {}
    for name, process in reversed(processes.items()):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        memory[name] = 1024 * usage.ru_maxrss
        if process.returncode:
            for other in processes.values():
                other.terminate()
            raise RuntimeError(FAILED)
    return memory


def _comparison_records(comparison: Comparison, shape: str) -> Iterator[Record]:
    for name, row in comparison.rows.items():
        yield _record("test AUC", shape, name, row.auc, "")
        yield _record("test KS", shape, name, row.ks, "")
        yield _record("training, wall", shape, name, row.seconds, "s")
    for name, key in (("sent by the label owner", "bytes_sent"), ("received", "bytes_received")):
        yield _record(f"bytes {name}", shape, "encrypted", comparison.encrypted[key] / 1e6, "MB")


def _record(name: str, shape: str, system: str, value: float, unit: str) -> Record:
    return Record(name=name, shape=shape, system=system, value=value, least=value, unit=unit, runs=1)
