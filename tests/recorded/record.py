"""Records runs as this revision leaves them, so that later revisions can show that they still read them.

`python -m tests.recorded.record FOLDER` makes a folder for each case: both parties' run files, tables and
everything that their runs wrote, and `expected.json`, what has to be found there. Both parties run in this
process over a channel in memory, with the parameters of production: there are no keys and certificates.

tests/recorded/v0.1.0 was made by this program on revision 74b047c, where modules had other names. Its files
are never made again: a later revision records into a folder of its own.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.demo.local import attach_data_owner
from moiety.net.channel import MemoryChannel, memory_pair
from moiety.party.label_owner.checkpoints import saved_place
from moiety.party.label_owner.predict import predict
from moiety.party.label_owner.result import RESULT_FILE
from moiety.party.label_owner.train import Silence, train
from moiety.store.checkpoints import open_checkpoints
from moiety.store.contract import kept_contract
from moiety.store.ledger import Ledger, read_ledger
from moiety.store.model import load_model
from tests.support.randomness import RecordedRandomness, words_of

PASSPHRASE: Final = "RECORDED_PASSPHRASE"  # noqa: S105 - the name of a variable
"""The variable that the encrypted case names; its value is the name of the case."""

HEAD: Final = """\
version = 1
role = "{role}"
run = "recorded"
own = {{ key = "own.key", certificate = "own.crt" }}
[[peer]]
name = "{peer}"
certificate = "{peer}.crt"
{side} = "127.0.0.1:7443"
connect_deadline = 45.0
answer_deadline = 600.0
reconnect_deadline = 300.0
"""
JOINT: Final = '[protocol]\nname = "joint"\nscheme = "rlwe"\nreveals = "gradients"\n'
CHECKPOINT: Final = "[checkpoint]\nkeep = 2\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recording.

    Args:
        rows: of the tables.
        form: of the tables: csv with ids, or parquet in one order.
        label_owner: its run file, but for the head.
        data_owner: the same.
        stops: after so many steps, in the middle; None for a finished model and its scores.
    """

    rows: int
    form: str
    label_owner: str
    data_owner: str
    stops: int | None = None


CASES: Final = {
    "blind-finished": Case(
        rows=160,
        form="csv",
        label_owner="""\
[table]
source = "labels.csv"
id = ["number"]
normalise = [["trim", "digits", "integer"]]
duplicates = "first"
target = "defaulted"
features = ["branch", "tenure"]
[prepare]
tenure = "quantile"
branch = { rule = "one-hot", most = 3, least = 2 }
[task]
kind = "binary"
class_weights = "balanced"
[split]
validation = 0.1
test = 0.2
stratify = "metrics"
[model]
units = 3
hidden = [4]
[train]
epochs = 3
batch = 48
update = "adaptive"
learning_rate = 0.02
metric = "KS"
keep = "last"
optimizer = "AdamW"
optimizer_options = { weight_decay = 0.01, betas = [0.8, 0.99] }
schedule = "StepLR"
schedule_options = { step_size = 2 }
time_limit = 86400
steps_limit = 5000
""",
        data_owner="""\
[table]
source = "features.csv"
name = "customers-2026"
id = ["customer"]
normalise = [["trim", "digits", "integer"]]
features = ["age", "income", "opened", "plan", "rate", "region"]
[prepare]
income = "log"
age = { rule = "bins", bins = 4, spread = "uniform", inputs = "ordinal", missing = "mean" }
rate = { rule = "standard", missing = "most-frequent" }
region = { rule = "one-hot", most = 4, least = 3 }
[policy]
released_z_per_row = 640
predictions = 1000
smallest_batch = 16
wide_layer = false
early_stopping = true
steps = 500
runs = 5
protocols = ["blind", "acml"]
schemes = ["rlwe"]
reveals = []
ledger = "released"
""",
    ),
    "blind-stopped": Case(
        rows=96,
        form="parquet",
        stops=8,
        label_owner=f"""\
[table]
source = "labels.parquet"
target = "defaulted"
[model]
units = 2
hidden = [3]
[train]
epochs = 4
batch = 24
metric = "AUC"
early_stopping = {{ patience = 3, least_gain = 0.001 }}
keep = "best"
schedule = "ReduceLROnPlateau"
{CHECKPOINT}every = "1 steps"
""",
        data_owner=f'[table]\nsource = "features.parquet"\n[policy]\nsmallest_batch = 8\n{CHECKPOINT}',
    ),
    "joint-stopped": Case(
        rows=80,
        form="parquet",
        stops=5,
        label_owner=f"""\
{JOINT}[table]
source = "labels.parquet"
target = "amount"
[task]
kind = "regression"
[model]
units = 2
hidden = []
[train]
epochs = 2
batch = 24
update = "sgd"
{CHECKPOINT}every = "1 steps"
""",
        data_owner=f"""\
{JOINT}[table]
source = "features.parquet"
features = ["age", "income", "rate"]
[model]
bottom = "moiety.examples:bottom"
[train]
learning_rate = 0.01
optimizer = "RMSprop"
schedule = "ExponentialLR"
schedule_options = {{ gamma = 0.5 }}
[policy]
smallest_batch = 8
{CHECKPOINT}""",
    ),
    "encrypted-stopped": Case(
        rows=60,
        form="parquet",
        stops=4,
        label_owner=f"""\
[table]
source = "labels.parquet"
target = "defaulted"
[model]
units = 2
hidden = [2]
[train]
epochs = 2
batch = 24
{CHECKPOINT}passphrase = "{PASSPHRASE}"
every = "1 steps"
""",
        data_owner=f"""\
[table]
source = "features.parquet"
features = ["age", "income", "rate"]
[policy]
smallest_batch = 8
{CHECKPOINT}passphrase = "{PASSPHRASE}"
""",
    ),
    "periods-finished": Case(
        rows=120,
        form="parquet",
        label_owner="""\
[table]
source = "labels.parquet"
target = "grade"
[task]
kind = "multiclass"
[split]
reveals = "periods"
[model]
units = 3
hidden = [4]
[train]
epochs = 3
batch = 32
keep = "best"
""",
        data_owner="""\
[table]
source = "features.parquet"
[split]
by = "opened"
validation_from = 2023-01-01
test_from = "2023-09-01"
missing = "train"
reveals = "periods"
[policy]
smallest_batch = 16
""",
    ),
}


class Stopped(Exception):  # noqa: N818 - not an error
    """The training was stopped in the middle."""


class Stop(Silence):
    """Stops a training after some steps."""

    def __init__(self, steps: int | None) -> None:
        self._left = steps

    def step(self, **_: Any) -> None:
        if self._left is not None:
            self._left -= 1
            if not self._left:
                raise Stopped


def record(folder: Path, name: str, case: Case) -> None:
    """Make one case's folder; it holds no path of this machine."""
    bank, telco = folder / "bank", folder / "telco"
    for party in (bank, telco):
        party.mkdir(parents=True)
    head = HEAD.format(role="label-owner", peer="telco", side="dial")
    (bank / "run.toml").write_text(head + case.label_owner, encoding="utf-8")
    head = HEAD.format(role="data-owner", peer="bank", side="listen")
    (telco / "run.toml").write_text(head + case.data_owner, encoding="utf-8")
    write_tables(bank / f"labels.{case.form}", telco / f"features.{case.form}", case)
    try:
        with peer(telco / "run.toml", b"training") as channel:
            randomness = RecordedRandomness(name.encode())
            train(bank / "run.toml", channel=channel, observer=Stop(case.stops), randomness=randomness)
    except Stopped:
        expected = where_it_stopped(bank, telco)
    else:
        expected = finished_model(bank, telco)
        (bank / "recorded" / RESULT_FILE).unlink()  # names the folder, and is read by nobody
    settings = load_data_owner_run(telco / "run.toml")
    expected["ledger"] = read_ledger(settings.ledger).totals.model_dump()
    kept = kept_contract(settings.folder)
    assert kept is not None
    expected["contract"] = kept.digest
    (folder / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


@contextmanager
def peer(run_file: Path, seed: bytes) -> Iterator[MemoryChannel]:
    """Let the data owner answer at the other end of a channel, and count what it releases."""
    own_end, peer_end = memory_pair()
    with closing(Ledger(load_data_owner_run(run_file).ledger)) as ledger:
        attach_data_owner(peer_end, run_file, randomness=RecordedRandomness(seed), ledger=ledger)
        yield own_end
    peer_end.pump = None


def finished_model(bank: Path, telco: Path) -> dict[str, Any]:
    """Say which model was saved, and how it scores all rows."""
    own, peers = (load_model(party / "recorded")[1] for party in (bank, telco))
    assert own["model"] == peers["model"]
    with tempfile.TemporaryDirectory() as scratch, peer(telco / "run.toml", b"scores") as channel:
        predict(bank / "run.toml", Path(scratch) / "scores.csv", channel=channel)
        table = csv.read_csv(Path(scratch) / "scores.csv").to_pydict()
    scores = {name: [_short(value) for value in column] for name, column in table.items()}
    return {"model": own["model"], "updates": own["updates"], "scores": scores}


def where_it_stopped(bank: Path, telco: Path) -> dict[str, Any]:
    """Say what the newest checkpoint on both sides is."""
    settings = load_label_owner_run(bank / "run.toml")
    own = open_checkpoints(settings.folder, settings.checkpoint, report=print)
    peers = load_data_owner_run(telco / "run.toml")
    run = own.newest_run()
    assert run is not None
    newest = own.saved(run)[0]
    assert newest.mark == open_checkpoints(peers.folder, peers.checkpoint, report=print).saved(run)[0].mark
    place = saved_place(newest)
    return {
        "run": run,
        "mark": newest.mark.text,
        "updates": newest.mark.updates,
        "epoch": place.epoch,
        "batch": place.batch,
    }


def write_tables(labels: Path, features: Path, case: Case) -> None:
    """Write both parties' tables, with ids and an order of their own where they are CSV files."""
    rows = case.rows
    age, income, rate, region = (uniform(name, rows) for name in ("age", "income", "rate", "region"))
    value_N = age + region + 0.5 * uniform("noise", rows)
    columns: dict[str, list[Any]] = {
        "age": [18 + int(70 * value) for value in age],
        "income": [None if value > 0.9 else round(float(np.exp(12 * value)), 2) for value in income],
        "opened": [date(2019, 1, 1) + timedelta(days=int(1825 * value)) for value in uniform("opened", rows)],
        "plan": [["basic", "family", None][int(3 * value)] for value in uniform("plan", rows)],
        "rate": [None if value < 0.1 else round(float(value), 3) for value in rate],
        "region": [f"region {int(9 * value)}" for value in region**2],
    }
    own: dict[str, list[Any]] = {
        "branch": [f"b{int(5 * value)}" for value in uniform("branch", rows) ** 2],
        "tenure": [None if value > 0.9 else round(20 * float(value), 1) for value in uniform("tenure", rows)],
        "defaulted": [int(value > 1.2) for value in value_N],
        "grade": [["low", "middle", "high"][int(1.2 * value)] for value in value_N],
        "amount": [round(100 + 7 * float(value), 3) for value in value_N],
    }
    if case.form == "parquet":
        parquet.write_table(pa.table(columns), features)
        parquet.write_table(pa.table(own), labels)
        return
    # Each side knows most rows; the bank has its own order and form of ids, one missing and one twice.
    columns = {"customer": [f"c-{number:04}" for number in range(rows)], **columns}
    own = {"number": [f" {number}" for number in range(rows)], **own}
    own["number"][5:8] = [None, " 9", " 9"]
    csv.write_csv(pa.table(columns).slice(4), features)
    csv.write_csv(pa.table(own).slice(0, rows - 6).take(list(range(rows - 6))[::-1]), labels)


def uniform(name: str, rows: int) -> NDArray[np.float64]:
    """Draw numbers of [0, 1) by name."""
    return words_of(name, rows).astype(np.float64) * 2.0**-64


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


if __name__ == "__main__":
    for each, made in CASES.items():
        os.environ[PASSPHRASE] = each
        record(Path(sys.argv[1]) / each, each, made)
