"""The label owner's top network: what stands behind z, and own columns beside it.

Imported by the fitting loop, the predictor, `check` and the comparison.
"""

import torch
from torch import Tensor, nn

from moiety.config import LabelOwnerRun as Settings
from moiety.errors import ConfigError
from moiety.nn.build import from_factory, perceptron, takes_arguments


class TopWithOwn(nn.Module):
    """ReLU and linear layers behind z and own columns, which are put beside ReLU(z) as they are.

    Args:
        units: columns of z.
        own: own inputs.
        hidden: widths of the hidden layers.
        outputs: columns of what it returns.

    >>> TopWithOwn(32, 5, [32], 1)(torch.zeros(2, 32), torch.zeros(2, 5)).shape
    torch.Size([2, 1])
    """

    def __init__(self, units: int, own: int, hidden: list[int], outputs: int) -> None:
        super().__init__()
        # Without the ReLU that `perceptron` begins with: it would cut the negative half off own columns.
        self.joined = perceptron(units + own, hidden, outputs)[1:]

    def forward(self, z: Tensor, features: Tensor) -> Tensor:
        """Return the outputs, (rows, outputs), of z (rows, units) and own columns (rows, own)."""
        output: Tensor = self.joined(torch.cat([torch.relu(z), features], dim=1))
        return output


def build_top(settings: Settings, *, outputs: int, own: int = 0) -> nn.Module:
    """Return the top network that the run file describes.

    Args:
        settings: the run file.
        outputs: columns of what it returns.
        own: inputs that the label owner's own columns give; the network takes them beside z if there are any.

    Raises:
        ConfigError: as `from_factory`.
    """
    units, factory = settings.model.units, settings.model.top
    if factory is not None and own:
        top = from_factory(factory, units, outputs, own, key="model.top", takes="(units, outputs, own)")
        return _beside_z(top, factory)
    if factory is not None:
        return from_factory(factory, units, outputs, key="model.top", takes="(units, outputs)")
    if own:
        return TopWithOwn(units, own, list(settings.model.hidden), outputs)
    return perceptron(units, list(settings.model.hidden), outputs)


def apply_top(top: nn.Module, z: Tensor, features: Tensor | None) -> Tensor:
    """Run the top network on a batch: own columns go in beside z where there are any."""
    output: Tensor = top(z) if features is None else top(z, features)
    return output


def _beside_z(top: nn.Module, factory: str) -> nn.Module:
    """Refuse a network that has no place for own columns."""
    if not takes_arguments(top.forward, 2):
        raise ConfigError(
            f"model.top = {factory!r} returned a network that does not take (z, features)",
            hint="take own columns as the second argument: torch.cat([z, features], dim=1) joins them",
        )
    return top
