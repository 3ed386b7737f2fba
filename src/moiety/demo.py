"""The demonstration: two processes, real data, and the same training in the clear beside it.

UCI "default of credit card clients": 30,000 rows, 23 features at the data owner, the default at the label
owner. Each process has a folder of its own and sees only its own file; they talk over loopback with mutual
TLS. What follows the training, the twin, needs both folders: nobody has both in earnest.
"""

import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import parquet
from rich.console import Console
from rich.table import Table as Grid

from moiety.compare import Comparison, compare
from moiety.data.credit import CREDIT_FEATURES, CREDIT_RULES, CREDIT_TARGET, credit_path
from moiety.enrol import initialise, trust
from moiety.errors import ConfigError, TransportError
from moiety.local import simulate
from moiety.report import learnt_lines, parameter_line
from moiety.trainer import Observer, Result

MEGABYTE: Final = 1e6
SIMULATED_ROWS: Final = 3000

_LABEL_OWNER: Final = """\
version = 1
role = "label-owner"
run = "credit"
own = {{ key = "own.key", certificate = "own.crt" }}

[[peer]]
name = "telco"
certificate = "telco.crt"
listen = "{address}"

[table]
source = "labels.parquet"
target = "{target}"

[split]
validation = 0.0
test = 0.2

[model]
units = 32
hidden = [32]

[train]
epochs = {epochs}
batch = 1024
learning_rate = 0.01
"""

_DATA_OWNER: Final = """\
version = 1
role = "data-owner"
run = "credit"
own = {{ key = "own.key", certificate = "own.crt" }}

[[peer]]
name = "bank"
certificate = "bank.crt"
dial = "{address}"

[table]
source = "features.parquet"

[prepare]
{rules}
"""


@dataclass(frozen=True, kw_only=True)
class Parties:
    """The two run files of the demonstration."""

    label_owner: Path
    data_owner: Path


def run_demo(folder: Path, *, epochs: int, console: Console) -> None:
    """Set both parties up, train in two processes, and compare with training in the clear.

    Raises:
        ConfigError: the folder exists.
        TransportError: a process failed; its own output says why.
    """
    parties = set_up(folder, address=f"127.0.0.1:{_free_port()}", epochs=epochs, rows=None)
    console.print(f"two parties in {folder}: telco holds 23 features, bank holds the defaults")
    memory = _run_processes(parties)
    console.print("the same training in the clear, for comparison ...")
    _print_comparison(console, compare(parties.label_owner, parties.data_owner), memory)


def simulate_runs(label_owner: Path | None, data_owner: Path | None, *, observer: Observer) -> Result:
    """Train with two run files in this process, or with a sample of the demonstration's data.

    Raises:
        ConfigError: one run file without the other.
    """
    if label_owner is not None and data_owner is not None:
        return simulate(label_owner, data_owner, observer=observer)
    if label_owner is not None or data_owner is not None:
        raise ConfigError(
            "simulate needs both run files or none",
            hint="moiety simulate bank/run.toml telco/run.toml",
        )
    with tempfile.TemporaryDirectory() as folder:
        parties = set_up(Path(folder) / "example", address="127.0.0.1:7443", epochs=2, rows=SIMULATED_ROWS)
        return simulate(parties.label_owner, parties.data_owner, observer=observer)


def set_up(folder: Path, *, address: str, epochs: int, rows: int | None) -> Parties:
    """Make both parties' folders: keys, pinned certificates, data, run files.

    Raises:
        ConfigError: the folder exists.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists", hint="remove it, or name another folder")
    bank, telco = folder / "bank", folder / "telco"
    initialise(bank, role="label-owner", name="bank", run="credit")
    initialise(telco, role="data-owner", name="telco", run="credit")
    features, labels = _split_table(rows)
    parquet.write_table(features, telco / "features.parquet")
    parquet.write_table(labels, bank / "labels.parquet")
    rules = "\n".join(f'{name} = "{rule}"' for name, rule in CREDIT_RULES.items())
    label_text = _LABEL_OWNER.format(address=address, target=CREDIT_TARGET, epochs=epochs)
    (bank / "run.toml").write_text(label_text, encoding="utf-8")
    data_text = _DATA_OWNER.format(address=address, rules=rules)
    (telco / "run.toml").write_text(data_text, encoding="utf-8")
    trust(bank / "run.toml", telco / "own.crt")
    trust(telco / "run.toml", bank / "own.crt")
    return Parties(label_owner=bank / "run.toml", data_owner=telco / "run.toml")


def _split_table(rows: int | None) -> tuple[pa.Table, pa.Table]:
    table = parquet.read_table(credit_path()).slice(0, rows)
    features = table.select(list(CREDIT_FEATURES))
    return features, table.select([CREDIT_TARGET])


def _run_processes(parties: Parties) -> dict[str, int]:
    """Run both commands; return the peak memory of each in bytes."""
    command = [sys.executable, "-m", "moiety"]
    provider = subprocess.Popen([*command, "provide", "--once", str(parties.data_owner)])  # noqa: S603
    trainer = subprocess.Popen([*command, "train", str(parties.label_owner)])  # noqa: S603
    memory, failed = {}, []
    for name, process in (("bank", trainer), ("telco", provider)):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        memory[name] = 1024 * usage.ru_maxrss
        if process.returncode:
            failed.append(name)
            for other in (trainer, provider):
                other.terminate()
    if failed:
        raise TransportError(f"the process of {' and '.join(failed)} failed; see its output above")
    return memory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _print_comparison(console: Console, comparison: Comparison, memory: dict[str, int]) -> None:
    grid = Grid("training", "test AUC", "test KS", "seconds", title="credit card default, 30,000 rows")
    for name, row in comparison.rows.items():
        auc, ks = (f"{row.metrics[metric]:.4f}" for metric in ("AUC", "KS"))
        grid.add_row(name, auc, ks, f"{row.seconds:.1f}")
    console.print(grid)
    result = comparison.encrypted
    console.print(
        f"bank sent {result['bytes_sent'] / MEGABYTE:.0f} MB and received "
        f"{result['bytes_received'] / MEGABYTE:.0f} MB; peak memory: "
        + ", ".join(f"{name} {used / MEGABYTE:.0f} MB" for name, used in memory.items())
    )
    finished = Result(**result)
    for line in [parameter_line(finished), *learnt_lines(finished)]:
        console.print(line, soft_wrap=True)
