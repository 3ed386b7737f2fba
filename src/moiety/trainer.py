"""The label owner's training loop, from a run file to a saved model.

`fit` is an ordinary PyTorch loop; it trains the encrypted network and, with other batches and another
link, its twin in the clear. Imported by the command line and the demo.
"""

import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from math import isinf
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from moiety.channel import Channel
from moiety.config import LabelOwnerRun as Settings
from moiety.config import load_label_owner_run
from moiety.crypto.parameters import session_error
from moiety.crypto.sampling import Randomness
from moiety.data.target import Target
from moiety.errors import ConfigError
from moiety.label_leak import label_leakage
from moiety.label_owner import Batch, LabelOwnerRun, open_run
from moiety.metrics import METRICS
from moiety.networks import (
    Criterion,
    advance,
    check_training,
    from_factory,
    make_loss,
    make_optimizer,
    make_schedule,
    perceptron,
)
from moiety.nn import InteractiveLinear
from moiety.products import REVEALS_GRADIENTS, Product
from moiety.schedule import Split

RESULT_FILE = "result.json"


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


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training gave, what it cost, and what it released.

    Args:
        label_leakage: AUC of each attack on labels from what the data owner was shown, the largest of all
            epochs; empty where it was shown no gradients.
    """

    test: dict[str, float]
    validation: list[dict[str, float]]
    seconds: float
    bytes_sent: int
    bytes_received: int
    protocol: str
    parameters: list[str]
    spare_bits: float | None
    session_error: float
    in_features: int
    out_features: int
    rows: int
    steps: int
    clipped_gradients: int
    released_z_per_row: int
    peak_memory_bytes: int
    label_leakage: dict[str, float]
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
    training = load_label_owner_run(Path(path)).train
    check_training(training, epochs=training.epochs)
    with open_run(path, channel=channel, randomness=randomness) as run:
        layer = run.interactive_layer()
        top = build_top(run.settings, outputs=run.target.outputs)
        begin = time.perf_counter()
        watcher = _Watcher(observer or Silence(), run)
        validation = fit(
            run.batches,
            layer,
            top,
            settings=run.settings,
            criterion=criterion_of(run.settings, run.target, run.encoded[_training_rows(run)]),
            observer=watcher,
        )
        test = evaluate(run.batches, layer, top, split="test", kind=run.settings.task.kind)
        seconds = time.perf_counter() - begin
        folder = run.save(top)
        result = _result(run, test=test, validation=validation, seconds=seconds, leakage=watcher.leakage)
    (folder / RESULT_FILE).write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    return result


def fit(
    batches: Callable[[str], Iterator[Batch]],
    layer: nn.Module,
    top: nn.Module,
    *,
    settings: Settings,
    criterion: Criterion,
    observer: "_Watcher | None" = None,
) -> list[dict[str, float]]:
    """Train for the agreed epochs; return the validation metrics of each."""
    optimizer = make_optimizer(settings.train, [*layer.parameters(), *top.parameters()])
    schedule = make_schedule(settings.train, optimizer)
    history = []
    for epoch in range(settings.train.epochs):
        losses = []
        if schedule is not None and isinstance(layer, InteractiveLinear):
            layer.learning_rate = optimizer.param_groups[0]["lr"]
        top.train()
        for batch in batches("train"):
            loss = criterion(_output(top(layer(batch.rows)), settings.task.kind), batch.target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            if observer is not None:
                observer.step(epoch, batch, losses[-1])
        advance(schedule)
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
        return from_factory(settings.model.top, units, outputs, key="model.top", takes="(units, outputs)")
    return perceptron(units, list(settings.model.hidden), outputs)


def criterion_of(settings: Settings, target: Target, training_N: Tensor) -> Criterion:
    """Return the run file's loss, with class weights from the training rows where they are balanced.

    Raises:
        ConfigError: as many class weights as there are classes are needed.
    """
    weights = settings.task.class_weights
    if weights is None:
        return make_loss(settings.task.kind, None)
    classes = max(2, target.outputs)
    if weights == "balanced":
        counts = np.bincount(training_N.numpy().astype(np.int64), minlength=classes)
        return make_loss(settings.task.kind, (len(training_N) / (classes * np.maximum(counts, 1))).tolist())
    if len(weights) != classes:
        raise ConfigError(
            f"task.class_weights has {len(weights)} values, and the target has {classes} classes",
            hint="write one weight for each class, in ascending order of the classes",
        )
    return make_loss(settings.task.kind, list(weights))


class _Watcher:
    """Adds the session's byte counts to what the observer is told."""

    def __init__(self, observer: Observer, run: LabelOwnerRun) -> None:
        self._observer = observer
        self._run = run
        self.leakage: dict[str, float] = {}
        if run.contract.trains_bottom:
            observer.notice(REVEALS_GRADIENTS)
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
        for attack, reached in self._attack().items():
            self.leakage[attack] = max(reached, self.leakage.get(attack, 0.0))

    def _attack(self) -> dict[str, float]:
        """Attack the labels with this epoch's dz, of which the data owner was shown a linear image."""
        revealed = self._run.link.take_revealed()
        if not revealed:
            return {}
        rows = np.concatenate([self._run.schedule.rows_of(handle) for handle, _ in revealed])
        gradient_NK = np.concatenate([dz for _, dz in revealed]).astype(np.float64)
        target_N = self._run.encoded.numpy()[rows]
        return label_leakage(gradient_NK, target_N, kind=self._run.settings.task.kind)


def _output(output: Tensor, kind: str) -> Tensor:
    return output if kind == "multiclass" else output.squeeze(1)


def _training_rows(run: LabelOwnerRun) -> Tensor:
    return torch.from_numpy(run.schedule.split_rows(Split.TRAIN))


def _least_spare(run: LabelOwnerRun, product: Product) -> float:
    """Return the fewest spare bits of a product, over every batch size of the run."""
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST) if product is Product.FORWARD else (Split.TRAIN,)
    batches = (each for split in splits for each in run.schedule.batches(split, epoch=0))
    return min(run.contract.plan(product, rows).spare_bits for rows in {each.rows for each in batches})


def _opened(run: LabelOwnerRun, product: Product) -> int:
    """Count the values of a product whose shares were formed: of z in every pass, of W, of da."""
    contract = run.contract
    rows, epochs = run.schedule.split_rows, contract.label_owner.epochs
    trained = epochs * len(rows(Split.TRAIN))
    passes = trained + epochs * len(rows(Split.VALIDATION)) + len(rows(Split.TEST))
    return {
        Product.FORWARD: contract.out_features * passes,
        Product.UPDATE: contract.out_features * contract.in_features * run.updates,
        Product.INPUT_GRADIENT: contract.in_features * trained,
        Product.INITIAL: contract.in_features * contract.out_features,
    }[product]


def _result(
    run: LabelOwnerRun,
    *,
    test: dict[str, float],
    validation: list[dict[str, float]],
    seconds: float,
    leakage: dict[str, float],
) -> Result:
    contract, steps = run.contract, run.updates
    spares = {product: _least_spare(run, product) for product in contract.products}
    errors = [session_error(opened=_opened(run, product), spare=spare) for product, spare in spares.items()]
    facts: dict[str, Any] = {
        "protocol": contract.label_owner.protocol,
        "parameters": sorted({scheme.description for scheme in contract.schemes.values()}),
        "spare_bits": None if isinf(min(spares.values())) else min(spares.values()),
        "session_error": sum(errors),
        "label_leakage": leakage,
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
