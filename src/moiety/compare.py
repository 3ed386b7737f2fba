"""Compares a finished run with the same training in the clear; needs both parties' folders.

For the demonstration and for tests: in earnest nobody has both.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from moiety import checkpoint
from moiety.config import LabelOwnerRun as Settings
from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.crypto.sampling import Seed, derive
from moiety.crypto.secret import Secret
from moiety.data.preparation import Preparation
from moiety.data.table import read_table
from moiety.data.target import Target
from moiety.label_owner import Batch
from moiety.nn import InteractiveLinear
from moiety.protocol.blind import initial_weights
from moiety.ring import ACTIVATION_BITS, encode_activations
from moiety.schedule import RowHandle, Schedule, Split
from moiety.step_rule import STEP_RULES
from moiety.trainer import RESULT_FILE, build_top, evaluate, fit
from moiety.twin import TwinLink


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    auc: float
    ks: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The encrypted run beside two trainings in the clear.

    Args:
        rows: by name of the training.
        encrypted: the encrypted run's whole result.
    """

    rows: dict[str, Row]
    encrypted: dict[str, Any]


@dataclass(frozen=True, kw_only=True, repr=False)
class Joined(Secret):
    """What both folders hold together."""

    settings: Settings
    activation_ND: "np.ndarray[Any, np.dtype[np.int16]]"
    target: torch.Tensor
    outputs: int
    schedule: Schedule
    label_seed: Seed
    weight_seed: Seed


class ClearBatches:
    """Hands out the batches of a finished run's schedule again."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._epoch = 0

    def __call__(self, split: str) -> Iterator[Batch]:
        """Yield one pass; each call for "train" is the next epoch."""
        part = Split[split.upper()]
        schedule = self._joined.schedule
        handles = schedule.batches(part, epoch=self._epoch)
        self._epoch += part is Split.TRAIN
        for handle in handles:
            rows = torch.from_numpy(schedule.rows_of(handle))
            yield Batch(rows=handle, target=self._joined.target[rows])


class ClearLayer(nn.Module):
    """An ordinary `nn.Linear` that takes handles."""

    def __init__(self, joined: Joined, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self._schedule = joined.schedule
        self._values = torch.from_numpy(np.ldexp(joined.activation_ND.astype(np.float32), -ACTIVATION_BITS))

    def forward(self, rows: RowHandle) -> torch.Tensor:
        """Return z of a batch."""
        output: torch.Tensor = self.linear(self._values[torch.from_numpy(self._schedule.rows_of(rows))])
        return output


def compare(label_owner: Path, data_owner: Path) -> Comparison:
    """Train the twin and an ordinary network with Adam on the joined table."""
    joined = join(label_owner, data_owner)
    text = (joined.settings.folder / RESULT_FILE).read_text(encoding="utf-8")
    encrypted = json.loads(text)
    rows = {
        "encrypted": Row(
            auc=encrypted["test"]["AUC"],
            ks=encrypted["test"]["KS"],
            seconds=encrypted["seconds"],
        ),
        "twin, in the clear": _timed(train_twin, joined),
        "Adam, in the clear": _timed(train_adam, joined),
    }
    return Comparison(rows=rows, encrypted=encrypted)


def join(label_owner: Path, data_owner: Path) -> Joined:
    """Read both folders of a finished run."""
    own, peer = load_label_owner_run(label_owner), load_data_owner_run(data_owner)
    _, own_facts = checkpoint.load_model(own.folder)
    arrays, facts = checkpoint.load_model(peer.folder)
    target = Target.from_json(own_facts["target"])
    values = read_table(own.table.source, columns=[own.table.target]).column(own.table.target)
    table = read_table(peer.table.source, columns=None)
    activation_ND, _ = encode_activations(Preparation.from_json(facts["preparation"]).transform(table))
    schedule = Schedule(
        seed=Seed(bytes.fromhex(own_facts["order_seed"])),
        rows=table.rows,
        validation=own.split.validation,
        test=own.split.test,
        batch=own.train.batch,
        epochs=own.train.epochs,
    )
    return Joined(
        settings=own,
        activation_ND=activation_ND,
        target=torch.from_numpy(target.transform(values)),
        outputs=target.outputs,
        schedule=schedule,
        label_seed=Seed(bytes.fromhex(own_facts["seed"])),
        weight_seed=Seed(arrays["weight_seed"].tobytes()),
    )


def train_twin(joined: Joined) -> dict[str, float]:
    """Train the same network from the same weights on the same batches with the same rule."""
    settings = joined.settings
    weights = initial_weights(
        joined.weight_seed,
        in_features=joined.activation_ND.shape[1],
        out_features=settings.model.units,
    )
    link = TwinLink(
        joined.activation_ND,
        weights,
        schedule=joined.schedule,
        rounding_seed=derive(joined.label_seed, b"rounding"),
    )
    _seed_networks(joined)
    layer = InteractiveLinear(
        link,
        in_features=joined.activation_ND.shape[1],
        out_features=settings.model.units,
        rule=STEP_RULES[settings.train.update](settings.train.learning_rate),
    )
    return _train(joined, layer)


def train_adam(joined: Joined) -> dict[str, float]:
    """Train an ordinary network of the same shape with Adam on the same batches."""
    _seed_networks(joined)
    linear = nn.Linear(joined.activation_ND.shape[1], joined.settings.model.units)
    return _train(joined, ClearLayer(joined, linear))


def _train(joined: Joined, layer: nn.Module) -> dict[str, float]:
    settings, batches = joined.settings, ClearBatches(joined)
    top = build_top(settings, outputs=joined.outputs)
    fit(batches, layer, top, settings=settings)
    return evaluate(batches, layer, top, split="test", kind=settings.task.kind)


def _seed_networks(joined: Joined) -> None:
    torch.manual_seed(int.from_bytes(derive(joined.label_seed, b"torch")[:7], "little"))


def _timed(training: Callable[[Joined], dict[str, float]], joined: Joined) -> Row:
    begin = time.perf_counter()
    test = training(joined)
    return Row(auc=test["AUC"], ks=test["KS"], seconds=time.perf_counter() - begin)
