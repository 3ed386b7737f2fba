"""An open training run: hands out batches in the agreed order and saves this side of the model.

Imported by the trainer and users.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from moiety.config import LabelOwnerRun as Settings
from moiety.config import load_label_owner_run
from moiety.config.listener import SILENT, Listener
from moiety.contract.contract import Contract
from moiety.contract.schedule import RowHandle, Schedule, Split
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed, SystemRandomness, derive
from moiety.crypto.secret import Secret
from moiety.data.look import look
from moiety.data.table import Table
from moiety.data.target import Target
from moiety.errors import ConfigError, LocalProtocolError, PeerAbortedError
from moiety.net.channel import Channel
from moiety.net.events import MODEL_SAVED, RUN_RESUMED
from moiety.net.interrupts import Interrupts
from moiety.net.session import Session
from moiety.nn.build import seed_torch
from moiety.nn.fit import Batch
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import STEP_RULES
from moiety.party.alignment import align_with_data_owner, own_assignment
from moiety.party.label_owner.checkpoints import Keeper, Place, Rhythm
from moiety.party.label_owner.features import OwnFeatures, own_features, read_labels, wanted_own
from moiety.party.label_owner.link import LabelOwnerLink
from moiety.party.label_owner.resume import Past
from moiety.party.label_owner.session import agree, finish, open_machine, open_session, propose, require_end
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.resume import table_digest
from moiety.store.checkpoints import Checkpoints, Saved
from moiety.store.model import save_model


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
        checkpoints: where this side keeps its checkpoints of unfinished runs.
        restored: the checkpoint that the run resumes from; None for a new run.
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
        checkpoints: Checkpoints,
        restored: Saved | None,
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
        self.interrupts: Interrupts | None = None
        self._layer: InteractiveLinear | None = None
        training_rows = contract.schedule.split_rows(Split.TRAIN)
        self.target = Target.fit(
            target, name=settings.table.target, kind=settings.task.kind, rows=training_rows
        )
        self.encoded = torch.from_numpy(self.target.transform(target))
        self.own = own
        self._keeper = Keeper(
            checkpoints,
            rhythm=Rhythm(settings.checkpoint.every),
            contract=contract,
            session=session,
            machine=machine,
            link=self.link,
            seed=seed,
            table=table_digest(self.encoded.numpy(), *([] if own is None else [own.values.numpy()])),
            restored=restored,
        )
        self._epoch, self._first_batch = self._keeper.place.epoch, self._keeper.place.batch
        # The top network's initial weights come from this generator: reproducible by this side's seed.
        _seed_torch(self.seed, b"torch")

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

    def keep(self, **parts: Any) -> None:
        """Register what belongs to the training's state: checkpoints are then taken as the run file says.

        The interactive layer is kept in any case. In a resumed run, the state is restored here. A
        checkpoint is taken between two batches of `batches("train")`, so networks and optimisers must have
        made their step by then.

            run.keep(top=top, optimizer=optimizer)

        Args:
            parts: by name: whatever has `state_dict` and `load_state_dict`, or `state` and `load`. None is
                left out.

        Raises:
            LocalProtocolError: no layer was made yet.
            CheckpointError: the state of one cannot be kept.
            CheckpointMismatchError: the checkpoint is of other networks or another optimiser.
        """
        if self._layer is None:
            raise LocalProtocolError("there is nothing to keep: no interactive layer was made")
        known = {name: part for name, part in parts.items() if part is not None}
        self._keeper.register({**known, "layer": self._layer, "step_rule": self._layer.rule})

    def epochs(self) -> range:
        """Return the numbers of the epochs that are left, the one under way first."""
        return range(self._epoch, self.contract.label_owner.epochs)

    def checkpoint(self) -> None:
        """Take a checkpoint now: between two steps, besides those that the run file asks for.

        Raises:
            LocalProtocolError: a step is open, or nothing was registered by `keep`.
            CheckpointError: this side's checkpoint cannot be written.

        Leaks:
            To the data owner, that a checkpoint is taken.
        """
        if not self._keeper.keeps:
            raise LocalProtocolError("there is nothing to save", hint="call run.keep(top=..., optimizer=...)")
        self._keeper.take()

    def batches(self, split: str) -> Iterator[Batch]:
        """Yield the batches of one pass: "train", "validation" or "test".

        Each call for "train" is the next epoch, in the order that both parties drew; a resumed run
        leaves out the batches that are done. PyTorch's generator is set for each training batch from this
        side's seed, so that dropout does not depend on restarts.

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
            yield from self._training_batches(epoch)
            return
        for handle in self.schedule.batches(part, epoch=epoch):
            if self.interrupts is not None:
                self.interrupts.stop_if_asked()
            yield self._batch(handle)

    def _training_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield what is left of an epoch; the state is saved between two batches when it is time."""
        handles = self.schedule.batches(Split.TRAIN, epoch=epoch)
        first, self._first_batch = self._first_batch, 0
        for handle in handles[first:]:
            self._at(Place(epoch=epoch, batch=handle.batch))
            _seed_torch(self.seed, b"torch step", epoch, handle.batch)
            yield self._batch(handle)
        self._at(Place(epoch=epoch, batch=len(handles)))

    def _batch(self, handle: RowHandle) -> Batch:
        rows = self.schedule.rows_of(handle)
        features = None if self.own is None else self.own.of(rows)
        return Batch(rows=handle, target=self.encoded[torch.from_numpy(rows)], features=features)

    def _at(self, place: Place) -> None:
        """Note a step boundary, where a checkpoint may be taken and an interrupt is obeyed."""
        if self.link.in_step:
            return
        asked = self.interrupts is not None and self.interrupts.asked
        self._keeper.at(place, force=asked)
        if self.interrupts is not None:
            self.interrupts.stop_if_asked()

    def save(self, top: nn.Module) -> Path:
        """Finish the run: both sides save their model, and the session ends.

        Returns:
            The folder that this side's model is in.

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
        folder = self._save_model(top, share)
        self._keeper.forget()
        return folder

    def _save_model(self, top: nn.Module, share: RingArray) -> Path:
        assert self._layer is not None
        arrays = {f"top.{name}": value.numpy() for name, value in top.state_dict().items()}
        arrays |= {f"rule.{name}": value for name, value in self._layer.rule.state().items()}
        arrays |= {"share": share, "bias": self._layer.bias.detach().numpy()}
        if self.contract.assignment is not None:
            arrays["assignment"] = np.frombuffer(self.contract.assignment.packed, dtype=np.uint8)
        facts = {
            "model": self.contract.session.hex(),
            "run_id": self.contract.run_id,
            "updates": self._machine.updates,
            "in_features": self.contract.in_features,
            "out_features": self.contract.out_features,
            "target": self.target.to_json(),
            "order_seed": self.schedule.seed.hex(),
            "seed": self.seed.hex(),
        }
        if self.own is not None:
            facts["preparation"] = self.own.preparation.to_json()
        save_model(self.settings.folder, arrays=arrays, facts=facts)
        self.session.log.emit(MODEL_SAVED, step=self._machine.updates)
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
        if isinstance(error, PeerAbortedError) and error.interrupted:
            self._keeper.take_alone()


def open_run(
    path: str | Path,
    *,
    resume: bool = False,
    channel: Channel | None = None,
    randomness: Randomness | None = None,
    listener: Listener = SILENT,
) -> LabelOwnerRun:
    """Read a label owner's run file, connect to the data owner and agree on a contract.

    Args:
        path: the run file.
        resume: resume the unfinished run of this run file, from the newest checkpoint that both hold.
        channel: an open connection; made from the run file when left out.
        randomness: where seeds come from; the operating system when left out.
        listener: told what happens until the run is open, and events until it ends.

    Raises:
        ConfigError, DataError: the run file or the table cannot be used, or an unfinished run would be
            lost; nothing was sent.
        TransportError: no connection to the data owner.
        AlignmentError: the tables have no row in common.
        ContractMismatchError, PolicyError: the parties do not agree.
        CheckpointError: there is no checkpoint to resume from, or the run file is not the run's any more.

    Leaks:
        To the data owner: where there are id columns, what an alignment shows; row count, order digest and
        the proposed training.
    """
    settings = load_label_owner_run(Path(path))
    source = randomness or SystemRandomness()
    table = read_labels(settings)
    _check_labels(settings, table)
    past = Past(settings.folder, settings.checkpoint, resume=resume, listener=listener)
    session = open_session(settings, channel=channel, listener=listener)
    try:
        aligned = align_with_data_owner(session, settings, table, randomness=source, listener=listener)
        if aligned.sentence:
            listener.say(aligned.sentence)
        assignment = own_assignment(settings.split, aligned.table)
        terms = propose(settings, aligned, purpose="train", randomness=source, assignment=assignment)
        contract = agree(session, past.terms(terms), assignment=assignment)
        return _begun(settings, past, session, contract, table=aligned.table, randomness=source)
    except BaseException as error:
        session.abort(error)
        raise


def _begun(
    settings: Settings,
    past: Past,
    session: Session,
    contract: Contract,
    *,
    table: Table,
    randomness: Randomness,
) -> LabelOwnerRun:
    """Take up the run that is resumed, or begin a new one."""
    restored = past.agree(session, contract)
    if restored is not None:
        session.log.emit(RUN_RESUMED, step=restored.mark.updates)
    seed = randomness.seed() if restored is None else past.seed()
    machine = open_machine(
        session,
        contract,
        randomness=randomness,
        weight_seed=derive(seed, b"initial weights"),
        folder=settings.folder,
        **past.share(),
    )
    training_rows = contract.schedule.split_rows(Split.TRAIN)
    return LabelOwnerRun(
        settings,
        session=session,
        contract=contract,
        machine=machine,
        target=table.column(settings.table.target),
        own=own_features(wanted_own(settings, table), table, training=training_rows),
        seed=seed,
        checkpoints=past.checkpoints,
        restored=restored,
    )


def _seed_torch(seed: Seed, purpose: bytes, *numbers: int) -> None:
    context = [number.to_bytes(8, "little") for number in numbers]
    seed_torch(derive(seed, purpose, *context))


def _check_labels(settings: Settings, table: Table) -> None:
    """Look whether every row can be trained on, before anybody is connected."""
    every_row, name = np.arange(table.rows), settings.table.target
    Target.fit(table.column(name), name=name, kind=settings.task.kind, rows=every_row)
    wanted = wanted_own(settings, table)
    if wanted is not None:
        look(table, wanted)


def _split(name: str) -> Split:
    known = {"train": Split.TRAIN, "validation": Split.VALIDATION, "test": Split.TEST}
    if name not in known:
        raise ConfigError(f"there is no split {name!r}", hint=f"choose one of {', '.join(known)}")
    return known[name]
