"""An open training run: hands out batches in the agreed order and saves this side's half.

Imported by the trainer and users.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from moiety import checkpoint
from moiety.channel import Channel
from moiety.config import LabelOwnerRun as Settings
from moiety.config import load_label_owner_run
from moiety.contract import Contract
from moiety.crypto.sampling import Randomness, Seed, SystemRandomness, derive
from moiety.crypto.secret import Secret
from moiety.data.periods import own_assignment
from moiety.data.target import Target
from moiety.errors import (
    ConfigError,
    LocalProtocolError,
)
from moiety.link import LabelOwnerLink
from moiety.nn import InteractiveLinear
from moiety.opening import agree, finish, open_machine, propose, require_end
from moiety.own_features import OwnFeatures, fit_own, own_features, read_labels
from moiety.protocol.label_owner import LabelOwner
from moiety.schedule import RowHandle, Schedule, Split
from moiety.session import Session
from moiety.step_rule import STEP_RULES

__all__ = [
    "Batch",
    "LabelOwnerRun",
    "agree",
    "finish",
    "open_machine",
    "open_run",
    "propose",
]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch in the agreed order.

    Args:
        rows: the handle to pass to the interactive layer.
        target: targets of these rows; float32 (rows,), or int64 for classes.
        features: the label owner's own columns, prepared, float32 (rows, own inputs); None when it has none.
    """

    rows: RowHandle
    target: Tensor
    features: Tensor | None = None


class LabelOwnerRun(Secret):
    """An open training run. Use `open_run`; a context manager.

    Args:
        settings: the run file.
        session: open and bound.
        contract: what was agreed.
        machine: the label owner's state machine, with its initial share.
        target: raw targets of all rows.
        own: own columns; None when there are none.
        seed: of this side's rounding, its part of the weights and its networks.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        session: Session,
        contract: Contract,
        machine: LabelOwner,
        target: "np.ndarray[Any, Any]",
        own: OwnFeatures | None,
        seed: Seed,
    ) -> None:
        self.settings = settings
        self.contract = contract
        self.session = session
        self.seed = seed
        self._machine = machine
        self.link = LabelOwnerLink(
            session,
            machine,
            rounding_seed=derive(seed, b"rounding"),
            trains_bottom=contract.trains_bottom,
        )
        self._layer: InteractiveLinear | None = None
        self._epoch = 0
        training_rows = contract.schedule.split_rows(Split.TRAIN)
        self.target = Target.fit(
            target, name=settings.table.target, kind=settings.task.kind, rows=training_rows
        )
        self.encoded = torch.from_numpy(self.target.transform(target))
        self.own = own
        # The top network's initial weights come from this generator: reproducible by this side's seed.
        torch.manual_seed(int.from_bytes(derive(self.seed, b"torch")[:7], "little"))

    @property
    def schedule(self) -> Schedule:
        """Splits and batches, as both sides compute them."""
        return self.contract.schedule

    @property
    def notes(self) -> Sequence[str]:
        """What this side should know about its own columns before it trains, in sentences."""
        return () if self.own is None else self.own.notes

    @property
    def updates(self) -> int:
        """Training steps made."""
        return self._machine.updates

    def interactive_layer(
        self, out_features: int | None = None, *, learning_rate: float | None = None
    ) -> InteractiveLinear:
        """Return the interactive layer of this run.

        Args:
            out_features: units; what the run file says when left out.
            learning_rate: of the layer's own update; what the run file says when left out.

        Raises:
            ConfigError: other units than were agreed on.
            LocalProtocolError: the run has its layer already.
        """
        if self._layer is not None:
            raise LocalProtocolError("a run has one interactive layer, and it was already made")
        agreed = self.contract.out_features
        if out_features not in (None, agreed):
            raise ConfigError(
                f"out_features = {out_features}, and model.units = {agreed} was agreed on",
                hint="change model.units in the run file",
            )
        rate = self.settings.train.learning_rate if learning_rate is None else learning_rate
        self._layer = InteractiveLinear(
            self.link,
            in_features=self.contract.in_features,
            out_features=agreed,
            rule=STEP_RULES[self.settings.train.update](rate),
        )
        return self._layer

    def batches(self, split: str) -> Iterator[Batch]:
        """Yield the batches of one pass: "train", "validation" or "test".

        Each call for "train" is the next epoch, in the order that both parties drew.

        Raises:
            ConfigError: no such split.
            LocalProtocolError: more epochs than were agreed on.
        """
        part = _split(split)
        epoch = self._epoch
        if part is Split.TRAIN:
            if epoch >= self.contract.label_owner.epochs:
                raise LocalProtocolError(
                    f"the contract is for {epoch} epochs",
                    hint="raise train.epochs in the run file: both parties count them",
                )
            self._epoch += 1
        for handle in self.schedule.batches(part, epoch=epoch):
            rows = self.schedule.rows_of(handle)
            features = None if self.own is None else self.own.of(rows)
            yield Batch(rows=handle, target=self.encoded[torch.from_numpy(rows)], features=features)

    def save(self, top: nn.Module) -> Path:
        """Finish the run: both sides save their half, and the session ends.

        Returns:
            The folder that this side's half is in.

        Raises:
            LocalProtocolError: a step is open, or no layer was made.

        Leaks:
            That the run has finished.
        """
        if self._layer is None:
            raise LocalProtocolError("there is nothing to save: no interactive layer was made")
        share = self._machine.share
        require_end(self.contract, updates=self._machine.updates)
        finish(self.session)
        arrays = {f"top.{name}": value.numpy() for name, value in top.state_dict().items()}
        arrays |= {f"rule.{name}": value for name, value in self._layer.rule.state().items()}
        arrays |= {"share": share, "bias": self._layer.bias.detach().numpy()}
        if self.contract.assignment is not None:
            arrays["assignment"] = np.frombuffer(self.contract.assignment.packed, dtype=np.uint8)
        facts = {
            "model": self.contract.session.hex(),
            "updates": self._machine.updates,
            "in_features": self.contract.in_features,
            "out_features": self.contract.out_features,
            "target": self.target.to_json(),
            "order_seed": self.schedule.seed.hex(),
            "seed": self.seed.hex(),
        }
        if self.own is not None:
            facts["preparation"] = self.own.preparation.to_json()
        checkpoint.save_model(self.settings.folder, arrays=arrays, facts=facts)
        return self.settings.folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.session.closed or error is not None:
            self.session.abort(error)
        self.session.close()


def open_run(
    path: str | Path, *, channel: Channel | None = None, randomness: Randomness | None = None
) -> LabelOwnerRun:
    """Read a label owner's run file, connect to the data owner and agree on a contract.

    Args:
        path: the run file.
        channel: an open connection; made from the run file when left out.
        randomness: where seeds come from; the operating system when left out.

    Raises:
        ConfigError, DataError: the run file or the table cannot be used; nothing was sent.
        TransportError: no connection to the data owner.
        ContractMismatchError, PolicyError: the parties do not agree.

    Leaks:
        Row count, order digest and the proposed training to the data owner.
    """
    settings = load_label_owner_run(Path(path))
    source = randomness or SystemRandomness()
    table = read_labels(settings)
    target = table.column(settings.table.target)
    every_row = np.arange(table.rows)
    Target.fit(target, name=settings.table.target, kind=settings.task.kind, rows=every_row)
    fit_own(settings, table, rows=every_row)
    assignment = own_assignment(settings.split, table)
    terms = propose(settings, table, purpose="train", randomness=source, assignment=assignment)
    session, contract = agree(settings, terms, channel=channel, assignment=assignment)
    try:
        seed = source.seed()
        machine = open_machine(
            session,
            contract,
            randomness=source,
            weight_seed=derive(seed, b"initial weights"),
            folder=settings.folder,
        )
        training_rows = contract.schedule.split_rows(Split.TRAIN)
        return LabelOwnerRun(
            settings,
            session=session,
            contract=contract,
            machine=machine,
            target=target,
            own=own_features(fit_own(settings, table, rows=training_rows), table, training=training_rows),
            seed=seed,
        )
    except BaseException as error:
        session.abort(error)
        raise


def _split(name: str) -> Split:
    known = {"train": Split.TRAIN, "validation": Split.VALIDATION, "test": Split.TEST}
    if name not in known:
        raise ConfigError(f"there is no split {name!r}", hint=f"one of {', '.join(known)}")
    return known[name]
