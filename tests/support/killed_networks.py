"""Networks with state of every kind, for trainings that die and continue."""

from typing import Any

import torch
from torch import nn


def top(units: int, outputs: int) -> nn.Module:
    """A top with dropout."""
    return nn.Sequential(nn.ReLU(), nn.Dropout(0.4), nn.Linear(units, outputs))


def bottom(columns: int) -> nn.Module:
    """A bottom with running statistics and dropout."""
    return nn.Sequential(nn.Linear(columns, 4), nn.BatchNorm1d(4), nn.Dropout(0.3))


def odd_optimizer(parameters: Any, lr: float) -> torch.optim.Optimizer:
    """An optimiser that keeps a function."""
    optimizer = torch.optim.SGD(parameters, lr=lr)
    optimizer.param_groups[0]["rule"] = lambda: None
    return optimizer
