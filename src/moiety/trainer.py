"""The label owner's training loop, from a run file to a saved model.

`fit` is an ordinary PyTorch loop; it trains the encrypted network and, with other batches and another
link, its twin in the clear. Imported by the command line and the demo.
"""

import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from moiety.channel import Channel
from moiety.config import LabelOwnerRun as Settings
from moiety.crypto.parameters import session_error
from moiety.crypto.sampling import Randomness
from moiety.label_owner import Batch, LabelOwnerRun, open_run
from moiety.metrics import METRICS
from moiety.networks import LOSSES, from_factory, perceptron
from moiety.schedule import Split

RESULT_FILE = "result.json"


class Observer(Protocol):
    """Is told how the training goes."""

    def begin(self, *, epochs: int, rows: int) -> None:
        """Training starts: `rows` in each of `epochs`."""
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

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        """Ignore."""

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        """Ignore."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training gave, what it cost, and what it released."""

    test: dict[str, float]
    validation: list[dict[str, float]]
    seconds: float
    bytes_sent: int
    bytes_received: int
    parameters: str
    modulus_bits: int
    degree: int
    spare_bits: float
    session_error: float
    in_features: int
    out_features: int
    rows: int
    steps: int
    clipped_gradients: int
    released_z_per_row: int
    peak_memory_bytes: int
    folder: str = field(default="")


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
    with open_run(path, channel=channel, randomness=randomness) as run:
        layer = run.interactive_layer()
        top = build_top(run.settings, outputs=run.target.outputs)
        begin = time.perf_counter()
        watcher = _Watcher(observer or Silence(), run)
        validation = fit(run.batches, layer, top, settings=run.settings, observer=watcher)
        test = evaluate(run.batches, layer, top, split="test", kind=run.settings.task.kind)
        seconds = time.perf_counter() - begin
        folder = run.save(top)
        result = _result(run, test=test, validation=validation, seconds=seconds)
    (folder / RESULT_FILE).write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    return result


def fit(
    batches: Callable[[str], Iterator[Batch]],
    layer: nn.Module,
    top: nn.Module,
    *,
    settings: Settings,
    observer: "_Watcher | None" = None,
) -> list[dict[str, float]]:
    """Train for the agreed epochs; return the validation metrics of each."""
    criterion = LOSSES[settings.task.kind]()
    optimizer = make_optimizer(settings, [*layer.parameters(), *top.parameters()])
    history = []
    for epoch in range(settings.train.epochs):
        losses = []
        top.train()
        for batch in batches("train"):
            loss = criterion(_output(top(layer(batch.rows)), settings.task.kind), batch.target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            if observer is not None:
                observer.step(epoch, batch, losses[-1])
        metrics = evaluate(batches, layer, top, split="validation", kind=settings.task.kind)
        history.append(metrics)
        if observer is not None:
            observer.epoch(epoch, float(np.mean(losses)), metrics)
    return history


def evaluate(
    batches: Callable[[str], Iterator[Batch]],
    layer: nn.Module,
    top: nn.Module,
    *,
    split: str,
    kind: str,
) -> dict[str, float]:
    """Score one split and return its metrics; nothing where the split is empty."""
    top.eval()
    scores, targets = [], []
    with torch.no_grad():
        for batch in batches(split):
            scores.append(_output(top(layer(batch.rows)), kind))
            targets.append(batch.target)
    if not scores:
        return {}
    target = torch.cat(targets).numpy().astype(np.float64)
    score = torch.cat(scores).numpy().astype(np.float64)
    return {name: metric(target, score) for name, metric in METRICS[kind].items()}


def build_top(settings: Settings, *, outputs: int) -> nn.Module:
    """Return the top network that the run file describes."""
    units = settings.model.units
    if settings.model.top is not None:
        return from_factory(settings.model.top, units=units, outputs=outputs)
    return perceptron(units, list(settings.model.hidden), outputs)


def make_optimizer(settings: Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of the local parameters."""
    rate = settings.train.learning_rate
    if settings.train.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate)
    return torch.optim.SGD(parameters, lr=rate)


class _Watcher:
    """Adds the session's byte counts to what the observer is told."""

    def __init__(self, observer: Observer, run: LabelOwnerRun) -> None:
        self._observer = observer
        self._run = run
        observer.begin(epochs=run.settings.train.epochs, rows=len(run.schedule.split_rows(Split.TRAIN)))

    def step(self, epoch: int, batch: Batch, loss: float) -> None:
        self._observer.step(
            epoch=epoch,
            rows=batch.rows.rows,
            loss=loss,
            sent=self._run.session.bytes_sent,
            received=self._run.session.bytes_received,
        )

    def epoch(self, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        self._observer.epoch(epoch=epoch, loss=loss, metrics=metrics)


def _output(output: Tensor, kind: str) -> Tensor:
    return output if kind == "multiclass" else output.squeeze(1)


def _least_spare(run: LabelOwnerRun) -> float:
    """Return the spare bits of the product that has the fewest, over every batch size of the run."""
    contract, schedule = run.contract, run.schedule
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    sizes = [{each.rows for each in schedule.batches(split, epoch=0)} for split in splits]
    plans = [contract.forward_plan(rows) for rows in set().union(*sizes)]
    plans += [contract.update_plan(rows) for rows in sizes[0]]
    return min(plan.spare_bits for plan in plans)


def _opened(run: LabelOwnerRun) -> int:
    """Count the products' values whose shares were formed: z of every pass, and every update of W."""
    contract, rows = run.contract, run.schedule.split_rows
    epochs = contract.label_owner.epochs
    passes = epochs * (len(rows(Split.TRAIN)) + len(rows(Split.VALIDATION))) + len(rows(Split.TEST))
    return contract.out_features * (passes + contract.in_features * run.updates)


def _result(
    run: LabelOwnerRun,
    *,
    test: dict[str, float],
    validation: list[dict[str, float]],
    seconds: float,
) -> Result:
    contract, steps = run.contract, run.updates
    spare, opened = _least_spare(run), _opened(run)
    facts: dict[str, Any] = {
        "parameters": contract.parameters.name,
        "modulus_bits": contract.parameters.modulus.bit_length(),
        "degree": contract.parameters.degree,
        "spare_bits": spare,
        "session_error": session_error(opened=opened, spare=spare),
    }
    return Result(
        test=test,
        validation=validation,
        seconds=seconds,
        bytes_sent=run.session.bytes_sent,
        bytes_received=run.session.bytes_received,
        in_features=contract.in_features,
        out_features=contract.out_features,
        rows=contract.label_owner.rows,
        steps=steps,
        clipped_gradients=run.link.clipped,
        released_z_per_row=contract.out_features * contract.label_owner.epochs,
        peak_memory_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        folder=str(run.settings.folder),
        **facts,
    )
