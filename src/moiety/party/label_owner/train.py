"""The label owner's training, from a run file to a saved model. Imported by the command line and the demo."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moiety.config import load_label_owner_run
from moiety.config.listener import SILENT, Listener
from moiety.contract.agreement import revealed_lines
from moiety.contract.products import Role
from moiety.contract.schedule import Split
from moiety.crypto.sampling import Randomness
from moiety.net.channel import Channel
from moiety.net.events import EPOCH_DONE, STEP_DONE
from moiety.net.interrupts import Interrupts
from moiety.nn.fit import Keep, criterion_of, evaluate, fit
from moiety.nn.stopping import check_plan, stopping_of
from moiety.nn.strata import strata_of
from moiety.nn.top import build_top
from moiety.party.label_owner.features import inputs_of
from moiety.party.label_owner.leak import label_leakage
from moiety.party.label_owner.result import RESULT_FILE, Result, result_of, training_rows
from moiety.party.label_owner.run import LabelOwnerRun, open_run
from moiety.party.memory import memory_guard
from moiety.party.retry import Attempt, keep_trying
from moiety.store.checkpoints import Checkpoints


class Watcher(Listener):
    """Passes a training's progress on, with the session's bytes and events, and attacks what was revealed.

    Args:
        listener: whom to tell.
        run: under way.

    Attributes:
        leakage: AUC of each attack on labels, the largest of all epochs.
    """

    def __init__(self, listener: Listener, run: LabelOwnerRun) -> None:
        self._listener = listener
        self._run = run
        self.leakage: dict[str, float] = {}

    def start(self) -> None:
        """Tell what whoever runs this should know before the training, and how long it is."""
        for sentence in (*self._run.notes, *revealed_lines(self._run.contract, Role.LABEL_OWNER)):
            self._listener.say(sentence)
        rows = len(self._run.schedule.split_rows(Split.TRAIN))
        self._listener.begin(epochs=self._run.settings.train.epochs, rows=rows)

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        """Pass a step on, with the bytes so far."""
        session = self._run.session
        sent, received = sent + session.bytes_sent, received + session.bytes_received
        self._listener.step(epoch=epoch, rows=rows, loss=loss, sent=sent, received=received)
        session.log.emit(STEP_DONE, epoch=epoch, step=self._run.updates, rows=rows)

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """Pass an epoch on, and attack what was revealed in it."""
        self._listener.epoch(epoch=epoch, loss=loss, metrics=metrics)
        self._run.session.log.emit(EPOCH_DONE, epoch=epoch, step=self._run.updates)
        for attack, reached in self._attack().items():
            self.leakage[attack] = max(reached, self.leakage.get(attack, 0.0))

    def state(self) -> dict[str, float]:
        """Return what a resumed run needs; of an epoch under way, the leak counts from its restart."""
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


def train(
    path: str | Path,
    *,
    resume: bool = False,
    listener: Listener = SILENT,
    channel: Channel | None = None,
    randomness: Randomness | None = None,
    interrupts: Interrupts | None = None,
) -> Result:
    """Train what a label owner's run file describes, evaluate it on the test split and save it.

    Args:
        path: the run file.
        resume: resume its unfinished training.
        listener: told how it goes.
        channel: an open connection; made from the run file when left out.
        randomness: where seeds come from; the operating system when left out.
        interrupts: asked at each step boundary whether to stop.

    Raises:
        MoietyError: see `open_run`; no model is saved then, on neither side, and the newest checkpoint stays.

    Leaks:
        As `InteractiveLinear`; to the data owner, that the run started and finished.
    """
    settings = load_label_owner_run(Path(path))
    check_plan(settings)

    def attempt(trial: Attempt) -> Result:
        with (
            memory_guard(),
            open_run(
                path, resume=trial.resume, channel=channel, randomness=randomness, listener=listener
            ) as run,
        ):
            trial.opened = True
            run.interrupts = interrupts
            return _train(run, listener)

    if channel is not None:
        return attempt(Attempt(resume=resume))
    return keep_trying(
        attempt,
        resume=resume,
        checkpoints=Checkpoints(settings.folder, keep=settings.checkpoint.keep, listener=listener),
        deadline_seconds=settings.peer[0].reconnect_deadline,
        listener=listener,
    )


def _train(run: LabelOwnerRun, listener: Listener) -> Result:
    layer = run.interactive_layer()
    top = build_top(run.settings, outputs=run.target.outputs, own=inputs_of(run.own))
    begin = time.perf_counter()
    watcher = Watcher(listener, run)
    watcher.start()
    strata = strata_of(run.settings, run.encoded.numpy(), run.schedule, classes=run.target.outputs)
    training_N = run.encoded[training_rows(run)]
    fitted = fit(
        run.batches,
        layer,
        top,
        settings=run.settings,
        criterion=criterion_of(run.settings, run.target, training_N, strata=strata),
        strata=strata,
        rule=stopping_of(run.settings, run.schedule, steps_per_epoch=run.contract.steps_per_epoch),
        listener=watcher,
        keep=_keeper(run, watcher),
    )
    test = evaluate(run.batches, layer, top, split="test", kind=run.settings.task.kind, strata=strata)
    seconds = time.perf_counter() - begin
    folder = run.save(top)
    result = result_of(
        run,
        test=test,
        fitted=fitted,
        seconds=seconds,
        leakage=watcher.leakage,
        counts={} if strata is None else dict(strata.counts),
    )
    (folder / RESULT_FILE).write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    return result


def _keeper(run: LabelOwnerRun, watcher: Watcher) -> Keep:
    """Register the training's parts with the run, and return the epoch to resume with."""

    def keep(**parts: Any) -> int:
        run.keep(**parts, observer=watcher)  # its name in checkpoints since 0.1.0
        return run.epochs().start

    return keep
