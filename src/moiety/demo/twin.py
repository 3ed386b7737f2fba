"""The twin: the same training in the clear on the joined table, to compare with.

Same fixed-point activations, same initial weights, same batches, same update rule and rounding; no
encryption, no shares and, unless given, no dither. It needs what neither party has alone, so it is for
demonstrations and tests.
"""

import numpy as np
from numpy.typing import NDArray

from moiety.contract.schedule import RowHandle, Schedule
from moiety.crypto.kernel import matmul
from moiety.crypto.ring import (
    Z_BITS,
    RingArray,
    decode,
    decode_input_gradient,
    encode_gradients,
    encode_input_gradients,
)
from moiety.crypto.sampling import Seed, expand_words
from moiety.protocol.state import Activations


class TwinLink:
    """The interactive layer's arithmetic without the protocol: an `nn.Link`.

    Args:
        features: where the activations come from.
        weights_DK: W_0 in ring integers.
        schedule: which rows a handle means.
        rounding_seed: of the stochastic rounding of dz' and dz''.
        trains_bottom: da goes back to `features`.
    """

    def __init__(
        self,
        features: Activations,
        weights_DK: RingArray,
        *,
        schedule: Schedule,
        rounding_seed: Seed,
        trains_bottom: bool = False,
    ) -> None:
        self._features = features
        self._schedule = schedule
        self._rounding_seed = rounding_seed
        self._trains_bottom = trains_bottom
        self._activation_ND: NDArray[np.int16] = np.zeros((0, 0), dtype=np.int16)
        self.weights = weights_DK
        self.updates = 0

    def start(self, handle: RowHandle, *, training: bool) -> None:
        """Take the activations of a batch."""
        self._activation_ND, _ = self._features.batch(self._schedule.rows_of(handle), training=training)

    def result(self) -> NDArray[np.float64]:
        """Return z = x W, float64 (rows, out_features)."""
        return decode(matmul(self._activation_ND, self.weights), scale_bits=Z_BITS)

    def update(self, scaled_NK: NDArray[np.float64], dz_NK: NDArray[np.float64]) -> None:
        """Move W by -x^T dz' with the same rounding as the label owner's, and give da back."""
        rounded, _ = encode_gradients(scaled_NK, self._words(b"rounding", scaled_NK))
        before = self.weights
        self.weights = before - matmul(np.ascontiguousarray(self._activation_ND.T), rounded)
        if self._trains_bottom:
            words = self._words(b"input rounding", dz_NK)
            input_NK, _ = encode_input_gradients(len(dz_NK) * dz_NK, words)
            self._features.backward(decode_input_gradient(input_NK.view(np.uint64) @ before.T))
        self.updates += 1

    def share(self) -> RingArray:
        """Return W."""
        return self.weights

    def go_back(self, epoch: int, share_DK: RingArray) -> None:
        """Return W, and a bottom model, to the end of an epoch."""
        self._features.go_back(epoch)
        self.weights = share_DK

    def _words(self, purpose: bytes, like_NK: NDArray[np.float64]) -> NDArray[np.uint64]:
        words = expand_words(self._rounding_seed, purpose, index=self.updates, count=like_NK.size)
        return words.reshape(like_NK.shape)
