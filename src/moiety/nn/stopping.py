"""When a training ends, and which epoch's weights are its result: the label owner's own decision.

`Stopping` looks at the validation metrics at each epoch's end, `BestModel` keeps what the label owner holds
of the best epoch. Both have `state` and `load`, so that a resumed run continues as if it had never stopped.
What the data owner learns of either is the protocol's matter (`protocol.choice`): that the training is over.
Imported by the trainer and the comparison with the twin.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from moiety.config import LabelOwnerRun as Settings
from moiety.contract.schedule import Schedule, Split
from moiety.crypto.secret import Secret
from moiety.errors import ConfigError
from moiety.nn.build import check_training, needs_metric
from moiety.nn.layer import InteractiveLinear
from moiety.nn.metrics import METRICS, SMALLER_IS_BETTER

Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]
Clock = Callable[[], float]
_LAYER: Final = "layer."
_TOP: Final = "top."


class EpochRule(Protocol):
    """Says at each epoch's end whether to continue, and whether this epoch is the best so far."""

    keeps_best: bool
    """Whether the training goes back to the best epoch at its end."""

    best_epoch: int | None
    """The best epoch so far."""

    def ended(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        """Take an epoch's validation metrics; return why the training stops here, None to continue."""
        ...


def metric_of(settings: Settings) -> str:
    """Return the name of the metric that epochs are compared by.

    Raises:
        ConfigError: the task has no such metric.
    """
    known = list(METRICS[settings.task.kind])
    name = settings.train.metric or known[0]
    if name not in known:
        raise ConfigError(
            f"train.metric = {name!r} is none of a {settings.task.kind} task's",
            hint=f"choose one of {', '.join(known)}",
        )
    return name


def needs_validation(settings: Settings) -> bool:
    """Tell whether a metric of the validation rows decides anything in this training."""
    train = settings.train
    return train.early_stopping is not None or train.keeps_best or needs_metric(train)


def check_rules(settings: Settings, *, validation_rows: int) -> None:
    """Refuse rules that have nothing to look at.

    Raises:
        ConfigError: an unknown metric, or no validation rows to compute one on.
    """
    metric_of(settings)
    if needs_validation(settings) and not validation_rows:
        raise ConfigError(
            "[train] compares epochs by validation rows, and the split has none",
            hint="give split.validation a value above 0, or leave early_stopping, keep and the schedule out",
        )


def check_plan(settings: Settings) -> None:
    """Refuse an optimiser, a schedule or a metric that cannot be used, before anybody connects.

    Raises:
        ConfigError: naming it.
    """
    smaller = metric_of(settings) in SMALLER_IS_BETTER
    check_training(settings.train, epochs=settings.train.epochs, smaller_is_better=smaller)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """How a training went.

    Args:
        validation: metrics of each epoch that was trained.
        kept_epoch: the epoch it went back to, from 0; None where the last one is kept.
        stopped: why it ended before the agreed epochs; None where it did not.
    """

    validation: list[dict[str, float]]
    kept_epoch: int | None = None
    stopped: str | None = None


class Stopping:
    """The run file's rules for the end of a training.

    Args:
        settings: the run file.
        steps_per_epoch: training steps of one pass.
        clock: seconds since any moment.

    Raises:
        ConfigError: the limit on steps is below one epoch's.
    """

    def __init__(self, settings: Settings, *, steps_per_epoch: int, clock: Clock = time.monotonic) -> None:
        self._train = settings.train
        self._metric = metric_of(settings)
        self._sign = -1.0 if self._metric in SMALLER_IS_BETTER else 1.0
        self._steps_per_epoch = steps_per_epoch
        self._clock = clock
        self._begin = clock()
        self._best: float | None = None
        self._reference: float | None = None
        self._without_gain = 0
        self.keeps_best = settings.train.keeps_best
        self.best_epoch: int | None = None
        limit = self._train.steps_limit
        if limit is not None and limit < steps_per_epoch:
            raise ConfigError(
                f"train.steps_limit is {limit}, and one epoch has {steps_per_epoch} steps",
                hint="raise train.steps_limit to one epoch's steps, or take larger batches",
            )

    def ended(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        """Take an epoch's validation metrics; return why the training stops here, None to continue."""
        value = self._sign * metrics.get(self._metric, float("nan"))
        if self.best_epoch is None or (isfinite(value) and value > _or_least(self._best)):
            self._best, self.best_epoch = (value if isfinite(value) else None), epoch
        self._count(value)
        if epoch + 1 >= self._train.epochs:
            return None
        reasons = (self._no_gain(), self._time_is_up(), self._steps_are_up(epoch))
        return next((reason for reason in reasons if reason is not None), None)

    def state(self) -> Facts:
        """Return what a saved run needs to be resumed, as plain JSON values."""
        return {
            "best": self._best,
            "reference": self._reference,
            "without_gain": self._without_gain,
            "best_epoch": self.best_epoch,
            "seconds": self._clock() - self._begin,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned; time already spent counts."""
        self._best, self._reference = state["best"], state["reference"]
        self._without_gain, self.best_epoch = state["without_gain"], state["best_epoch"]
        self._begin = self._clock() - state["seconds"]

    def _count(self, value: float) -> None:
        """Count the epochs since the metric last gained enough over the epoch that last did."""
        rule = self._train.early_stopping
        least = 0.0 if rule is None else rule.least_gain
        if isfinite(value) and (self._reference is None or value > self._reference + least):
            self._reference, self._without_gain = value, 0
        else:
            self._without_gain += 1

    def _no_gain(self) -> str | None:
        rule = self._train.early_stopping
        if rule is None or self._without_gain < rule.patience:
            return None
        gained = f"gained {rule.least_gain:g}" if rule.least_gain else "gained"
        return f"validation {self._metric} has not {gained} for {self._without_gain} epochs"

    def _time_is_up(self) -> str | None:
        limit = self._train.time_limit
        if limit is None or self._clock() - self._begin < limit:
            return None
        return f"the time limit of {limit:g} s has passed"

    def _steps_are_up(self, epoch: int) -> str | None:
        limit = self._train.steps_limit
        if limit is None or (epoch + 2) * self._steps_per_epoch <= limit:
            return None
        return f"another epoch would pass the limit of {limit} steps"


def stopping_of(settings: Settings, schedule: Schedule, *, steps_per_epoch: int) -> Stopping:
    """Return the rules for the end of a run's training.

    Raises:
        ConfigError: the split gives them nothing to look at, or a limit is below one epoch.
    """
    check_rules(settings, validation_rows=len(schedule.split_rows(Split.VALIDATION)))
    return Stopping(settings, steps_per_epoch=steps_per_epoch)


class Followed:
    """Ends where another training of the same run ended, and keeps the epoch that one kept.

    Args:
        epochs: after which to stop.
        best_epoch: the epoch to go back to; None keeps the last.
    """

    def __init__(self, *, epochs: int, best_epoch: int | None) -> None:
        self._epochs = epochs
        self._followed = best_epoch
        self.keeps_best = best_epoch is not None
        self.best_epoch: int | None = None

    def ended(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        """Stop at the epoch that the other training stopped at, whatever the metrics are."""
        del metrics
        if epoch == self._followed:
            self.best_epoch = epoch
        return "the training that is followed ended here" if epoch + 1 == self._epochs else None


class BestModel(Secret):
    """What the label owner holds of the best epoch: its share of W, bias, step rule and top network."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self._arrays: Arrays = {}

    def capture(self, epoch: int, layer: nn.Module, top: nn.Module) -> None:
        """Keep both networks as they are now, in place of an earlier epoch's."""
        self.epoch = epoch
        self._arrays = {
            **{_LAYER + name: value.copy() for name, value in _layer_arrays(layer).items()},
            **{_TOP + name: value.copy() for name, value in _numpy(top).items()},
        }

    def go_back(self, layer: nn.Module, top: nn.Module) -> None:
        """Return both networks, and both parties' shares of W, to the epoch that was kept.

        Leaks:
            As `protocol.choice`.
        """
        assert self.epoch is not None
        arrays = _part(self._arrays, _LAYER)
        if isinstance(layer, InteractiveLinear):
            layer.go_back(self.epoch, arrays)
        else:
            layer.load_state_dict(_tensors(arrays))
        top.load_state_dict(_tensors(_part(self._arrays, _TOP)))

    def state(self) -> tuple[Arrays, Facts]:
        """Return what a saved run needs to be resumed."""
        return dict(self._arrays), {"epoch": self.epoch}

    def load(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Take what `state` returned."""
        self._arrays = {name: np.array(value) for name, value in arrays.items()}
        self.epoch = facts["epoch"]


def _or_least(value: float | None) -> float:
    return -float("inf") if value is None else value


def _layer_arrays(layer: nn.Module) -> Arrays:
    return layer.snapshot() if isinstance(layer, InteractiveLinear) else _numpy(layer)


def _numpy(network: nn.Module) -> Arrays:
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
