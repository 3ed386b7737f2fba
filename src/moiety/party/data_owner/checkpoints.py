"""The data owner's half of checkpoints: written when the label owner says so, found again when it asks.

In it are this side's share of W, the dither key, the bottom model with its optimiser, the shares of ended
epochs, the fitted preparation, and the seed that the bottom model's dropout is derived from by step. Never HE
keys, masks or totals of what was released: those are the ledger's, which never goes back. Imported by the
data owner's loop.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.crypto.sampling import Seed
from moiety.crypto.secret import Secret
from moiety.errors import CheckpointCorruptError, CheckpointMismatchError
from moiety.listener import Listener
from moiety.nn.bottom import TrainedActivations
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.messages import Block
from moiety.protocol.resume import (
    Mark,
    read_resume,
    require_same,
    require_same_table,
    resumed_block,
    table_digest,
    terms_to_save,
)
from moiety.protocol.state import Activations, DataOwnerState
from moiety.store.checkpoints import Checkpoints, Saved, fact
from moiety.store.files import Arrays, Facts
from moiety.store.tree import flatten, rebuild


class Half(Secret):
    """One session's view of the data owner's checkpoints.

    Args:
        checkpoints: where they lie; None where nothing is kept.
        listener: told from where a run goes on.

    Attributes:
        restored: the checkpoint that the run goes on from.
        writes: whether the label owner takes checkpoints in this session.
    """

    def __init__(self, checkpoints: Checkpoints | None, *, listener: Listener) -> None:
        self._checkpoints = checkpoints
        self._listener = listener
        self._found: list[Saved] = []
        self.restored: Saved | None = None
        self.writes = False
        self._table = ""

    def uses(self, values: NDArray[Any]) -> None:
        """Note what the session uses of the table, to tell whether it is the same when the run goes on."""
        self._table = table_digest(values)

    def find(self, run: str) -> Saved | None:
        """Return the newest readable checkpoint of a run; None where there is none."""
        if self._checkpoints is not None:
            self._found = self._checkpoints.saved(run)
        self.restored = self._found[0] if self._found else None
        return self.restored

    def check(self, contract: Contract) -> None:
        """Refuse to go on under other terms, or with other values.

        Raises:
            CheckpointMismatchError: naming the field and both values, or the table.
        """
        if self.restored is not None:
            terms = fact(self.restored, "terms", dict)
            require_same(terms, contract.data_owner, whose="own")
            require_same(terms, contract.label_owner, whose="peer")
            require_same_table(self.restored.facts, self._table)

    def choose(self, block: Block, contract: Contract) -> Iterator[Block]:
        """Answer the label owner's list with the newest checkpoint that both hold.

        Raises:
            CheckpointMismatchError: there is none.
        """
        assert self._checkpoints is not None
        offered = read_resume(block)
        held = {saved.mark: saved for saved in self._found}
        mark = next((each for each in offered if each in held), None)
        yield resumed_block(mark)
        if mark is None:
            raise CheckpointMismatchError(
                "the parties hold no checkpoint of this run in common",
                hint="restore both run folders, or train a new model without --resume",
            )
        self.restored = held[mark]
        if mark != self._found[0].mark or mark != offered[0]:
            self._listener.say(f"the newest checkpoint is not on both sides: back to step {mark.updates}")
        self._checkpoints.drop_newer(contract.run_id, mark)
        self._listener.say(f"the run goes on after step {mark.updates}")
        self.writes = True

    def write(
        self,
        mark: Mark,
        contract: Contract,
        machine: DataOwner,
        features: Activations,
        *,
        arrays: Arrays,
        facts: Facts,
    ) -> None:
        """Write a half, with what the party itself keeps in `arrays` and `facts`.

        Raises:
            CheckpointError: it cannot be written.
            LocalProtocolError: an exchange is under way.
        """
        if self._checkpoints is None:
            return
        state = machine.state()
        trees: Facts = {}
        kept = {**arrays, "share": state.share_DK, "dither_key": np.frombuffer(state.dither_key, np.uint8)}
        parts: dict[str, Any] = {"candidates": machine.candidates.state()}
        if isinstance(features, TrainedActivations):
            parts["features"] = features.state()
        for name, part in parts.items():
            trees[name], own = flatten(part, name=name)
            kept |= own
        first = terms_to_save(contract) if self.restored is None else self.restored.facts["terms"]
        complete = {
            **facts,
            "role": "data-owner",
            "terms": first,
            "table": self._table,
            "order": contract.schedule.seed.hex(),
            "parts": trees,
        }
        self._checkpoints.write(contract.run_id, mark, arrays=kept, facts=complete)
        self.writes = True

    def state(self) -> DataOwnerState:
        """Return the share to go on with."""
        saved = self._saved()
        try:
            share, key = saved.arrays["share"], saved.arrays["dither_key"].tobytes()
        except KeyError as error:
            raise CheckpointCorruptError("a checkpoint holds no share") from error
        return DataOwnerState(share_DK=share, dither_key=Seed(key), updates=saved.mark.updates)

    def restore(self, machine: DataOwner, features: Activations) -> None:
        """Give machine and bottom model what else they had.

        Raises:
            CheckpointCorruptError: it does not fit together.
        """
        saved = self._saved()
        trees = fact(saved, "parts", dict)
        machine.candidates.load(rebuild(trees["candidates"], saved.arrays))
        if isinstance(features, TrainedActivations):
            features.load(rebuild(trees["features"], saved.arrays), saved.arrays)

    def finished(self, run: str) -> None:
        """Drop what other runs left behind. This run's stay: the label owner may not have saved yet."""
        if self._checkpoints is not None:
            self._checkpoints.forget_others(run)

    def _saved(self) -> Saved:
        assert self.restored is not None
        return self.restored
