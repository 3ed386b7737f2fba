"""The data owner's checkpoints: written when the label owner says so, found again when it resumes.

In one are this side's share of W, the dither key, the bottom model with its optimiser, the shares of ended
epochs, the fitted preparation, and the seed that the bottom model's dropout is derived from by step. Never HE
keys, masks or totals of what was released: those are the ledger's, which never goes back. Imported by the
session's script.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moiety.contract.contract import Contract
from moiety.crypto.sampling import Seed
from moiety.crypto.secret import Secret
from moiety.data.preparation import Preparation
from moiety.errors import CheckpointCorruptError, CheckpointMismatchError, RemoteProtocolError
from moiety.net.events import CHECKPOINT_WRITTEN, Log
from moiety.nn.bottom import TrainedActivations
from moiety.party.data_owner.party import DataOwnerParty, Script, Wait
from moiety.party.data_owner.prepared import Prepared
from moiety.party.data_owner.start import Start
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.messages import Block, Kind
from moiety.protocol.resume import (
    Mark,
    mark_block,
    read_mark,
    read_resume,
    require_same,
    require_same_table,
    resumed_block,
    terms_to_save,
)
from moiety.protocol.state import DataOwnerState
from moiety.store.checkpoints import Checkpoints, Saved
from moiety.store.files import Arrays, Facts
from moiety.store.tree import flatten, rebuild


@dataclass(frozen=True, kw_only=True, repr=False)
class ResumedRun(Start):
    """A run that the label owner resumes, and of which this side holds checkpoints.

    Args:
        run: its id.
        saved: its checkpoints, newest first; at least one.
    """

    run: str
    saved: Sequence[Saved]

    @property
    def order(self) -> str:
        """The seed of the row order, in hexadecimal: that of the run's first session."""
        return str(_fact(self.saved[0], "order", str))

    def check(self, contract: Contract, *, table: str) -> None:
        """Refuse to resume under other terms, or with other values.

        Raises:
            CheckpointMismatchError: naming the field and both values, or the table.
        """
        newest = self.saved[0]
        terms = _fact(newest, "terms", dict)
        require_same(terms, contract.data_owner, whose="own")
        require_same(terms, contract.label_owner, whose="peer")
        require_same_table(newest.facts, table)

    def common(self, offered: Sequence[Mark]) -> Saved | None:
        """Return the first of the label owner's checkpoints that this side holds too."""
        held = {saved.mark: saved for saved in self.saved}
        return next((held[mark] for mark in offered if mark in held), None)


def find_run(checkpoints: Checkpoints, run: str) -> ResumedRun | None:
    """Find the run that the label owner wants to resume; None where no checkpoint of it can be read.

    Raises:
        CheckpointCorruptError: the newest is not a data owner's.
    """
    saved = checkpoints.saved(run)
    if not saved:
        return None
    return ResumedRun(
        weight_seed=Seed(bytes.fromhex(_fact(saved[0], "weight_seed", str))),
        preparation=Preparation.from_json(_fact(saved[0], "preparation", str)),
        arrays=saved[0].arrays,
        run=run,
        saved=saved,
    )


def resume(party: DataOwnerParty, resumed: ResumedRun) -> Script[Saved]:
    """Answer the label owner's list with the newest checkpoint that both hold, and return that.

    Raises:
        RemoteProtocolError: something else came.
        CheckpointMismatchError: there is none in common.

    Leaks:
        To the label owner: which of its checkpoints this side holds too.
    """
    offered = read_resume((yield Wait.BETWEEN))
    restored = resumed.common(offered)
    yield resumed_block(None if restored is None else restored.mark)
    if restored is None:
        raise CheckpointMismatchError(
            "the parties hold no checkpoint of this run in common",
            hint="restore both run folders, or train a new model without --resume",
        )
    mark = restored.mark
    if mark != resumed.saved[0].mark or mark != offered[0]:
        party.report(f"the newest checkpoint is not on both sides: back to step {mark.updates}")
    party.checkpoints.drop_newer(resumed.run, mark)
    party.report(f"the run goes on after step {mark.updates}")
    return restored


def state_of(saved: Saved) -> DataOwnerState:
    """Return the share that a checkpoint holds.

    Raises:
        CheckpointCorruptError: it holds none.
    """
    try:
        share, key = saved.arrays["share"], saved.arrays["dither_key"].tobytes()
    except KeyError as error:
        raise CheckpointCorruptError("a checkpoint holds no share") from error
    return DataOwnerState(share_DK=share, dither_key=Seed(key), updates=saved.mark.updates)


def restore(saved: Saved, machine: DataOwner, prepared: Prepared) -> None:
    """Give machine and bottom model what else they had.

    Raises:
        CheckpointCorruptError: it does not fit together.
    """
    trees = _fact(saved, "parts", dict)
    machine.candidates.load(rebuild(trees["candidates"], saved.arrays))
    if isinstance(prepared.activations, TrainedActivations):
        prepared.activations.load(rebuild(trees["features"], saved.arrays), saved.arrays)


class OwnCheckpoints(Secret):
    """Writes this side's checkpoints of one training.

    Args:
        checkpoints: where they lie.
        contract: of this session.
        prepared: what it computes with.
        weight_seed: of the run.
        log: told of each.
        restored: where the run was resumed; the label owner takes checkpoints then.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        contract: Contract,
        *,
        prepared: Prepared,
        weight_seed: Seed,
        log: Log,
        restored: Saved | None,
    ) -> None:
        self._checkpoints = checkpoints
        self._contract = contract
        self._prepared = prepared
        self._weight_seed = weight_seed
        self._log = log
        self._terms = terms_to_save(contract) if restored is None else restored.facts["terms"]
        self._wanted = restored is not None

    def answer(self, block: Block, machine: DataOwner, here: Mark) -> Block:
        """Write the checkpoint that the label owner names, if it is where this side is.

        Raises:
            RemoteProtocolError: the parties are at different places.
            CheckpointError: it cannot be written.
        """
        mark = read_mark(block, Kind.CHECKPOINT)
        if mark != here:
            raise RemoteProtocolError(
                f"the peer's checkpoint of step {mark.updates} came at step {here.updates}, or after another "
                "transcript"
            )
        self._wanted = True
        self._write(mark, machine)
        return mark_block(Kind.CHECKPOINTED, mark)

    def interrupted(self, machine: DataOwner, boundary: Mark) -> None:
        """Write one at the last step boundary, if the label owner takes checkpoints: this side stops.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self._wanted and machine.idle:
            self._write(boundary, machine)

    def finished(self) -> None:
        """Drop what other runs left behind. This run's stay: the label owner may not have saved yet."""
        self._checkpoints.forget_others(self._contract.run_id)

    def _write(self, mark: Mark, machine: DataOwner) -> None:
        state = machine.state()
        trees, arrays = self._parts(machine)
        arrays |= self._prepared.arrays()
        arrays |= {"share": state.share_DK, "dither_key": np.frombuffer(state.dither_key, np.uint8)}
        facts = {
            "role": "data-owner",
            "terms": self._terms,
            "table": self._prepared.table,
            "order": self._contract.schedule.seed.hex(),
            "parts": trees,
            "weight_seed": self._weight_seed.hex(),
            "preparation": self._prepared.preparation.to_json(),
        }
        self._checkpoints.write(self._contract.run_id, mark, arrays=arrays, facts=facts)
        self._log.emit(CHECKPOINT_WRITTEN, step=mark.updates)

    def _parts(self, machine: DataOwner) -> tuple[Facts, Arrays]:
        parts: dict[str, Any] = {"candidates": machine.candidates.state()}
        if isinstance(self._prepared.activations, TrainedActivations):
            parts["features"] = self._prepared.activations.state()
        trees: Facts = {}
        arrays: Arrays = {}
        for name, part in parts.items():
            trees[name], own = flatten(part, name=name)
            arrays |= own
        return trees, arrays


def _fact(saved: Saved, name: str, kind: type[Any]) -> Any:
    """Return a fact of a checkpoint.

    Raises:
        CheckpointCorruptError: it has none of that name, or of another type.
    """
    value = saved.facts.get(name)
    if not isinstance(value, kind):
        raise CheckpointCorruptError(
            f"a checkpoint holds no {name}", hint="give each party a folder of its own"
        )
    return value
