"""Weights that make every split count as if it had the classes in the shares of the whole table.

Post-stratification: the rows of a split are drawn without a look at labels, and each then counts by the share
of its class in the table over the share in the split. All of it happens at the label owner, and no message
depends on it. Imported by the training loop and the comparison with the twin.

Shapes: N rows, C classes. Reference: docs/adr/0018-splits-and-stopping.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from moiety.config import LabelOwnerRun as Settings
from moiety.contract.schedule import Schedule, Split

Weights = NDArray[np.float64]
_SPLITS: Final = {"train": Split.TRAIN, "validation": Split.VALIDATION, "test": Split.TEST}


def class_counts(target_N: NDArray[np.int64], schedule: Schedule, *, classes: int) -> dict[str, list[int]]:
    """Count the classes in each split, in ascending order of the classes: for the label owner's eyes."""
    return {
        name: np.bincount(target_N[schedule.split_rows(split)], minlength=classes).tolist()
        for name, split in _SPLITS.items()
    }


def class_factors(counts: Mapping[str, list[int]], split: str) -> Weights:
    """Return how much a row of each class counts in a split, (C,); 0 for a class that it does not have.

    >>> class_factors({"train": [6, 2], "test": [2, 2]}, "test").tolist()
    [1.3333333333333333, 0.6666666666666666]
    """
    table = np.sum(list(counts.values()), axis=0, dtype=np.float64)
    here = np.array(counts[split], dtype=np.float64)
    expected = table / table.sum() * here.sum()
    factor_C: Weights = np.divide(expected, here, out=np.zeros_like(here), where=here > 0)
    return factor_C


@dataclass(frozen=True, kw_only=True)
class Strata:
    """The classes of each split, and where their shares are evened out.

    Args:
        counts: of each class in each split.
        in_metrics: weigh metrics.
        in_loss: weigh the loss as well.
    """

    counts: Mapping[str, list[int]]
    in_metrics: bool
    in_loss: bool

    def metric_factors(self, split: str) -> Weights | None:
        """Return how much a row of each class counts in the metrics of a split; None for one each."""
        return class_factors(self.counts, split) if self.in_metrics else None

    def loss_factors(self) -> Weights | None:
        """Return how much a row of each class counts in the loss; None for one each."""
        return class_factors(self.counts, "train") if self.in_loss else None


def strata_of(
    settings: Settings, target_N: NDArray[Any], schedule: Schedule, *, classes: int
) -> Strata | None:
    """Count the classes of each split, and take from the run file what the counts are for.

    Args:
        settings: the run file.
        target_N: class indices of all rows.
        schedule: splits.
        classes: how many there are.

    Returns:
        None for a regression.
    """
    if settings.task.kind == "regression":
        return None
    stratify = settings.split.stratify
    return Strata(
        counts=class_counts(target_N.astype(np.int64), schedule, classes=max(2, classes)),
        in_metrics=stratify is not None,
        in_loss=stratify == "metrics and loss",
    )


def row_weights(target_N: NDArray[np.float64], factor_C: Weights) -> Weights:
    """Return how much each row counts, (N,)."""
    weight_N: Weights = factor_C[target_N.astype(np.int64)]
    return weight_N
