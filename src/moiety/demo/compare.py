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

from moiety.config import DataOwnerRun, load_data_owner_run, load_label_owner_run
from moiety.config import LabelOwnerRun as Settings
from moiety.contract.assignment import Assignment
from moiety.contract.flow import flow_of
from moiety.contract.products import Role
from moiety.contract.schedule import RowHandle, Schedule, Split
from moiety.crypto.kernel import matmul
from moiety.crypto.ring import ACTIVATION_BITS, RingArray
from moiety.crypto.sampling import Seed, derive
from moiety.crypto.secret import Secret
from moiety.data.columns import exact_ids
from moiety.data.preparation import Preparation
from moiety.data.table import read_table
from moiety.data.target import Target
from moiety.demo.twin import TwinLink
from moiety.nn.bottom import BottomModel, TrainedActivations
from moiety.nn.build import seed_torch
from moiety.nn.fit import Batch, criterion_of, evaluate, fit
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import STEP_RULES
from moiety.nn.stopping import Followed
from moiety.nn.strata import strata_of
from moiety.nn.top import build_top
from moiety.party.alignment import kept_table
from moiety.party.data_owner.features import fixed_features
from moiety.party.label_owner.features import OwnFeatures, columns_to_read, inputs_of, own_features
from moiety.party.label_owner.result import RESULT_FILE
from moiety.protocol.initial import left_factor, right_factor
from moiety.protocol.state import Activations, initial_weights
from moiety.store.model import load_model


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: metrics of the test split by name, and the time it took."""

    metrics: dict[str, float]
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
    provider: DataOwnerRun
    values_NC: "np.ndarray[Any, np.dtype[np.float64]]"
    target: Target
    encoded: torch.Tensor
    own: OwnFeatures | None
    schedule: Schedule
    label_seed: Seed
    weight_seed: Seed
    epochs: int
    kept_epoch: int | None

    def activations(self) -> Activations:
        """Return the data owner's activations as they were when the training began."""
        if self.provider.model.bottom is None:
            return fixed_features(self.values_NC)[0]
        bottom = self.bottom()
        features, _ = bottom.fixed(self.values_NC)
        if not self.provider.trains_bottom:
            return features
        steps = len(self.schedule.batches(Split.TRAIN, epoch=0))
        return TrainedActivations(
            bottom,
            self.provider,
            self.values_NC,
            steps_per_epoch=steps,
            keep_epochs=self.kept_epoch is not None,
        )

    def bottom(self) -> BottomModel:
        """Make the data owner's bottom model anew."""
        seed = derive(self.weight_seed, b"bottom model")
        return BottomModel(self.provider, columns=self.values_NC.shape[1], seed=seed)

    def weights(self, in_features: int) -> RingArray:
        """Return W_0: the data owner's alone, or a product of a matrix of each party's."""
        product, units = flow_of(self.settings.protocol.name).initial, self.settings.model.units
        if product is None:
            return initial_weights(self.weight_seed, in_features=in_features, out_features=units)
        seeds = {
            Role.DATA_OWNER: self.weight_seed,
            Role.LABEL_OWNER: derive(self.label_seed, b"initial weights"),
        }
        right, left = seeds[product.key_holder], seeds[product.key_holder.peer]
        factor_DK = right_factor(right, in_features=in_features, out_features=units)
        return matmul(left_factor(left, in_features=in_features), factor_DK)


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
            rows, own = schedule.rows_of(handle), self._joined.own
            target = self._joined.encoded[torch.from_numpy(rows)]
            yield Batch(rows=handle, target=target, features=None if own is None else own.of(rows))


class ClearLayer(nn.Module):
    """An ordinary bottom network and `nn.Linear` that take handles."""

    def __init__(self, joined: Joined) -> None:
        super().__init__()
        self._schedule = joined.schedule
        values = joined.values_NC
        bottom: nn.Module = nn.Sequential()
        if joined.provider.trains_bottom:
            bottom = joined.bottom().network
        else:
            batch = joined.activations().batch(np.arange(len(values)), training=False)
            values = np.ldexp(batch[0].astype(np.float64), -ACTIVATION_BITS)
        self._values = torch.from_numpy(values.astype(np.float32))
        width = bottom.eval()(self._values[:2]).shape[1]
        self.linear = nn.Sequential(bottom.train(), nn.Linear(width, joined.settings.model.units))

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
            metrics=encrypted["test"],
            seconds=encrypted["seconds"],
        ),
        "twin, in the clear": _timed(train_twin, joined),
        "Adam, in the clear": _timed(train_adam, joined),
    }
    return Comparison(rows=rows, encrypted=encrypted)


def join(label_owner: Path, data_owner: Path) -> Joined:
    """Read both folders of a finished run."""
    own, peer = load_label_owner_run(label_owner), load_data_owner_run(data_owner)
    own_arrays, own_facts = load_model(own.folder)
    arrays, facts = load_model(peer.folder)
    target = Target.from_json(own_facts["target"])
    own_read = read_table(own.table.source, columns=columns_to_read(own), ids=exact_ids(own))
    own_table = kept_table(own, own_read).table
    values = own_table.column(own.table.target)
    preparation = Preparation.from_json(own_facts["preparation"]) if "preparation" in own_facts else None
    table = kept_table(peer, read_table(peer.table.source, columns=None, ids=exact_ids(peer))).table
    result = json.loads((own.folder / RESULT_FILE).read_text(encoding="utf-8"))
    trained = peer.trains_bottom
    schedule = Schedule(
        seed=Seed(bytes.fromhex(own_facts["order_seed"])),
        rows=table.rows,
        validation=own.split.validation,
        test=own.split.test,
        batch=own.train.batch,
        epochs=own.train.epochs,
        whole_batches=flow_of(own.protocol.name).reuses_activations and not trained,
        assignment=Assignment(rows=table.rows, packed=own_arrays["assignment"].tobytes())
        if "assignment" in own_arrays
        else None,
    )
    return Joined(
        settings=own,
        provider=peer,
        values_NC=Preparation.from_json(facts["preparation"]).transform(table),
        target=target,
        encoded=torch.from_numpy(target.transform(values)),
        own=own_features(preparation, own_table, training=schedule.split_rows(Split.TRAIN)),
        schedule=schedule,
        label_seed=Seed(bytes.fromhex(own_facts["seed"])),
        weight_seed=Seed(arrays["weight_seed"].tobytes()),
        epochs=len(result["validation"]),
        kept_epoch=result["kept_epoch"],
    )


def train_twin(joined: Joined) -> dict[str, float]:
    """Train the same network from the same weights on the same batches with the same rule."""
    settings, features = joined.settings, joined.activations()
    in_features = features.batch(np.arange(2), training=False)[0].shape[1]
    link = TwinLink(
        features,
        joined.weights(in_features),
        schedule=joined.schedule,
        rounding_seed=derive(joined.label_seed, b"rounding"),
        trains_bottom=joined.provider.trains_bottom,
    )
    _seed_networks(joined)
    layer = InteractiveLinear(
        link,
        in_features=in_features,
        out_features=settings.model.units,
        rule=STEP_RULES[settings.train.update](settings.train.learning_rate),
    )
    return _train(joined, layer)


def train_adam(joined: Joined) -> dict[str, float]:
    """Train an ordinary network of the same shape with Adam on the same batches."""
    _seed_networks(joined)
    return _train(joined, ClearLayer(joined))


def _train(joined: Joined, layer: nn.Module) -> dict[str, float]:
    settings, batches = joined.settings, ClearBatches(joined)
    top = build_top(settings, outputs=joined.target.outputs, own=inputs_of(joined.own))
    training_N = joined.encoded[torch.from_numpy(joined.schedule.split_rows(Split.TRAIN))]
    strata = strata_of(settings, joined.encoded.numpy(), joined.schedule, classes=joined.target.outputs)
    criterion = criterion_of(settings, joined.target, training_N, strata=strata)
    rule = Followed(epochs=joined.epochs, best_epoch=joined.kept_epoch)
    fit(batches, layer, top, settings=settings, criterion=criterion, rule=rule, strata=strata)
    return evaluate(batches, layer, top, split="test", kind=settings.task.kind, strata=strata)


def _seed_networks(joined: Joined) -> None:
    seed_torch(derive(joined.label_seed, b"torch"))


def _timed(training: Callable[[Joined], dict[str, float]], joined: Joined) -> Row:
    begin = time.perf_counter()
    test = training(joined)
    return Row(metrics=test, seconds=time.perf_counter() - begin)
