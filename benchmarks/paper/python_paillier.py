"""The paper's flow as users of python-paillier write it: NumPy arrays of EncryptedNumber.

Every product of a step is under the data owner's key, masks are floats, results go back as they are. The
library (`phe`, GPL) is imported when it is used, and only by benchmarks: nothing that is shipped imports it.

    data owner -> label owner   Enc(x), each element
    label owner -> data owner   Enc(x) W_label + mask           the data owner decrypts, adds x W_data
    label owner -> data owner   dz^T Enc(x) + mask              the data owner decrypts once a batch
    data owner -> label owner   Enc(W_data), each element, once a batch
    label owner -> data owner   dz (Enc(W_data) + W_label)^T    the data owner decrypts da

Shapes: N rows, D in_features, K out_features.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper.cost import Cost, Counts, predicted

Reals = NDArray[np.float64]

ENCRYPT: Final = "encrypt x"
FORWARD: Final = "Enc(x) W"
DECRYPT: Final = "decrypt z"
INPUT_GRADIENT: Final = "dz Enc(W_data)^T"
OPEN_INPUT_GRADIENT: Final = "decrypt da"
WEIGHT_GRADIENT: Final = "dz^T Enc(x)"
OPEN_GRADIENT: Final = "open the weight gradient"
ENCRYPT_WEIGHTS: Final = "encrypt W_data"
PER_BATCH: Final = (OPEN_GRADIENT, ENCRYPT_WEIGHTS)


@dataclass(frozen=True, kw_only=True, repr=False)
class Batch:
    """One batch and both shares of the weights.

    Args:
        x_ND: activations.
        data_DK: the data owner's share of W.
        label_DK: the label owner's.
        dz_NK: gradient, as the top model gave it.
        mask_NK: of z.
        mask_DK: of the weight gradient.
    """

    x_ND: Reals
    data_DK: Reals
    label_DK: Reals
    dz_NK: Reals
    mask_NK: Reals
    mask_DK: Reals

    @classmethod
    def draw(cls, *, rows: int, in_features: int, units: int, seed: int) -> "Batch":
        """Draw numbers of the usual size."""
        x, w, z = (rows, in_features), (in_features, units), (rows, units)
        scales = (1.0, in_features**-0.5, in_features**-0.5, 0.1, 1.0, 1.0)
        sized = zip(scales, (x, w, w, z, z, w), strict=True)
        state = np.random.default_rng(seed)  # noqa: TID251 - test data
        drawn = [scale * state.uniform(-1, 1, shape) for scale, shape in sized]
        names = ("x_ND", "data_DK", "label_DK", "dz_NK", "mask_NK", "mask_DK")
        return cls(**dict(zip(names, drawn, strict=True)))


@dataclass(kw_only=True, repr=False)
class Step:
    """One step under a key pair of python-paillier; `seconds` by stage."""

    public: Any
    private: Any
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def run(self, batch: Batch) -> tuple[Reals, Reals, Reals]:
        """Return z, the weight gradient and da."""
        x_ND = self._timed(ENCRYPT, lambda: self._encrypt(batch.x_ND))
        masked_NK = self._timed(FORWARD, lambda: x_ND.dot(batch.label_DK) + batch.mask_NK)
        opened_NK = self._timed(DECRYPT, lambda: self._decrypt(masked_NK))
        z_NK = opened_NK + batch.x_ND @ batch.data_DK - batch.mask_NK
        masked_DK = self._timed(WEIGHT_GRADIENT, lambda: x_ND.T.dot(batch.dz_NK) + batch.mask_DK)
        update_DK = self._timed(OPEN_GRADIENT, lambda: self._decrypt(masked_DK)) - batch.mask_DK
        return z_NK, update_DK, self._input_gradient(batch)

    def _input_gradient(self, batch: Batch) -> Reals:
        data_DK = self._timed(ENCRYPT_WEIGHTS, lambda: self._encrypt(batch.data_DK))
        clear_ND = batch.dz_NK @ batch.label_DK.T
        answer_ND = self._timed(INPUT_GRADIENT, lambda: data_DK.dot(batch.dz_NK.T).T + clear_ND)
        input_ND: Reals = self._timed(OPEN_INPUT_GRADIENT, lambda: self._decrypt(answer_ND))
        return input_ND

    def _encrypt(self, matrix: Reals) -> NDArray[np.object_]:
        numbers = [self.public.encrypt(value) for value in matrix.ravel().tolist()]
        return np.array(numbers, dtype=object).reshape(matrix.shape)

    def _decrypt(self, matrix: NDArray[np.object_]) -> Reals:
        return np.array([self.private.decrypt(each) for each in matrix.ravel()]).reshape(matrix.shape)

    def _timed(self, stage: str, work: Any) -> Any:
        start = time.process_time()
        result = work()
        self.seconds[stage] += time.process_time() - start
        return result


def measure(
    *, key_bits: int, rows: int, in_features: int, units: int, bottom: bool, known: Counts | None = None
) -> Cost:
    """Run one step on a few rows.

    Args:
        key_bits: size of n.
        rows: of the batch.
        in_features: D.
        units: K.
        bottom: whether the step computes da; without a bottom model nobody needs it.
        known: seconds of one operation of each stage, from another shape; what they predict is noted.
    """
    public, private = import_module("phe").generate_paillier_keypair(n_length=key_bits)
    step = Step(public=public, private=private)
    batch = Batch.draw(rows=rows, in_features=in_features, units=units, seed=1)
    error = largest_error(batch, step.run(batch))
    counts = _counts(in_features=in_features, units=units, bottom=bottom)
    shares = {stage: step.seconds[stage] / (1 if stage in PER_BATCH else rows) for stage in counts}
    row_counts = {stage: count for stage, count in counts.items() if stage not in PER_BATCH}
    return Cost(
        system="acml, python-paillier",
        network=f"{in_features} x {units}{'' if bottom else ', no bottom model'}",
        key_bits=key_bits,
        rows=rows,
        seconds_per_row=sum(shares[stage] for stage in row_counts),
        ahead_per_row=0.0,
        seconds_per_batch=sum(shares[stage] for stage in counts if stage in PER_BATCH),
        seconds=shares,
        counts=counts,
        predicted_per_row=None if known is None else predicted(row_counts, known),
        largest_error=error,
    )


def largest_error(batch: Batch, results: tuple[Reals, Reals, Reals]) -> float:
    """Compare z, the weight gradient and da with the clear computation."""
    weight_DK = batch.data_DK + batch.label_DK
    expected = (batch.x_ND @ weight_DK, batch.x_ND.T @ batch.dz_NK, batch.dz_NK @ weight_DK.T)
    return float(max(abs(one - other).max() for one, other in zip(results, expected, strict=True)))


def _counts(*, in_features: int, units: int, bottom: bool) -> dict[str, float]:
    """Count encryptions, multiplications or decryptions of each stage: of a row, or of a batch."""
    product = in_features * units
    counts = {ENCRYPT: in_features, FORWARD: product, DECRYPT: units, WEIGHT_GRADIENT: product}
    counts[OPEN_GRADIENT] = product
    if bottom:
        counts |= {ENCRYPT_WEIGHTS: product, INPUT_GRADIENT: product, OPEN_INPUT_GRADIENT: in_features}
    return {stage: float(count) for stage, count in counts.items()}
