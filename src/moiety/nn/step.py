"""How large a step the interactive layer takes: dz becomes dz', at the label owner, in the clear.

The layer's weight is seen by nobody, so a rule that needs the weight gradient per entry (Adam) cannot run
on it; one that scales columns of dz can. Shapes: N rows, K out_features.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

DECAY: Final = 0.99
EPSILON: Final = 1e-8


class StepRule(Protocol):
    """Scales the gradient of z; W then moves by -a^T dz'."""

    learning_rate: float

    def scale(self, dz_NK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return dz', same shape, and advance the rule's own state."""
        ...

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Return what a saved run needs to be resumed."""
        ...

    def load(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Take what `state` returned."""
        ...


class AdaptiveStep:
    """Divide each column by the root of its running second moment.

    v_k <- 0.99 v_k + 0.01 sum over rows of dz_k^2, bias-corrected;
    dz'_k = learning rate x dz_k / (sqrt(v_k) + 1e-8).

    With E[(a_j dz_k)^2] = E[a_j^2] E[dz_k^2] approximately, this is Adam's second moment without seeing
    the weight gradient; there is no momentum, because a moving average of shares would need truncation.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._moment: NDArray[np.float64] | None = None
        self._steps = 0

    def scale(self, dz_NK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return dz' and update the moments."""
        square = np.square(dz_NK).sum(axis=0)
        before = np.zeros_like(square) if self._moment is None else self._moment
        self._moment = DECAY * before + (1 - DECAY) * square
        self._steps += 1
        corrected = self._moment / (1 - DECAY**self._steps)
        scaled: NDArray[np.float64] = self.learning_rate * dz_NK / (np.sqrt(corrected) + EPSILON)
        return scaled

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Return the moments and the number of steps."""
        moment = np.zeros(0) if self._moment is None else self._moment
        return {"moment": moment, "steps": np.array([float(self._steps)])}

    def load(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Take moments and steps back."""
        self._moment = state["moment"].copy() if state["moment"].size else None
        self._steps = int(state["steps"][0])


class PlainStep:
    """Plain stochastic gradient descent: dz' = learning rate x dz."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def scale(self, dz_NK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return dz'."""
        return self.learning_rate * dz_NK

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Return nothing: the rule has no state."""
        return {}

    def load(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Take nothing."""


STEP_RULES: Final[dict[str, type[AdaptiveStep] | type[PlainStep]]] = {
    "adaptive": AdaptiveStep,
    "sgd": PlainStep,
}
