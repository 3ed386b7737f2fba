"""The label owner's top network and loss, from the run file or from the user's own factory."""

import importlib
from typing import Final

from torch import nn

from moiety.errors import ConfigError

LOSSES: Final[dict[str, type[nn.Module]]] = {
    "binary": nn.BCEWithLogitsLoss,
    "multiclass": nn.CrossEntropyLoss,
    "regression": nn.MSELoss,
}


def perceptron(units: int, hidden: list[int], outputs: int) -> nn.Sequential:
    """Return ReLU and linear layers behind `units` inputs.

    >>> len(perceptron(32, [32], 1))
    4
    """
    layers: list[nn.Module] = []
    for before, after in zip([units, *hidden], [*hidden, outputs], strict=True):
        layers += [nn.ReLU(), nn.Linear(before, after)]
    return nn.Sequential(*layers)


def from_factory(name: str, *, units: int, outputs: int) -> nn.Module:
    """Call `module:factory` with (units, outputs) and return the network it makes.

    Raises:
        ConfigError: no such module or factory, or what it returns is no torch.nn.Module.
    """
    module_name, _, factory_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"model.top = {name!r} cannot be imported",
            hint="write module:factory, with the module's folder on PYTHONPATH",
        ) from error
    if not callable(factory):
        raise ConfigError(
            f"model.top = {name!r} is a {type(factory).__name__} and not a factory",
            hint="the factory takes (units, outputs) and returns a torch.nn.Module",
        )
    network = factory(units, outputs)
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"model.top = {name!r} returned {type(network).__name__}",
            hint="the factory takes (units, outputs) and returns a torch.nn.Module",
        )
    return network
