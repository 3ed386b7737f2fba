"""`epoch-fate`, `bytes`, `memory`: an epoch on a table of the size that FATE publishes a figure for.

100,000 rows of 300 dense features at the data owner, labels at the label owner, 32 units, batches of
8192, protocol `blind`, one epoch of forward and update: two processes over loopback with mutual TLS, from run
files. Beside it, in the same minutes, the same network in the clear.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from torch import nn

from benchmarks.measure import Record, Stages, Times
from benchmarks.results import single
from benchmarks.shapes import words
from benchmarks.two_processes import Used, free_port, libraries_used, train
from moiety.contract.schedule import Split
from moiety.crypto.sampling import derive
from moiety.demo import compare
from moiety.demo.demo import Parties
from moiety.demo.twin import TwinLink
from moiety.nn.fit import criterion_of, fit
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import STEP_RULES
from moiety.nn.top import build_top
from moiety.party.label_owner.features import inputs_of
from moiety.party.label_owner.result import RESULT_FILE
from moiety.party.setup import initialise, trust

_LABEL_OWNER: Final = """\
version = 1
role = "label-owner"
run = "epoch"
own = {{ key = "own.key", certificate = "own.crt" }}
[[peer]]
name = "features"
certificate = "features.crt"
listen = "{listen}"
[table]
source = "labels.parquet"
target = "label"
[split]
validation = 0.0
test = 0.0
[model]
units = {units}
hidden = [32]
[train]
epochs = 1
batch = {batch}
learning_rate = 0.01
"""
_DATA_OWNER: Final = """\
version = 1
role = "data-owner"
run = "epoch"
own = {{ key = "own.key", certificate = "own.crt" }}
[[peer]]
name = "labels"
certificate = "labels.crt"
dial = "{dial}"
[table]
source = "features.parquet"
"""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch's size."""

    rows: int = 100_000
    features: int = 300
    units: int = 32
    batch: int = 8192

    @property
    def text(self) -> str:
        """The shape as it is printed."""
        return f"{self.rows:,} rows x {self.features} features, {self.units} units, batch {self.batch}"

    @property
    def steps(self) -> int:
        """Batches of the epoch; the last may be smaller."""
        return -(-self.rows // self.batch)


def epoch_records(epoch: Epoch) -> Iterator[Record]:
    """Train one epoch encrypted, then in the clear, and say what crossed and what was used.

    CPU time beside time by the clock: others may use the cores. That of an encrypted training is of both
    parties, without the libraries, but with reading and preparing the tables; that of a clear one is of its
    batches.
    """
    with tempfile.TemporaryDirectory() as folder:
        parties = set_up(Path(folder), epoch, address=f"127.0.0.1:{free_port()}")
        used = train(parties)
        result = read_result(parties)
        libraries = libraries_used(Path(folder))
        clear = dict(clear_times(parties))
    wall = {"encrypted": float(result["seconds"])} | {name: each.wall[0] for name, each in clear.items()}
    encrypted = sum(each.cpu - libraries.cpu for each in used.values())
    cpu = {"encrypted": encrypted} | {name: each.cpu[0] for name, each in clear.items()}
    yield from _time_records("epoch-fate", epoch, wall, "s")
    yield from _time_records("epoch-fate, CPU", epoch, cpu, "s of CPU")
    value = epoch.rows / wall["encrypted"]
    yield single("epoch-fate, speed", shape=epoch.text, system="encrypted", value=value, unit="rows/s")
    for role, each in used.items():
        value = each.cpu - libraries.cpu
        yield single("epoch-fate, CPU", shape=epoch.text, system=role, value=value, unit="s of CPU")
    yield from bytes_records(epoch, result)
    yield from _memory_records(epoch, used, libraries.peak)


def set_up(folder: Path, epoch: Epoch, *, address: str, dialled: str | None = None) -> Parties:
    """Write both parties' folders: keys, pinned certificates, tables, run files.

    Args:
        folder: where they go.
        epoch: sizes.
        address: where the label owner listens.
        dialled: where the data owner connects to, if something lies in between.
    """
    label, data = folder / "label", folder / "data"
    initialise(label, role="label-owner", name="labels", run="epoch")
    initialise(data, role="data-owner", name="features", run="epoch")
    table, label_N = _table(epoch)
    parquet.write_table(table, data / "features.parquet")
    parquet.write_table(pa.table({"label": label_N}), label / "labels.parquet")
    label_text = _LABEL_OWNER.format(listen=address, units=epoch.units, batch=epoch.batch)
    (label / "run.toml").write_text(label_text, encoding="utf-8")
    (data / "run.toml").write_text(_DATA_OWNER.format(dial=dialled or address), encoding="utf-8")
    trust(label / "run.toml", data / "own.crt")
    trust(data / "run.toml", label / "own.crt")
    return Parties(label_owner=label / "run.toml", data_owner=data / "run.toml")


def read_result(parties: Parties) -> dict[str, Any]:
    """Return what the label owner's run noted."""
    text = (parties.label_owner.parent / "epoch" / RESULT_FILE).read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(text)
    return result


def clear_times(parties: Parties) -> Iterator[tuple[str, Times]]:
    """Time one epoch of the twin, and of an ordinary network with Adam: batches only, nothing before them."""
    joined = compare.join(parties.label_owner, parties.data_owner)
    features, settings = joined.activations(), joined.settings
    width = joined.values_NC.shape[1]
    link = TwinLink(
        features,
        joined.weights(width),
        schedule=joined.schedule,
        rounding_seed=derive(joined.label_seed, b"rounding"),
    )
    rule = STEP_RULES[settings.train.update](settings.train.learning_rate)
    twin = InteractiveLinear(link, in_features=width, out_features=settings.model.units, rule=rule)
    yield "twin, in the clear", _timed(joined, twin)
    yield "Adam, in the clear", _timed(joined, compare.ClearLayer(joined))


def bytes_records(epoch: Epoch, result: dict[str, Any]) -> Iterator[Record]:
    """Return bytes of a row and of a step in each direction, with frames' headers and the handshake."""
    for direction, key in (
        ("label owner to data owner", "bytes_sent"),
        ("data owner to label owner", "bytes_received"),
    ):
        total = result[key]
        for part, value, unit in (
            ("of a row", total / epoch.rows, "bytes"),
            ("of a step", total / epoch.steps / 1e6, "MB"),
        ):
            yield single(f"bytes, {part}", shape=epoch.text, system=direction, value=value, unit=unit)


def _table(epoch: Epoch) -> tuple[pa.Table, NDArray[np.int64]]:
    """Make uniform features, and labels that a linear map of them gives."""
    columns = {}
    score_N = np.zeros(epoch.rows)
    for column in range(epoch.features):
        uniform = words(epoch.rows, 1, f"column {column}".encode())[:, 0].astype(np.float64) * 2.0**-64
        columns[f"c{column}"] = uniform
        score_N += (uniform - 0.5) * (-1) ** column
    return pa.table(columns), (score_N > 0).astype(np.int64)


def _timed(joined: compare.Joined, layer: nn.Module) -> Times:
    top = build_top(joined.settings, outputs=joined.target.outputs, own=inputs_of(joined.own))
    criterion = criterion_of(joined.settings, joined.target, joined.encoded)
    batches, stages = compare.ClearBatches(joined), Stages()
    assert len(joined.schedule.split_rows(Split.TRAIN)) == len(joined.encoded)
    stages.time("epoch", lambda: fit(batches, layer, top, settings=joined.settings, criterion=criterion))
    return stages.times("epoch")


def _time_records(name: str, epoch: Epoch, seconds: dict[str, float], unit: str) -> Iterator[Record]:
    for system, value in seconds.items():
        yield single(name, shape=epoch.text, system=system, value=value, unit=unit)
    for system in list(seconds)[1:]:
        value = seconds["encrypted"] / seconds[system]
        words = f"encrypted over {system}"
        kind = f"{name} ratio" if "," in name else f"{name}, ratio"
        yield single(kind, shape=epoch.text, system=words, value=value, unit="times")


def _memory_records(epoch: Epoch, used: dict[str, Used], libraries: float) -> Iterator[Record]:
    """Return each party's peak, and what it is beyond its own table as doubles and beyond the libraries."""
    tables = {"data owner": 8 * epoch.rows * epoch.features, "label owner": 8 * epoch.rows}
    for role, each in used.items():
        figures = {
            "peak": each.peak,
            "beyond its own table": each.peak - tables[role],
            "beyond its own table and the libraries": each.peak - tables[role] - libraries,
        }
        for part, value in figures.items():
            yield single(f"memory, {part}", shape=epoch.text, system=role, value=value / 1e6, unit="MB")
    yield single("memory, libraries", shape=epoch.text, system="either", value=libraries / 1e6, unit="MB")
