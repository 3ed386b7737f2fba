"""Both parties' folders with a small table, and ways to run them: in memory, over loopback, as processes."""

import io
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA256
from numpy.typing import NDArray
from pyarrow import csv, parquet

from moiety.cli.app import main
from moiety.demo.local import attach_data_owner
from moiety.errors import MoietyError
from moiety.net.channel import MemoryChannel, memory_pair
from moiety.net.identity import create_identity
from moiety.party.data_owner.provide import provide
from moiety.party.label_owner.predict import predict
from moiety.party.label_owner.result import Result
from moiety.party.label_owner.train import train
from tests.support.patience import PATIENCE
from tests.support.randomness import RecordedRandomness, words_of

ROWS: Final = 600
COLUMNS: Final = 8
NOBODY: Final = "127.0.0.1:1"
"""An address that nobody listens at: the port is privileged and unassigned here."""

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Files:
    """The two run files."""

    label_owner: Path
    data_owner: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command ended with."""

    code: int
    output: str
    errors: str


def features_of(rows: int, columns: int) -> NDArray[np.float64]:
    """Draw features, uniform in [-1.7, 1.7)."""
    words = words_of("features", rows * columns).reshape(rows, columns)
    return (np.ldexp(words.astype(np.float64), -64) * 2 - 1) * 1.7


def target_of(features_ND: NDArray[np.float64], kind: str) -> NDArray[Any]:
    """Derive a target that a small network can learn."""
    value_N = features_ND[:, 0] - features_ND[:, 1] + 0.5 * features_ND[:, 2]
    if kind == "regression":
        return 100.0 + 7.0 * value_N
    if kind == "multiclass":
        return np.digitize(value_N, [-0.8, 0.8]).astype(np.int64)
    return (value_N > 0).astype(np.int64)


def make_parties(
    folder: Path, *, kind: str = "binary", rows: int = ROWS, columns: int = COLUMNS, ids: bool = False
) -> Files:
    """Make both folders: keys, pinned certificates, data and run files; the data owner listens.

    Args:
        folder: where they go.
        kind: of the target.
        rows: of both tables.
        columns: of features.
        ids: both have the column "customer", by which they are aligned; otherwise by their order.
    """
    bank, telco = folder / "bank", folder / "telco"
    create_identity(bank, "bank")
    create_identity(telco, "telco")
    (bank / "telco.crt").write_bytes((telco / "own.crt").read_bytes())
    (telco / "bank.crt").write_bytes((bank / "own.crt").read_bytes())
    features_ND = features_of(rows, columns)
    names = [f"f{number}" for number in range(columns)]
    customers = {"customer": pa.array([f"c{number}" for number in range(rows)])} if ids else {}
    table = {**customers, **{name: features_ND[:, i] for i, name in enumerate(names)}}
    parquet.write_table(pa.table(table), telco / "features.parquet")
    labels = {**customers, "target": target_of(features_ND, kind)}
    parquet.write_table(pa.table(labels), bank / "labels.parquet")
    write_run(bank / "run.toml", _label_settings(kind))
    write_run(telco / "run.toml", _data_settings())
    files = Files(label_owner=bank / "run.toml", data_owner=telco / "run.toml")
    for path in (files.label_owner, files.data_owner) if ids else ():
        configure(path, {"table.id": ["customer"]})
    return files


def _label_settings(kind: str) -> Settings:
    return {
        "version": 1,
        "role": "label-owner",
        "run": "small",
        "own": {"key": "own.key", "certificate": "own.crt"},
        "peer": [
            {"name": "telco", "certificate": "telco.crt", "dial": NOBODY, "connect_deadline": PATIENCE},
        ],
        "table": {"source": "labels.parquet", "target": "target"},
        "task": {"kind": kind},
        "split": {"validation": 0.1, "test": 0.2},
        "model": {"units": 4, "hidden": [8]},
        "train": {"epochs": 2, "batch": 256, "learning_rate": 0.02},
    }


def _data_settings() -> Settings:
    return {
        "version": 1,
        "role": "data-owner",
        "run": "small",
        "own": {"key": "own.key", "certificate": "own.crt"},
        "peer": [
            {
                "name": "bank",
                "certificate": "bank.crt",
                "listen": "127.0.0.1:0",
                "connect_deadline": PATIENCE,
            },
        ],
        "table": {"source": "features.parquet"},
        "policy": {"smallest_batch": 64},
    }


def as_toml(value: Any) -> str:
    """Write a value of a run file."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {as_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


def write_run(path: Path, settings: Settings) -> None:
    """Write a run file."""
    lines: list[str] = []
    tables = {name: value for name, value in settings.items() if isinstance(value, (dict, list))}
    lines += [f"{name} = {as_toml(value)}" for name, value in settings.items() if name not in tables]
    for name, value in tables.items():
        for header, each in (
            [(f"[[{name}]]", part) for part in value] if isinstance(value, list) else [(f"[{name}]", value)]
        ):
            lines += [header, *(f"{key} = {as_toml(entry)}" for key, entry in each.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def configure(path: Path, changes: Settings) -> None:
    """Change keys of a run file: `{"train.epochs": 3, "peer.dial": None}`; None takes a key out."""
    settings: Settings = tomllib.loads(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, key = name.split(".")
        target: Any = settings
        for section in sections:
            target = target.setdefault(section, {})
        if isinstance(target, list):
            target = target[0]
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    write_run(path, settings)


def let_data_owner_dial(files: Files, address: str) -> None:
    """Turn the connection round: the label owner listens at an address."""
    configure(files.label_owner, {"peer.dial": None, "peer.listen": address})
    configure(files.data_owner, {"peer.listen": None, "peer.dial": address})


def rewrite_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a Parquet table."""
    parquet.write_table(change(parquet.read_table(path)), path)


def with_column(name: str, values: Sequence[Any]) -> Callable[[pa.Table], pa.Table]:
    """Replace a column."""

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return change


def make_certificate_expire(folder: Path) -> bytes:
    """Replace own.crt by one of the same key that expired yesterday; return it as PEM."""
    key = serialization.load_pem_private_key((folder / "own.key").read_bytes(), password=None)
    old = x509.load_pem_x509_certificate((folder / "own.crt").read_bytes())
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(yesterday - timedelta(days=9))
        .not_valid_after(yesterday)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())  # type: ignore[arg-type]
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "own.crt").write_bytes(pem)
    return pem


class Provider:
    """`provide` in a thread of this process, over loopback; a context manager.

    Attributes:
        waits: whether it came so far as to wait for the label owner.
        reports: what it said so far.
        error: what ended it.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._said: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.waits = False
        self.reports: list[str] = []
        self.error: MoietyError | None = None

    def _run(self) -> None:
        try:
            provide(self._files.data_owner, once=True, report=self._said.put)
        except MoietyError as error:
            self.error = error
        finally:
            self._said.put(None)

    def __enter__(self) -> Self:
        self._thread.start()
        first = self._said.get(timeout=PATIENCE)
        self.waits = first is not None
        if first is not None:
            self.reports.append(first)
            configure(self._files.label_owner, {"peer.dial": address_in(first)})
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self.reports += [line for line in self._said.queue if line is not None]


def address_in(line: str) -> str:
    """Find the address in "... listening at HOST:PORT for ..."."""
    return line.split("listening at ")[1].split(" ", maxsplit=1)[0]


@dataclass(kw_only=True)
class Meeting:
    """What both sides came to."""

    result: Result | None = None
    label_owner: MoietyError | None = None
    data_owner: MoietyError | None = None
    reports: list[str] = field(default_factory=list)


def meet(files: Files) -> Meeting:
    """Train over loopback, the data owner in a thread of its own."""
    meeting = Meeting()
    with Provider(files) as provider:
        try:
            meeting.result = train(files.label_owner) if provider.waits else None
        except MoietyError as error:
            meeting.label_owner = error
    meeting.data_owner, meeting.reports = provider.error, provider.reports
    return meeting


def run_here(*arguments: str | Path) -> Outcome:
    """Run a command in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code=code, output=output.getvalue(), errors=errors.getvalue())


class Process:
    """A `moiety` process whose output is read as it comes.

    Args:
        arguments: of the command.
        prelude: Python that runs in the process before the command.
    """

    def __init__(self, *arguments: str | Path, prelude: str = "") -> None:
        start = ["-c", f"{prelude}\nfrom moiety.cli.app import main\nmain()"] if prelude else ["-m", "moiety"]
        self.process = subprocess.Popen(
            [sys.executable, *start, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: list[str] = []
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    def wait_for(self, words: str) -> str:
        """Return the next line that holds some words."""
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            self._seen.append(line)
            if words in line:
                return line
        raise AssertionError(f"ended without {words!r}: {self._seen} {self._errors}")

    def end(self) -> Outcome:
        """Wait for the process and return everything it said."""
        code = self.process.wait(timeout=PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        self._seen += [line for line in self._lines.queue if line is not None]
        return Outcome(code=code, output="\n".join(self._seen), errors="".join(self._errors))

    def close(self) -> None:
        """End the process, if it still runs, and its pipes."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def process(*arguments: str | Path, prelude: str = "") -> Iterator[Process]:
    """Run a `moiety` process, after a `prelude` in Python; nothing of it is left if the test fails."""
    running = Process(*arguments, prelude=prelude)
    try:
        yield running
    finally:
        running.close()


def wire(
    files: Files, *, seed: bytes = b"data owner", report: Callable[[str], None] = lambda _: None
) -> MemoryChannel:
    """Return a label owner's end of an in-memory channel whose other end the data owner answers."""
    own_end, peer_end = memory_pair()
    attach_data_owner(peer_end, files.data_owner, randomness=RecordedRandomness(seed), report=report)
    return own_end


def score(files: Files, output: Path, *, seed: bytes = b"scores") -> Any:
    """Predict in memory and return the table of scores."""
    predict(files.label_owner, output, channel=wire(files), randomness=RecordedRandomness(seed))
    return csv.read_csv(output)


def free_address() -> str:
    """Return a loopback address that was free a moment ago, for a side that cannot tell which it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
