"""The networks: a bottom model at the data owner, the interactive layer's size, a top model.

The paper's tables give no layer sizes in public text: these are of its kind (fully connected, and two
convolutions), with the choice stated here. A bottom ends with a tanh, so that its activations are within the
ring's +-8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Final

from torch import nn

BOTTOM_FEATURES: Final = 64
_HIDDEN: Final = 128
_FIRST_MAPS, _SECOND_MAPS, _KERNEL, _POOL = 8, 16, 5, 2


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network cut in three.

    Args:
        columns: of the data owner's table.
        bottom: factory of the bottom model; None: the table goes into the interactive layer.
        in_features: of the interactive layer.
        units: out_features of the interactive layer.
        outputs: of the top model.
    """

    columns: int
    bottom: Callable[[int], nn.Module] | None
    in_features: int
    units: int
    outputs: int

    def joined(self) -> nn.Sequential:
        """Return the whole network, as one site would train it."""
        layers = [] if self.bottom is None else [self.bottom(self.columns)]
        layers += [nn.Linear(self.in_features, self.units), top(self.units, self.outputs)]
        return nn.Sequential(*layers)


def dense_bottom(in_columns: int) -> nn.Module:
    """Return two fully connected layers: `in_columns` to 128 to 64 activations between -1 and 1."""
    return nn.Sequential(
        nn.Linear(in_columns, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, BOTTOM_FEATURES), nn.Tanh()
    )


def convolutional_bottom(in_columns: int) -> nn.Module:
    """Return two convolutions and a linear layer: a square image to 64 activations between -1 and 1."""
    side = isqrt(in_columns)
    pooled = ((side - _KERNEL + 1) // _POOL - _KERNEL + 1) // _POOL
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, _FIRST_MAPS, _KERNEL),
        nn.ReLU(),
        nn.MaxPool2d(_POOL),
        nn.Conv2d(_FIRST_MAPS, _SECOND_MAPS, _KERNEL),
        nn.ReLU(),
        nn.MaxPool2d(_POOL),
        nn.Flatten(),
        nn.Linear(_SECOND_MAPS * pooled * pooled, BOTTOM_FEATURES),
        nn.Tanh(),
    )


def random_dense_bottom(in_columns: int) -> nn.Module:
    """Return the dense bottom for use as it is: random features of about the scale of their input."""
    return _scaled(dense_bottom(in_columns))


def random_convolutional_bottom(in_columns: int) -> nn.Module:
    """Return the convolutional bottom for use as it is: random features of about the scale of their input."""
    return _scaled(convolutional_bottom(in_columns))


def _scaled(network: nn.Module) -> nn.Module:
    """Initialise so that layers keep the variance: torch's own start shrinks it, and dither does not."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return network


def narrow_bottom(in_columns: int) -> nn.Module:
    """Return one layer, for tables: `in_columns` to 64 activations between -1 and 1."""
    return nn.Sequential(nn.Linear(in_columns, BOTTOM_FEATURES), nn.Tanh())


def top(units: int, outputs: int) -> nn.Module:
    """Return the label owner's network behind the interactive layer."""
    return nn.Sequential(nn.ReLU(), nn.Linear(units, outputs))


NETWORKS: Final = {
    "images, dense": Network(
        columns=784, bottom=dense_bottom, in_features=BOTTOM_FEATURES, units=32, outputs=10
    ),
    "images, convolutional": Network(
        columns=784, bottom=convolutional_bottom, in_features=BOTTOM_FEATURES, units=32, outputs=10
    ),
    "credit, bottom": Network(
        columns=91, bottom=narrow_bottom, in_features=BOTTOM_FEATURES, units=32, outputs=1
    ),
    "credit, no bottom": Network(columns=91, bottom=None, in_features=91, units=32, outputs=1),
}
