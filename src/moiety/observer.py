"""Who is told how a training goes. Imported by training and whatever shows progress."""

from typing import Protocol

import numpy as np

from moiety.events import EPOCH_DONE, STEP_DONE
from moiety.label_leak import label_leakage
from moiety.label_owner import Batch, LabelOwnerRun
from moiety.messages import Role
from moiety.revealed import revealed_lines
from moiety.schedule import Split


class Observer(Protocol):
    """Is told how the training goes."""

    def begin(self, *, epochs: int, rows: int) -> None:
        """Training starts: `rows` in each of `epochs`."""
        ...

    def notice(self, sentence: str) -> None:
        """Something that whoever runs this should know before it goes on."""
        ...

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        """A step over `rows` is done; bytes since the start of the session."""
        ...

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """An epoch is done, with its mean training loss and its validation metrics."""
        ...


class Silence:
    """An observer that says nothing."""

    def begin(self, *, epochs: int, rows: int) -> None:
        """Ignore."""

    def notice(self, sentence: str) -> None:
        """Ignore."""

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        """Ignore."""

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """Ignore."""


class Watcher:
    """Adds the session's byte counts to what the observer is told."""

    def __init__(self, observer: Observer, run: LabelOwnerRun) -> None:
        self._observer = observer
        self._run = run
        self.leakage: dict[str, float] = {}
        for sentence in (*run.notes, *revealed_lines(run.contract, Role.LABEL_OWNER)):
            observer.notice(sentence)
        observer.begin(epochs=run.settings.train.epochs, rows=len(run.schedule.split_rows(Split.TRAIN)))

    def step(self, epoch: int, batch: Batch, loss: float) -> None:
        """Pass a step on, with the bytes so far."""
        self._observer.step(
            epoch=epoch,
            rows=batch.rows.rows,
            loss=loss,
            sent=self._run.session.bytes_sent,
            received=self._run.session.bytes_received,
        )
        self._run.session.log.emit(STEP_DONE, epoch=epoch, step=self._run.updates, rows=batch.rows.rows)

    def epoch(self, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """Pass an epoch on, and attack what was revealed in it."""
        self._observer.epoch(epoch=epoch, loss=loss, metrics=metrics)
        self._run.session.log.emit(EPOCH_DONE, epoch=epoch, step=self._run.updates)
        for attack, reached in self._attack().items():
            self.leakage[attack] = max(reached, self.leakage.get(attack, 0.0))

    def state(self) -> dict[str, float]:
        """Return what a saved run needs to go on; of an epoch under way, the leak counts from its restart."""
        return dict(self.leakage)

    def load(self, state: dict[str, float]) -> None:
        """Take what `state` returned."""
        self.leakage = dict(state)

    def _attack(self) -> dict[str, float]:
        """Attack the labels with this epoch's dz, of which the data owner was shown a linear image."""
        revealed = self._run.link.take_revealed()
        if not revealed:
            return {}
        rows = np.concatenate([self._run.schedule.rows_of(handle) for handle, _ in revealed])
        gradient_NK = np.concatenate([dz for _, dz in revealed]).astype(np.float64)
        target_N = self._run.encoded.numpy()[rows]
        return label_leakage(gradient_NK, target_N, kind=self._run.settings.task.kind)
