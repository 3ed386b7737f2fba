"""Networks that the built-in examples use; your own module is named in a run file in the same way."""

from typing import Final

from torch import nn

EXAMPLE_FEATURES: Final = 16


def bottom(columns: int) -> nn.Module:
    """Return a small bottom model: `columns` prepared columns to 16 activations between -1 and 1."""
    return nn.Sequential(nn.Linear(columns, EXAMPLE_FEATURES), nn.Tanh())
