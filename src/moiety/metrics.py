"""How good scores are: AUC, KS, accuracy and root mean square error, in a few lines of NumPy."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def auc(target_N: Numbers, score_N: Numbers) -> float:
    """Return the area under the ROC curve: P(score of a 1 > score of a 0), ties counting one half.

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
    """Return the Kolmogorov-Smirnov distance between the scores of the two classes.

    >>> ks(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.5
    """
    thresholds = np.unique(score_N)
    shares = [
        np.searchsorted(np.sort(score_N[target_N == label]), thresholds, side="right")
        / max(1, np.count_nonzero(target_N == label))
        for label in (0, 1)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def accuracy(target_N: Numbers, score_NK: Numbers) -> float:
    """Return the share of rows whose largest score is the target's."""
    return float(np.mean(np.argmax(score_NK, axis=1) == target_N))


def rmse(target_N: Numbers, score_N: Numbers) -> float:
    """Return the root mean square error."""
    return float(np.sqrt(np.mean(np.square(target_N - score_N))))


METRICS: Final[dict[str, dict[str, Callable[[Numbers, Numbers], float]]]] = {
    "binary": {"AUC": auc, "KS": ks},
    "multiclass": {"accuracy": accuracy},
    "regression": {"RMSE": rmse},
}
