"""How good scores are: AUC, KS, accuracy and root mean square error, in a few lines of NumPy."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def auc(target_N: Numbers, score_N: Numbers) -> float:
    """Return the area under the ROC curve: P(score of a 1 > score of a 0), ties counting one half.

    NaN where one class is missing.

    >>> auc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positives = float(np.count_nonzero(target_N == 1))
    negatives = float(len(target_N)) - positives
    _, place, counts = np.unique(score_N, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    above = float(ranks[place][target_N == 1].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives) if positives and negatives else float("nan")


def ks(target_N: Numbers, score_N: Numbers) -> float:
    """Return the Kolmogorov-Smirnov distance between the scores of the two classes; NaN without both.

    >>> ks(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.5
    """
    zeros, ones = np.sort(score_N[target_N == 0]), np.sort(score_N[target_N == 1])
    if not len(zeros) or not len(ones):
        return float("nan")
    thresholds = np.unique(score_N)
    below_zeros = np.searchsorted(zeros, thresholds, side="right") / len(zeros)
    below_ones = np.searchsorted(ones, thresholds, side="right") / len(ones)
    return float(np.abs(below_zeros - below_ones).max())


def accuracy(target_N: Numbers, score_NK: Numbers, weight_N: Numbers | None = None) -> float:
    """Return the share of rows whose largest score is the target's; each row counts by its weight."""
    return float(np.average(np.argmax(score_NK, axis=1) == target_N, weights=weight_N))


def rmse(target_N: Numbers, score_N: Numbers) -> float:
    """Return the root mean square error."""
    return float(np.sqrt(np.mean(np.square(target_N - score_N))))


SMALLER_IS_BETTER: Final = frozenset({"RMSE"})

METRICS: Final[dict[str, dict[str, Callable[..., float]]]] = {
    "binary": {"AUC": auc, "KS": ks},
    "multiclass": {"accuracy": accuracy},
    "regression": {"RMSE": rmse},
}


def measure(
    kind: str, target_N: Numbers, score: Numbers, *, weight_N: Numbers | None = None
) -> dict[str, float]:
    """Return the metrics of a task by name.

    Args:
        kind: of the task.
        target_N: targets.
        score: outputs, (N,) or (N, classes).
        weight_N: how much each row counts, the same for all rows of a class. AUC and KS compare the classes
            as wholes, and are the same with and without.
    """
    return {
        name: metric(target_N, score, weight_N) if metric is accuracy else metric(target_N, score)
        for name, metric in METRICS[kind].items()
    }
