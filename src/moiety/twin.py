"""The twin: the same training in the clear on the joined table, to compare with.

Same fixed-point features, same initial weights, same batches, same update rule and rounding; no
encryption, no shares and, unless given, no dither. It needs what neither party has alone, so it is for
demonstrations and tests.
"""

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.kernel import matmul
from moiety.crypto.sampling import Seed, expand_words
from moiety.ring import Z_BITS, RingArray, decode, encode_gradients
from moiety.schedule import RowHandle, Schedule


class TwinLink:
    """The interactive layer's arithmetic without the protocol: an `nn.Link`.

    Args:
        activation_ND: int16 activations of all rows.
        weights_DK: W_0 in ring integers.
        schedule: which rows a handle means.
        rounding_seed: of the stochastic rounding of dz'.
    """

    def __init__(
        self,
        activation_ND: NDArray[np.int16],
        weights_DK: RingArray,
        *,
        schedule: Schedule,
        rounding_seed: Seed,
    ) -> None:
        self._activation = activation_ND
        self._schedule = schedule
        self._rounding_seed = rounding_seed
        self._rows = np.zeros(0, dtype=np.int64)
        self.weights = weights_DK
        self.updates = 0

    def start(self, handle: RowHandle, *, training: bool) -> None:  # noqa: ARG002 - as the protocol's
        """Note which batch is meant."""
        self._rows = self._schedule.rows_of(handle)

    def result(self) -> NDArray[np.float64]:
        """Return z = x W, float64 (rows, out_features)."""
        return decode(matmul(self._activation[self._rows], self.weights), scale_bits=Z_BITS)

    def update(self, scaled_NK: NDArray[np.float64]) -> None:
        """Move W by -x^T dz' with the same rounding as the label owner's."""
        words = expand_words(self._rounding_seed, b"rounding", index=self.updates, count=scaled_NK.size)
        rounded, _ = encode_gradients(scaled_NK, words.reshape(scaled_NK.shape))
        transposed = np.ascontiguousarray(self._activation[self._rows].T)
        self.weights = self.weights - matmul(transposed, rounded)
        self.updates += 1
