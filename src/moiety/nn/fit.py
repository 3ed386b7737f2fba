"""The training loop: ordinary PyTorch, for the encrypted network and for its twin in the clear.

With other batches and another link, `fit` trains the twin. Imported by training, the
predictor and the comparison.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moiety.config import LabelOwnerRun as Settings
from moiety.config.listener import SILENT, Listener
from moiety.contract.schedule import RowHandle
from moiety.data.target import Target
from moiety.errors import ConfigError
from moiety.nn.build import Criterion, advance, make_loss, make_optimizer, make_schedule
from moiety.nn.layer import InteractiveLinear
from moiety.nn.metrics import SMALLER_IS_BETTER, measure
from moiety.nn.stopping import BestModel, EpochRule, Fitted, Followed, metric_of
from moiety.nn.strata import Strata, row_weights
from moiety.nn.top import apply_top


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch in the agreed order.

    Args:
        rows: the handle to pass to the interactive layer.
        target: targets of these rows; float32 (rows,), or int64 for classes.
        features: the label owner's own columns, prepared, float32 (rows, own inputs); None when it has none.
    """

    rows: RowHandle
    target: Tensor
    features: Tensor | None = None


Keep = Callable[..., int]


class Course:
    """How a training goes: the metrics of ended epochs, and the losses of the one under way."""

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []

    def end_epoch(self, metrics: dict[str, float]) -> float:
        """Take an epoch's validation metrics; return its mean training loss."""
        mean = float(np.mean(self.losses))
        self.history.append(metrics)
        self.losses = []
        return mean

    def state(self) -> dict[str, Any]:
        """Return what a saved run needs to be resumed."""
        return {"history": self.history, "losses": self.losses}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned."""
        self.history, self.losses = list(state["history"]), list(state["losses"])


def fit(
    batches: Callable[[str], Iterator[Batch]],
    layer: nn.Module,
    top: nn.Module,
    *,
    settings: Settings,
    criterion: Criterion,
    rule: EpochRule | None = None,
    strata: Strata | None = None,
    listener: Listener = SILENT,
    keep: Keep = lambda **_: 0,
) -> Fitted:
    """Train for the agreed epochs or until the rule says stop, and go back to the best where it says so.

    `keep` registers what belongs to the training's state and says with which epoch it begins.
    """
    rule = rule or Followed(epochs=settings.train.epochs, best_epoch=None)
    optimizer = make_optimizer(settings.train, [*layer.parameters(), *top.parameters()])
    smaller = metric_of(settings) in SMALLER_IS_BETTER
    schedule = make_schedule(settings.train, optimizer, smaller_is_better=smaller)
    course, best, reason = Course(), BestModel(), None
    parts = {"top": top, "optimizer": optimizer, "schedule": schedule, "course": course, "best": best}
    first = keep(**parts, stopping=rule)
    for epoch in range(first, settings.train.epochs):
        if schedule is not None and isinstance(layer, InteractiveLinear):
            layer.learning_rate = optimizer.param_groups[0]["lr"]
        top.train()
        for batch in batches("train"):
            output = apply_top(top, layer(batch.rows), batch.features)
            loss = criterion(output_of(output, settings.task.kind), batch.target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            course.losses.append(float(loss.detach()))
            listener.step(epoch=epoch, rows=batch.rows.rows, loss=course.losses[-1], sent=0, received=0)
        metrics = evaluate(batches, layer, top, split="validation", kind=settings.task.kind, strata=strata)
        advance(schedule, metric=metrics.get(metric_of(settings), 0.0))
        listener.epoch(epoch=epoch, loss=course.end_epoch(metrics), metrics=metrics)
        reason = rule.ended(epoch, metrics)
        if rule.keeps_best and rule.best_epoch == epoch:
            best.capture(epoch, layer, top)
        if reason is not None:
            break
    if rule.keeps_best:
        best.go_back(layer, top)
    return Fitted(validation=course.history, kept_epoch=best.epoch, stopped=reason)


def evaluate(
    batches: Callable[[str], Iterator[Batch]],
    layer: nn.Module,
    top: nn.Module,
    *,
    split: str,
    kind: str,
    strata: Strata | None = None,
) -> dict[str, float]:
    """Score one split and return its metrics, weighted by class as `strata` says; {} where it is empty."""
    top.eval()
    scores, targets = [], []
    with torch.no_grad():
        for batch in batches(split):
            scores.append(output_of(apply_top(top, layer(batch.rows), batch.features), kind))
            targets.append(batch.target)
    if not scores:
        return {}
    target = torch.cat(targets).numpy().astype(np.float64)
    score = torch.cat(scores).numpy().astype(np.float64)
    factor_C = None if strata is None else strata.metric_factors(split)
    weight_N = None if factor_C is None else row_weights(target, factor_C)
    return measure(kind, target, score, weight_N=weight_N)


def criterion_of(
    settings: Settings, target: Target, training_N: Tensor, *, strata: Strata | None = None
) -> Criterion:
    """Return the run file's loss, with class weights from the training rows where they are balanced.

    Balanced weights even out the classes' shares, whatever they are: `strata` adds nothing to them.

    Raises:
        ConfigError: as many class weights as there are classes are needed.
    """
    weights = settings.task.class_weights
    factor_C = None if strata is None else strata.loss_factors()
    if weights is None:
        return make_loss(settings.task.kind, None if factor_C is None else factor_C.tolist())
    classes = max(2, target.outputs)
    if weights == "balanced":
        counts = np.bincount(training_N.numpy().astype(np.int64), minlength=classes)
        return make_loss(settings.task.kind, (len(training_N) / (classes * np.maximum(counts, 1))).tolist())
    if len(weights) != classes:
        raise ConfigError(
            f"task.class_weights has {len(weights)} values, and the target has {classes} classes",
            hint="write one weight for each class, in ascending order of the classes",
        )
    by_class = np.array(weights) * (1.0 if factor_C is None else factor_C)
    return make_loss(settings.task.kind, by_class.tolist())


def output_of(output: Tensor, kind: str) -> Tensor:
    """Return a network's output in the shape of the target: one column less where that is single."""
    return output if kind == "multiclass" else output.squeeze(1)
