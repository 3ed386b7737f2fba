"""Both parties' own networks, losses and optimisers, by their names in run files.

Imported by both parties' loops; everything here runs on one party's machine alone.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

from moiety.config import LocalTraining
from moiety.crypto.sampling import Seed
from moiety.errors import ConfigError

Criterion = Callable[[Tensor, Tensor], Tensor]
Schedule = torch.optim.lr_scheduler.LRScheduler
_PLATEAU: Final = torch.optim.lr_scheduler.ReduceLROnPlateau

_UNUSABLE: Final = (
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
)
"""What torch raises at options that an optimiser or a schedule cannot use."""


def seed_torch(seed: Seed) -> None:
    """Seed what torch draws from here on, on the CPU, where both parties' networks run.

    `torch.manual_seed` seeds other devices as well, and where none has been used it keeps each call and its
    stack trace for later, for as long as the process lives.
    """
    torch.default_generator.manual_seed(int.from_bytes(seed[:7], "little"))


def perceptron(units: int, hidden: list[int], outputs: int) -> nn.Sequential:
    """Return ReLU and linear layers behind `units` inputs.

    >>> len(perceptron(32, [32], 1))
    4
    """
    layers: list[nn.Module] = []
    for before, after in zip([units, *hidden], [*hidden, outputs], strict=True):
        layers += [nn.ReLU(), nn.Linear(before, after)]
    return nn.Sequential(*layers)


def from_factory(name: str, *arguments: int, key: str, takes: str) -> nn.Module:
    """Call `module:factory` and return the network it makes.

    Args:
        name: of the factory.
        arguments: what it is called with.
        key: of the run file, for messages.
        takes: what the arguments are, for messages.

    Raises:
        ConfigError: no such module or factory, or what it returns is no torch.nn.Module.
    """
    hint = f"the factory takes {takes} and returns a torch.nn.Module"
    factory = _imported(name, key=key, hint=hint)
    if not takes_arguments(factory, len(arguments)):
        raise ConfigError(f"{key} = {name!r} does not take {len(arguments)} arguments", hint=hint)
    network = factory(*arguments)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{key} = {name!r} returned {type(network).__name__}", hint=hint)
    return network


def takes_arguments(function: Callable[..., Any], count: int) -> bool:
    """Tell whether a function can be called with so many arguments by place, as far as it says."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it was not written in Python, and does not say
        return True
    return True


def make_loss(kind: str, weights: list[float] | None) -> Criterion:
    """Return the loss of a task, a mean over rows, weighted by class where weights are given.

    A weighted mean divides by the sum of the rows' weights, so that the scale of the weights is nothing.
    """
    if kind == "regression":
        return nn.MSELoss()
    if kind == "multiclass":
        return nn.CrossEntropyLoss(weight=None if weights is None else torch.tensor(weights))
    if weights is None:
        return nn.BCEWithLogitsLoss()
    by_class = torch.tensor(weights)

    def weighted(output: Tensor, target: Tensor) -> Tensor:
        row_weights = by_class[target.long()]
        losses = nn.functional.binary_cross_entropy_with_logits(
            output, target, weight=row_weights, reduction="sum"
        )
        return losses / row_weights.sum()

    return weighted


def make_optimizer(settings: LocalTraining, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of a party's own parameters.

    Raises:
        ConfigError: no such optimiser, one that needs closures, or options it does not take.
    """
    name = settings.optimizer
    options = {key: _plain(value) for key, value in settings.optimizer_options.items()}
    hint = "name a class of torch.optim and options that it takes, or module:factory of (parameters, lr)"
    made = _made(
        _imported(name, key="train.optimizer", hint=hint) if ":" in name else _optimizer_class(name),
        (list(parameters),),
        {"lr": settings.learning_rate, **options},
        key="train.optimizer",
        hint=hint,
    )
    if not isinstance(made, torch.optim.Optimizer) or isinstance(made, torch.optim.LBFGS):
        raise ConfigError(
            f"train.optimizer = {name!r} cannot be used", hint="choose one that steps without a closure"
        )
    return made


def needs_metric(settings: LocalTraining) -> bool:
    """Tell whether the schedule steps by a metric of the validation rows."""
    return settings.schedule == _PLATEAU.__name__


def make_schedule(
    settings: LocalTraining, optimizer: torch.optim.Optimizer, *, smaller_is_better: bool | None = None
) -> Schedule | None:
    """Return the learning-rate schedule, which steps at the end of each epoch; None without one.

    Args:
        settings: its name and options.
        optimizer: whose rate it changes.
        smaller_is_better: of the metric that it may step by; None where there is none.

    Raises:
        ConfigError: no such schedule, one that needs a metric and has none, or options it does not take.
    """
    name = settings.schedule
    if name is None:
        return None
    options = {key: _plain(value) for key, value in settings.schedule_options.items()}
    hint = (
        "name a class of torch.optim.lr_scheduler and options that it takes, or module:factory of (optimizer)"
    )
    if needs_metric(settings) and smaller_is_better is not None:
        options = {"mode": "min" if smaller_is_better else "max", **options}
    factory = (
        _imported(name, key="train.schedule", hint=hint)
        if ":" in name
        else getattr(torch.optim.lr_scheduler, name, None)
    )
    made = _made(factory, (optimizer,), options, key="train.schedule", hint=hint)
    unfed = isinstance(made, _PLATEAU) and (smaller_is_better is None or not needs_metric(settings))
    if not isinstance(made, Schedule) or unfed:
        raise ConfigError(
            f"train.schedule = {name!r} cannot be used",
            hint="choose one that steps without a metric; the label owner alone has metrics, for "
            '"ReduceLROnPlateau"',
        )
    return made


def advance(schedule: Schedule | None, *, metric: float = 0.0) -> None:
    """Step a schedule at the end of an epoch.

    Args:
        schedule: None does nothing.
        metric: what a schedule that needs one steps by.

    Raises:
        ConfigError: its options do not reach so far.
    """
    if schedule is None:
        return
    try:
        if isinstance(schedule, _PLATEAU):
            schedule.step(metric)
        else:
            schedule.step()
    except _UNUSABLE as error:
        raise ConfigError(
            f"train.schedule cannot step: {_reason(error)}",
            hint="give it options that reach over all epochs: it steps at the end of each",
        ) from error


def check_training(
    settings: LocalTraining,
    *,
    parameters: Iterable[nn.Parameter] | None = None,
    epochs: int = 1,
    smaller_is_better: bool | None = None,
) -> None:
    """Refuse an optimiser or schedule that cannot be used, before anybody is connected.

    Args:
        settings: their names and options.
        parameters: what will be trained, where it is known; it is not changed.
        epochs: how often the schedule will step, as far as that is known.
        smaller_is_better: of the metric that a schedule may step by; None where there is none.

    Raises:
        ConfigError: as `make_optimizer`, `make_schedule` and `advance`.
    """
    optimizer = make_optimizer(settings, parameters or [nn.Parameter(torch.zeros(1))])
    schedule = make_schedule(settings, optimizer, smaller_is_better=smaller_is_better)
    optimizer.step()  # no gradients: it moves nothing
    for _ in range(epochs):
        advance(schedule)


def _optimizer_class(name: str) -> Any:
    """Find a class of `torch.optim`, whatever its capitals."""
    known: Final = {each.lower(): each for each in dir(torch.optim) if each[0].isupper()}
    return getattr(torch.optim, known.get(name.lower(), ""), None)


def _made(factory: Any, arguments: tuple[Any, ...], options: dict[str, Any], *, key: str, hint: str) -> Any:
    if not callable(factory):
        raise ConfigError(f"{key} is not known to torch", hint=hint)
    try:
        return factory(*arguments, **options)
    except _UNUSABLE as error:
        raise ConfigError(f"{key} cannot be made: {_reason(error)}", hint=hint) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# Run files of version 0.1.0 may name the example that was shipped under this path (ADR 0023).
_MOVED: Final = {"moiety.examples": "moiety.demo.networks"}


def _imported(name: str, *, key: str, hint: str) -> Callable[..., Any]:
    module_name, _, factory_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(_MOVED.get(module_name, module_name)), factory_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key} = {name!r} cannot be imported",
            hint="write module:factory, with the module's folder on PYTHONPATH",
        ) from error
    if not callable(factory):
        raise ConfigError(f"{key} = {name!r} is a {type(factory).__name__} and not a factory", hint=hint)
    return factory  # type: ignore[no-any-return]
