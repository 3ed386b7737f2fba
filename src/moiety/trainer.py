"""The label owner's training, from a run file to a saved model. Imported by the command line and the demo."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moiety.again import Attempt, keep_trying
from moiety.channel import Channel
from moiety.checkpoints import Checkpoints
from moiety.config import load_label_owner_run
from moiety.crypto.sampling import Randomness
from moiety.fitting import Keep, criterion_of, evaluate, fit
from moiety.interrupts import Interrupts
from moiety.label_owner import LabelOwnerRun, open_run
from moiety.memory import memory_guard
from moiety.observer import Observer, Silence, Watcher
from moiety.result import RESULT_FILE, Result, result_of, training_rows
from moiety.stopping import check_plan, stopping_of
from moiety.stratification import strata_of
from moiety.top_model import build_top, inputs_of

__all__ = [
    "RESULT_FILE",
    "Observer",
    "Result",
    "Silence",
    "criterion_of",
    "evaluate",
    "fit",
    "train",
]


def train(
    path: str | Path,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    channel: Channel | None = None,
    randomness: Randomness | None = None,
    interrupts: Interrupts | None = None,
) -> Result:
    """Train what a label owner's run file describes, evaluate it on the test split and save it.

    Args:
        path: the run file.
        resume: go on with its unfinished training.
        observer: told how it goes.
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
    watching = observer or Silence()

    def attempt(trial: Attempt) -> Result:
        with (
            memory_guard(),
            open_run(
                path, resume=trial.resume, channel=channel, randomness=randomness, report=watching.notice
            ) as run,
        ):
            trial.opened = True
            run.interrupts = interrupts
            run.session.tell(watching.notice)
            return _train(run, watching)

    if channel is not None:
        return attempt(Attempt(resume=resume))
    return keep_trying(
        attempt,
        resume=resume,
        checkpoints=Checkpoints(settings.folder, keep=settings.checkpoint.keep, report=watching.notice),
        deadline_seconds=settings.peer[0].reconnect_deadline,
        notice=watching.notice,
    )


def _train(run: LabelOwnerRun, observer: Observer) -> Result:
    layer = run.interactive_layer()
    top = build_top(run.settings, outputs=run.target.outputs, own=inputs_of(run.own))
    begin = time.perf_counter()
    watcher = Watcher(observer, run)
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
        observer=watcher,
        keep=_keeper(run),
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


def _keeper(run: LabelOwnerRun) -> Keep:
    """Register the training's parts with the run, and return the epoch to go on with."""

    def keep(**parts: Any) -> int:
        run.keep(**parts)
        return run.epochs().start

    return keep
