"""Both parties' folders for a training of the paper's kind, and the training itself in one process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.paper.data import DataSet, credit, fashion_mnist, mnist
from moiety.config.listener import Listener
from moiety.crypto.sampling import Randomness
from moiety.demo.local import simulate
from moiety.party.label_owner.result import Result
from moiety.party.setup import initialise

DATA: Final = {"MNIST": mnist, "Fashion-MNIST": fashion_mnist, "credit": credit}

_LABEL_OWNER: Final = """\
version = 1
role = "label-owner"
run = "paper"
own = {{ key = "own.key", certificate = "own.crt" }}
[[peer]]
name = "features"
certificate = "peer.crt"
listen = "127.0.0.1:7443"
[table]
source = "labels.parquet"
target = "label"
[task]
kind = "{kind}"
[split]
validation = 0.0
test = {test}
[protocol]
{protocol}
[model]
units = {units}
top = "benchmarks.paper.networks:top"
[train]
epochs = {epochs}
batch = {batch}
learning_rate = {learning_rate}
"""
_DATA_OWNER: Final = """\
version = 1
role = "data-owner"
run = "paper"
own = {{ key = "own.key", certificate = "own.crt" }}
[[peer]]
name = "labels"
certificate = "peer.crt"
dial = "127.0.0.1:7443"
[table]
source = "features.parquet"
[prepare]
{rules}
[protocol]
{protocol}
[policy]
released_z_per_row = 100000
smallest_batch = 1
wide_layer = true
{model}
"""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training.

    Args:
        data: which data set.
        network: bottom factory of `benchmarks.paper.networks`; empty for none.
        protocol: the message flow.
        scheme: the cryptosystem.
        frozen: the bottom model is not trained.
        epochs: training passes.
        batch: rows of a step.
        rows: of the data set, from its start; None: all.
        units: of the interactive layer.
        learning_rate: of everything that is trained.
    """

    data: str
    network: str
    protocol: str
    scheme: str = "rlwe"
    frozen: bool = False
    epochs: int = 5
    batch: int = 256
    rows: int | None = None
    units: int = 32
    learning_rate: float = 0.003


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Both run files."""

    label_owner: Path
    data_owner: Path


@dataclass
class Stopwatch(Listener):
    """Notes the CPU time at which each step ended, and how many bytes had crossed by then."""

    ends: list[float] = field(default_factory=list)
    bytes_: list[int] = field(default_factory=list)

    def begin(self, *, epochs: int, rows: int) -> None:
        """Start."""
        del epochs, rows
        self.ends.append(time.process_time())
        self.bytes_.append(0)

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        """Note a step."""
        del epoch, rows, loss
        self.ends.append(time.process_time())
        self.bytes_.append(sent + received)

    def seconds(self) -> list[float]:
        """Return the CPU time of each step, of both parties: they are in one process."""
        return list(np.diff(self.ends))

    def bytes_per_step(self) -> list[int]:
        """Return the bytes of each step, both directions."""
        return [int(each) for each in np.diff(self.bytes_)]


@contextmanager
def folders(training: Training) -> Iterator[Folders]:
    """Write both parties' folders; they are gone afterwards."""
    with TemporaryDirectory() as folder:
        yield set_up(Path(folder), training)


def set_up(folder: Path, training: Training) -> Folders:
    """Write both parties' folders."""
    label, feature = folder / "label-owner", folder / "data-owner"
    initialise(label, role="label-owner", name="labels", run="paper")
    initialise(feature, role="data-owner", name="features", run="paper")
    (label / "peer.crt").write_bytes((feature / "own.crt").read_bytes())
    (feature / "peer.crt").write_bytes((label / "own.crt").read_bytes())
    data = DATA[training.data]()
    values, labels = joined(data, training.rows)
    names = [f"c{column}" for column in range(values.shape[1])]
    table = pa.table({name: values[:, column] for column, name in enumerate(names)})
    parquet.write_table(table, feature / "features.parquet")
    parquet.write_table(pa.table({"label": labels}), label / "labels.parquet")
    (label / "run.toml").write_text(label_owner_text(training, data), encoding="utf-8")
    (feature / "run.toml").write_text(data_owner_text(training, names), encoding="utf-8")
    return Folders(label_owner=label / "run.toml", data_owner=feature / "run.toml")


def joined(data: DataSet, rows: int | None) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Join training and test rows: a run draws its own split, by a seed of both parties."""
    values = np.concatenate([data.train_NC, data.test_NC])[:rows]
    return values.astype(np.float64), np.concatenate([data.train_N, data.test_N])[:rows]


def label_owner_text(training: Training, data: DataSet) -> str:
    """Return the label owner's run file."""
    classes = int(data.train_N.max()) + 1
    test = 0.0 if training.rows else len(data.test_N) / (len(data.test_N) + len(data.train_N))
    return _LABEL_OWNER.format(
        kind="binary" if classes == 2 else "multiclass",
        test=test,
        units=training.units,
        protocol=protocol_text(training),
        epochs=training.epochs,
        batch=training.batch,
        learning_rate=training.learning_rate,
    )


def data_owner_text(training: Training, names: list[str]) -> str:
    """Return the data owner's run file."""
    model = ""
    if training.network:
        model = f'[model]\nbottom = "benchmarks.paper.networks:{training.network}"\n'
        model += (
            "frozen = true\n" if training.frozen else f"[train]\nlearning_rate = {training.learning_rate}\n"
        )
    rules = "\n".join(f'{name} = "none"' for name in names)
    return _DATA_OWNER.format(rules=rules, protocol=protocol_text(training), model=model)


def protocol_text(training: Training) -> str:
    """Return the lines of `[protocol]`."""
    lines = [f'name = "{training.protocol}"', f'scheme = "{training.scheme}"']
    if training.protocol != "blind":
        lines.append('reveals = "gradients"')
    return "\n".join(lines)


def run(places: Folders, randomness: Randomness) -> tuple[Result, Stopwatch]:
    """Train, with a clock on every step."""
    watch = Stopwatch()
    result = simulate(places.label_owner, places.data_owner, listener=watch, randomness=randomness)
    return result, watch
