"""What per-row gradients say about labels: the data owner's attacks, run by the label owner on itself.

A data owner that is handed da = dz W^T for each row (protocols `joint` and `acml`) scores its rows by the
functions below; the area under the ROC curve of a score says how well it tells the labels: 0.5 is chance,
1.0 is every label but for the naming of the classes. da is a linear image of dz, so the label owner
measures on its own dz what the data owner finds in da. For gradients of a network, which keep to few
directions, the two figures agree within a few hundredths; in dz that is mostly noise, they need not.

Pure NumPy, nothing of size rows x rows. Sends nothing. These attacks are lower bounds: a low figure here
proves nothing. Shapes: N rows, D columns of the gradient.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.errors import NonFiniteError, ParameterError
from moiety.nn.metrics import auc

Numbers = NDArray[np.float64]

CHANCE: Final = 0.5
KINDS: Final = ("binary", "multiclass", "regression")


def norm_attack(gradient_ND: Numbers) -> Numbers:
    """Score each row by the length of its gradient.

    The attacker knows nothing but its gradients. |dz| grows with |p - y|, so the rarer class, which the
    network gets wrong, has the longer rows; with balanced labels and weak features this attack is the
    poorest of the three.

    Reference:
        Li et al., Label leakage and protection in two-party split learning, ICLR 2022 (arXiv:2102.08504),
        section 3.1

    >>> norm_attack(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([5., 0.])
    """
    norm_N: Numbers = np.sqrt(np.einsum("nd,nd->n", gradient_ND, gradient_ND))
    return norm_N


def direction_attack(gradient_ND: Numbers, *, known_D: Numbers | None = None) -> Numbers:
    """Score each row by the cosine of its gradient with one direction.

    dz = (p - y) x (slope of the top network), so the two classes of a binary target point to opposite
    sides. A row of zeros has no direction and scores 0.

    Args:
        gradient_ND: one gradient per row.
        known_D: the gradient of a row whose class the attacker knows. None: it knows no label and takes the
            first principal direction of the normalised rows; which side is which class stays open.

    Reference:
        Li et al., ICLR 2022 (arXiv:2102.08504), section 3.2

    >>> direction_attack(np.array([[2.0, 0.0], [-1.0, 0.0]]), known_D=np.array([3.0, 0.0]))
    array([ 1., -1.])
    """
    norm_N = norm_attack(gradient_ND)
    inverse_N = np.divide(1.0, norm_N, out=np.zeros_like(norm_N), where=norm_N > 0)
    if known_D is None:
        unit_ND = gradient_ND * inverse_N[:, None]
        direction_D = _first_direction(unit_ND.T @ unit_ND)
    else:
        length = float(np.linalg.norm(known_D))
        direction_D = known_D / length if length else known_D
    cosine_N: Numbers = (gradient_ND @ direction_D) * inverse_N
    return cosine_N


def spectral_attack(gradient_ND: Numbers) -> Numbers:
    """Score each row by how far out it lies along the first singular vector of the centred gradients.

    The attacker knows nothing but its gradients. The sign is kept: with rare positives they are the
    outliers on one side, and with balanced labels the two classes are the two sides.

    Reference:
        Sun et al., arXiv:2203.01451, section 4; Yang et al., arXiv:2203.02073; after Tran et al., Spectral
        signatures in backdoor attacks, NeurIPS 2018, algorithm 1

    >>> abs(spectral_attack(np.array([[1.0, 5.0], [3.0, 5.0]])))
    array([1., 1.])
    """
    mean_D = gradient_ND.mean(axis=0) if len(gradient_ND) else np.zeros(gradient_ND.shape[1])
    centred_ND = gradient_ND - mean_D
    outlier_N: Numbers = centred_ND @ _first_direction(centred_ND.T @ centred_ND)
    return outlier_N


def label_leakage(gradient_ND: Numbers, target_N: NDArray[np.generic], *, kind: str) -> dict[str, float]:
    """Measure how well a data owner that gets these gradients tells the target.

    Args:
        gradient_ND: dz or da, one row per record; of many batches together, in any order. The batch's mean
            may be left in if all batches are about equally large.
        target_N: 0 and 1, class numbers, or real values.
        kind: "binary"; "multiclass": the largest figure of one class against the rest, where the direction
            is that of one known row of the class; "regression": target above its median.

    Returns:
        For each of "norm", "direction" and "spectral" the area under the ROC curve, folded to at least 0.5;
        0.5 where there is only one class.

    Raises:
        ParameterError: another kind, or not one gradient per target.
        NonFiniteError: a gradient is NaN or infinite.

    Leaks:
        Nothing: runs on the label owner's machine.

    Reference:
        as the three attacks

    >>> gradient = np.array([[0.5, 0.0], [0.4, 0.1], [-0.5, 0.0], [-0.4, -0.1]])
    >>> label_leakage(gradient, np.array([0, 0, 1, 1]), kind="binary")
    {'norm': 0.5, 'direction': 1.0, 'spectral': 1.0}
    """
    gradient = np.asarray(gradient_ND, dtype=np.float64)
    _check(gradient, target_N, kind)
    norm_N, spectral_N = norm_attack(gradient), spectral_attack(gradient)
    if kind == "multiclass":
        classes = [target_N == each for each in np.unique(target_N)]
        directions = [direction_attack(gradient, known_D=_example(gradient, each)) for each in classes]
    else:
        classes = [target_N == 1 if kind == "binary" else _above_median(target_N)]
        directions = [direction_attack(gradient)]
    return {
        "norm": _largest(classes, [norm_N] * len(classes)),
        "direction": _largest(classes, directions),
        "spectral": _largest(classes, [spectral_N] * len(classes)),
    }


def folded_auc(label_N: NDArray[np.bool_], score_N: Numbers) -> float:
    """Return the area under the ROC curve folded to at least 0.5; 0.5 where one class is missing.

    >>> folded_auc(np.array([True, False]), np.array([0.0, 1.0]))
    1.0
    """
    area = auc(label_N.astype(np.float64), score_N)
    return CHANCE if np.isnan(area) else max(area, 1.0 - area)


def _largest(classes: list[NDArray[np.bool_]], scores: list[Numbers]) -> float:
    figures = (folded_auc(label_N, score_N) for label_N, score_N in zip(classes, scores, strict=True))
    return max(figures, default=CHANCE)


def _example(gradient_ND: Numbers, label_N: NDArray[np.bool_]) -> Numbers:
    """Pick the known row of a class: its first that is not all zeros, or zeros."""
    usable_N = label_N & gradient_ND.any(axis=1)
    example_D: Numbers = gradient_ND[int(usable_N.argmax())] * float(usable_N.any())
    return example_D


def _above_median(target_N: NDArray[np.generic]) -> NDArray[np.bool_]:
    values = target_N.astype(np.float64)
    return values > (np.median(values) if len(values) else 0.0)


def _first_direction(moment_DD: Numbers) -> Numbers:
    """Return the eigenvector of the largest eigenvalue; D x D, so that the rows cost one product."""
    direction_D: Numbers = np.linalg.eigh(moment_DD)[1][:, -1]
    return direction_D


def _check(gradient_ND: Numbers, target_N: NDArray[np.generic], kind: str) -> None:
    if kind not in KINDS:
        raise ParameterError(f"{kind!r} is no kind of target", hint=f"use one of {', '.join(KINDS)}")
    if gradient_ND.ndim != 2 or target_N.shape != gradient_ND.shape[:1]:  # noqa: PLR2004 - rows x columns
        raise ParameterError(
            f"gradients of shape {gradient_ND.shape} do not fit targets of shape {target_N.shape}",
            hint="pass one row of gradients per target",
        )
    if not np.isfinite(gradient_ND).all():
        raise NonFiniteError(
            "a gradient is not finite", hint="lower the learning rate, or look for a division by zero"
        )
