"""The demonstration: two processes, real data, and the same training in the clear beside it.

UCI "default of credit card clients": 30,000 customers, 23 features at the data owner, the default at the
label owner, each of whom knows most of them, in another order and under other ids. Each process has a folder
of its own and sees only its own file; they talk over loopback with mutual TLS, and align the tables first.
What follows the training, the twin, needs both folders: nobody has both in earnest.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pyarrow import parquet
from rich.console import Console
from rich.table import Table as Grid

from moiety.config.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from moiety.demo.compare import Comparison, compare
from moiety.demo.credit import CREDIT_RULES, CREDIT_TARGET
from moiety.demo.local import simulate
from moiety.demo.networks import EXAMPLE_FEATURES
from moiety.demo.tables import BANK_ID, NORMALISE, TELCO_ID, write_features, write_labels
from moiety.errors import ConfigError, TransportError
from moiety.party.label_owner.result import Result, learnt_lines, parameter_line
from moiety.party.label_owner.train import Observer
from moiety.party.setup import initialise, trust

MEGABYTE: Final = 1e6
SIMULATED_ROWS: Final = 3000
PAILLIER_ROWS: Final = 600
PAILLIER_UNITS: Final = 4

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
source = "labels.csv"
id = ["{id}"]
normalise = {normalise}
duplicates = "first"
target = "{target}"

[split]
validation = 0.0
test = 0.2

[model]
units = {units}
hidden = [32]

[train]
epochs = {epochs}
batch = 1024
learning_rate = 0.01

[protocol]
{protocol}
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
id = ["{id}"]
normalise = {normalise}
duplicates = "first"

[prepare]
{rules}

[protocol]
{protocol}
"""

_BOTTOM: Final = """
[model]
bottom = "moiety.demo.networks:bottom"
"""


@dataclass(frozen=True, kw_only=True)
class Example:
    """What an example trains.

    Args:
        epochs: training passes.
        rows: customers in all, of whom each party knows most; None: 30,000.
        units: out_features of the interactive layer.
        protocol: the message flow; those that can train a small bottom model too.
        scheme: the cryptosystem.
    """

    epochs: int
    rows: int | None = None
    units: int = 32
    protocol: str = DEFAULT_PROTOCOL
    scheme: str = "rlwe"

    @property
    def trains_bottom(self) -> bool:
        """Whether the data owner has a bottom model."""
        return PROTOCOLS[self.protocol].bottom != "never"


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
    parties = set_up(folder, Example(epochs=epochs), address=f"127.0.0.1:{_free_port()}")
    for line in _tables(parties):
        console.print(line, soft_wrap=True)
    memory = _run_processes(parties)
    console.print("the same training in the clear, for comparison ...")
    _print_comparison(console, compare(parties.label_owner, parties.data_owner), memory)


def simulate_runs(
    label_owner: Path | None,
    data_owner: Path | None,
    *,
    protocol: str | None = None,
    scheme: str | None = None,
    observer: Observer,
) -> Result:
    """Train with two run files in this process, or with a sample of the demonstration's data.

    Args:
        label_owner: its run file; None for the example.
        data_owner: its run file; None for the example.
        protocol: of the example; run files name their own.
        scheme: of the example.
        observer: is told how the training goes.

    Raises:
        ConfigError: one run file without the other, or run files and a protocol or scheme.
    """
    if label_owner is None and data_owner is None:
        return _simulate_example(protocol or DEFAULT_PROTOCOL, scheme or "rlwe", observer)
    if label_owner is None or data_owner is None:
        raise ConfigError(
            "simulate needs both run files or none",
            hint="moiety simulate bank/run.toml telco/run.toml",
        )
    if protocol is not None or scheme is not None:
        raise ConfigError(
            "--protocol and --scheme are for the example",
            hint="write name and scheme into [protocol] of both run files",
        )
    return simulate(label_owner, data_owner, observer=observer)


def _simulate_example(protocol: str, scheme: str, observer: Observer) -> Result:
    example = Example(epochs=2, rows=SIMULATED_ROWS, protocol=protocol, scheme=scheme)
    if scheme != "rlwe":
        example = replace(example, rows=PAILLIER_ROWS, units=PAILLIER_UNITS)
    with tempfile.TemporaryDirectory() as folder:
        parties = set_up(Path(folder) / "example", example, address="127.0.0.1:7443")
        return simulate(parties.label_owner, parties.data_owner, observer=observer)


def set_up(folder: Path, example: Example, *, address: str) -> Parties:
    """Make both parties' folders: keys, pinned certificates, data, run files.

    Raises:
        ConfigError: the folder exists.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists", hint="remove it, or name another folder")
    bank, telco = folder / "bank", folder / "telco"
    initialise(bank, role="label-owner", name="bank", run="credit")
    initialise(telco, role="data-owner", name="telco", run="credit")
    write_features(telco / "features.parquet", rows=example.rows)
    write_labels(bank / "labels.csv", rows=example.rows)
    rules = "\n".join(f'{name} = "{rule}"' for name, rule in CREDIT_RULES.items())
    units = min(example.units, EXAMPLE_FEATURES // 2) if example.trains_bottom else example.units
    protocol = _protocol(example)
    common = {"address": address, "protocol": protocol, "normalise": f"[{list(NORMALISE)}]".replace("'", '"')}
    label_text = _LABEL_OWNER.format(
        id=BANK_ID, target=CREDIT_TARGET, epochs=example.epochs, units=units, **common
    )
    (bank / "run.toml").write_text(label_text, encoding="utf-8")
    data_text = _DATA_OWNER.format(id=TELCO_ID, rules=rules, **common)
    data_text += _BOTTOM if example.trains_bottom else ""
    (telco / "run.toml").write_text(data_text, encoding="utf-8")
    trust(bank / "run.toml", telco / "own.crt")
    trust(telco / "run.toml", bank / "own.crt")
    return Parties(label_owner=bank / "run.toml", data_owner=telco / "run.toml")


def _protocol(example: Example) -> str:
    lines = [f'name = "{example.protocol}"', f'scheme = "{example.scheme}"']
    if PROTOCOLS[example.protocol].reveals_gradients:
        lines.append('reveals = "gradients"')  # one process, and public data
    return "\n".join(lines)


def _tables(parties: Parties) -> Iterator[str]:
    """Say what each party has before they meet."""
    labels = parties.label_owner.with_name("labels.csv")
    features = parties.data_owner.with_name("features.parquet")
    with labels.open(encoding="utf-8") as lines:
        rows = sum(1 for _ in lines) - 1
    yield f"bank has {labels}: {rows:,} rows, customers like TW-0001234, and who defaulted"
    rows = parquet.read_metadata(features).num_rows
    yield f"telco has {features}: {rows:,} rows, subscribers like 1234, and 23 features"
    yield "each lacks some rows of the other, has another order, a few ids missing and a few rows twice"
    yield "they align their tables first, then they train"


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
    result = comparison.encrypted
    title = f"credit card default, {result['rows']:,} aligned rows"
    grid = Grid("training", "test AUC", "test KS", "seconds", title=title)
    for name, row in comparison.rows.items():
        auc, ks = (f"{row.metrics[metric]:.4f}" for metric in ("AUC", "KS"))
        grid.add_row(name, auc, ks, f"{row.seconds:.1f}")
    console.print(grid)
    console.print(
        f"bank sent {result['bytes_sent'] / MEGABYTE:.0f} MB and received "
        f"{result['bytes_received'] / MEGABYTE:.0f} MB; peak memory: "
        + ", ".join(f"{name} {used / MEGABYTE:.0f} MB" for name, used in memory.items())
    )
    finished = Result(**result)
    for line in [parameter_line(finished), *learnt_lines(finished)]:
        console.print(line, soft_wrap=True)
