"""The label owner's half of checkpoints: when both parties write one, what is in it, and how a run goes on.

A checkpoint is taken at a step boundary: no exchange is under way, and the next batch has not been handed
out. In it are this side's share of W, the layer, the networks, optimisers and rules that were registered, the
place in the data, and the seed that rounding and dropout are derived from by step. Imported by the label
owner's run.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moiety.contract.contract import Contract
from moiety.crypto.sampling import Seed
from moiety.crypto.secret import Secret
from moiety.errors import CheckpointCorruptError, CheckpointMismatchError, RemoteProtocolError
from moiety.net.events import CHECKPOINT_WRITTEN
from moiety.net.session import Session
from moiety.party.label_owner.link import LabelOwnerLink
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.messages import Kind
from moiety.protocol.resume import Mark, mark_block, read_mark, require_same_table, terms_to_save
from moiety.store.checkpoints import Checkpoints, Saved
from moiety.store.files import Arrays, Facts
from moiety.store.tree import flatten, rebuild

Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a training stands between two steps.

    Args:
        epoch: the pass under way.
        batch: the number of its next batch; as many as it has where only its evaluation is left.
    """

    epoch: int
    batch: int


class Rhythm:
    """Says when the next checkpoint is due, by a clock that nobody sets.

    Args:
        every: as in the run file: "60 s", "100 steps", "epoch" or "never".
        clock: seconds since any moment.
    """

    def __init__(self, every: str, *, clock: Clock = time.monotonic) -> None:
        number, _, unit = every.partition(" ")
        self._seconds = float(number) if unit == "s" else None
        self._steps = int(number) if unit == "steps" else None
        self._epochs = every == "epoch"
        self.never = every == "never"
        self._clock = clock
        self._last: tuple[float, int] | None = None

    def due(self, place: Place, *, updates: int) -> bool:
        """Tell whether a checkpoint is due; the first is due at once."""
        if self.never or self._last is None:
            return not self.never
        seconds, steps = self._last
        if self._seconds is not None:
            return self._clock() - seconds >= self._seconds
        if self._steps is not None:
            return updates - steps >= self._steps
        return place.batch == 0 and updates > steps

    def taken(self, *, updates: int) -> None:
        """Count from here."""
        self._last = (self._clock(), updates)


class Keeper(Secret):
    """Writes the label owner's half, asks the data owner for its own, and restores.

    Args:
        checkpoints: where they lie.
        rhythm: when they are due.
        contract: of this session.
        session: open and bound.
        machine: holds the share of W.
        link: knows the transcript between exchanges, and counts what was clipped.
        seed: of this side.
        table: digest of what the training uses of the table.
        restored: the checkpoint that the run goes on from; None for a new run.

    Raises:
        CheckpointMismatchError: the run began with other values.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        rhythm: Rhythm,
        contract: Contract,
        session: Session,
        machine: LabelOwner,
        link: LabelOwnerLink,
        seed: Seed,
        table: str,
        restored: Saved | None,
    ) -> None:
        if restored is not None:
            require_same_table(restored.facts, table)
        self._table = table
        self._checkpoints = checkpoints
        self._rhythm = rhythm
        self._contract = contract
        self._session = session
        self._machine = machine
        self._link = link
        self._seed = seed
        self._restored = restored
        self._parts: dict[str, Any] = {}
        self._terms = terms_to_save(contract) if restored is None else restored.facts["terms"]
        self.place = Place(epoch=0, batch=0) if restored is None else saved_place(restored)
        self.last: Mark | None = None if restored is None else restored.mark

    @property
    def keeps(self) -> bool:
        """Whether anything was registered."""
        return bool(self._parts)

    def register(self, parts: Mapping[str, Any]) -> None:
        """Register what belongs to the training's state, and restore it if the run goes on.

        Args:
            parts: by name: whatever has `state_dict` and `load_state_dict`, or `state` and `load`.

        Raises:
            CheckpointError: the state of one cannot be kept.
            CheckpointMismatchError: the checkpoint is of other networks or another optimiser.
        """
        self._parts = dict(parts)
        if not self._rhythm.never:
            self._states()
        if self._restored is not None:
            self._restore(self._restored)
            self._rhythm.taken(updates=self._machine.updates)

    def at(self, place: Place, *, force: bool = False) -> None:
        """Note a step boundary; take a checkpoint if it is due.

        Raises:
            CheckpointError: this side's half cannot be written.
        """
        self.place = place
        if self.keeps and (force or self._rhythm.due(place, updates=self._machine.updates)):
            self.take()

    def take(self) -> None:
        """Let both parties write their halves, the data owner first.

        Raises:
            RemoteProtocolError: the data owner acknowledges another one.
            CheckpointError: this side's half cannot be written.

        Leaks:
            To the data owner that a checkpoint is taken, when the run file says so.
        """
        mark = Mark(updates=self._machine.updates, transcript=self._session.transcript.digest())
        arrays, facts = self._half()
        if read_mark(self._session.ask(mark_block(Kind.CHECKPOINT, mark)), Kind.CHECKPOINTED) != mark:
            raise RemoteProtocolError("the peer acknowledges another checkpoint")
        self._write(mark, arrays, facts)

    def take_alone(self) -> bool:
        """Write this side's half after the data owner was interrupted and wrote its own; tell if it was.

        Only where the state is still that of the last boundary: a training step was asked for, and z has not
        come. Otherwise the newest common checkpoint is the one before.
        """
        boundary = self._link.boundary
        if not self.keeps or self._rhythm.never or boundary is None or not self._machine.asked_only:
            return False
        arrays, facts = self._half()
        self._write(Mark(updates=self._machine.updates, transcript=boundary), arrays, facts)
        return True

    def forget(self) -> None:
        """Remove this side's halves: the run is finished and its model saved."""
        self._checkpoints.forget(self._contract.run_id)

    def _write(self, mark: Mark, arrays: Arrays, facts: Facts) -> None:
        self._checkpoints.write(self._contract.run_id, mark, arrays=arrays, facts=facts)
        self._rhythm.taken(updates=self._machine.updates)
        self._session.log.emit(CHECKPOINT_WRITTEN, step=mark.updates)
        self.last = mark

    def _half(self) -> tuple[Arrays, Facts]:
        trees, arrays = self._states()
        arrays["share"] = self._machine.share_between_steps
        facts = {
            "role": "label-owner",
            "place": [self.place.epoch, self.place.batch],
            "terms": self._terms,
            "table": self._table,
            "order": self._contract.schedule.seed.hex(),
            "seed": self._seed.hex(),
            "clipped": [self._link.clipped, self._link.clipped_input],
            "parts": trees,
        }
        return arrays, facts

    def _states(self) -> tuple[Facts, Arrays]:
        trees: Facts = {}
        arrays: Arrays = {}
        for name, part in self._parts.items():
            state = part.state_dict() if hasattr(part, "state_dict") else part.state()
            trees[name], own = flatten(state, name=name)
            arrays |= own
        return trees, arrays

    def _restore(self, saved: Saved) -> None:
        trees = saved.facts["parts"]
        if set(trees) != set(self._parts):
            raise CheckpointMismatchError(
                f"the checkpoint holds {', '.join(sorted(trees))}, and the program registers "
                f"{', '.join(sorted(self._parts))}",
                hint="go on with the program that the run began with",
            )
        for name, part in self._parts.items():
            _load(part, rebuild(trees[name], saved.arrays), name=name)
        self._link.clipped, self._link.clipped_input = saved.facts["clipped"]


def saved_place(saved: Saved) -> Place:
    """Return where a checkpoint was taken.

    Raises:
        CheckpointCorruptError: it does not say.
    """
    try:
        epoch, batch = saved.facts["place"]
        return Place(epoch=int(epoch), batch=int(batch))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointCorruptError("a checkpoint does not say where it was taken") from error


def _load(part: Any, state: Any, *, name: str) -> None:
    try:
        if hasattr(part, "load_state_dict"):
            part.load_state_dict(state)
        elif isinstance(state, tuple):
            part.load(*state)
        else:
            part.load(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointMismatchError(
            f"the checkpoint's {name} is of another kind or shape",
            hint="go on with the networks and the optimiser that the run began with",
        ) from error
