"""The label owner's training, from a run file to a saved model. Imported by the command line and the demo."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from moiety.channel import Channel
from moiety.config import load_label_owner_run
from moiety.crypto.sampling import Randomness
from moiety.fitting import criterion_of, evaluate, fit
from moiety.label_owner import open_run
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
    observer: Observer | None = None,
    channel: Channel | None = None,
    randomness: Randomness | None = None,
) -> Result:
    """Train what a label owner's run file describes, evaluate it on the test split and save it.

    Raises:
        MoietyError: see `open_run`; nothing is saved then, on neither side.

    Leaks:
        As `InteractiveLinear`; to the data owner, that the run started and finished.
    """
    check_plan(load_label_owner_run(Path(path)))
    with open_run(path, channel=channel, randomness=randomness) as run:
        layer = run.interactive_layer()
        top = build_top(run.settings, outputs=run.target.outputs, own=inputs_of(run.own))
        begin = time.perf_counter()
        watcher = Watcher(observer or Silence(), run)
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
