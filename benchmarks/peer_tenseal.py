"""TenSEAL's CKKS as its documentation shows it: `CKKSTensor.mm` with rows in the slots, and `CKKSVector.mm`.

N = 8192, coefficient moduli of 60, 40 and 60 bits, scale 2^40, one thread; results are approximate. P is
encrypted (a row in each slot, or a row in each vector), M is plain. Circuit privacy: TenSEAL gives none; each
result gets an encryption of a mask added, whose noise is not enough to hide what a CKKS result's noise tells.
Both are scaled: the tensor from a few columns of M, the vector from a few rows of P.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import tenseal
from numpy.typing import NDArray

from benchmarks.measure import Record, Stages
from benchmarks.products import total_of
from benchmarks.scaling import linear, scaled_records
from benchmarks.shapes import Size, signed

DEGREE: Final = 8192
MODULUS_BITS: Final = (60, 40, 60)
SCALE_BITS: Final = 40
COLUMNS: Final = (4, 8, 12)
ROWS: Final = (1, 2, 4)
TOLERANCE: Final = 1e-3


class Tensor:
    """Rows of P in the slots of a ciphertext for each column; as many tensors as the rows need."""

    def __init__(self, size: Size) -> None:
        self._context = _context()
        self._plain_ND = signed(size.rows, size.contraction, b"plain", bits=15) / 2.0**12
        self._matrix_DK = signed(size.contraction, size.kept, b"matrix", bits=20) / 2.0**20
        self._mask_NK = signed(size.rows, size.kept, b"mask", bits=20) / 2.0**10

    def run(self, stages: Stages) -> None:
        """Compute the product once, and check it."""
        starts = range(0, len(self._plain_ND), DEGREE // 2)
        pieces = [self._plain_ND[start : start + DEGREE // 2] for start in starts]
        weights = _plain(self._matrix_DK)
        encrypted = stages.time("encrypt", lambda: [self._encrypt(each) for each in pieces])
        masks = [self._mask_NK[start : start + DEGREE // 2] for start in starts]
        answers = stages.time(
            "respond",
            lambda: [
                each.mm(weights) + self._encrypt(mask) for each, mask in zip(encrypted, masks, strict=True)
            ],
        )
        opened = stages.time("decrypt", lambda: [each.decrypt() for each in answers])
        result = np.concatenate([np.array(each.tolist()).reshape(-1, weights.shape[1]) for each in opened])
        _require_close(result - self._mask_NK, self._plain_ND @ self._matrix_DK)

    def _encrypt(self, matrix: NDArray[np.float64]) -> Any:
        cube = tenseal.plain_tensor(matrix.ravel().tolist(), [len(matrix), 1, matrix.shape[1]])
        return tenseal.ckks_tensor(self._context, cube, batch=True)


class Vector:
    """A row of P in each ciphertext."""

    def __init__(self, size: Size) -> None:
        self._context = _context()
        self._plain_ND = signed(size.rows, size.contraction, b"plain", bits=15) / 2.0**12
        self._matrix_DK = signed(size.contraction, size.kept, b"matrix", bits=20) / 2.0**20
        self._mask_NK = signed(size.rows, size.kept, b"mask", bits=20) / 2.0**10

    def run(self, stages: Stages) -> None:
        """Compute the product once, and check it."""
        rows, weights = self._plain_ND.tolist(), self._matrix_DK.tolist()
        encrypted = stages.time("encrypt", lambda: [tenseal.ckks_vector(self._context, row) for row in rows])
        masks = self._mask_NK.tolist()
        answers = stages.time(
            "respond",
            lambda: [
                each.mm(weights) + tenseal.ckks_vector(self._context, mask)
                for each, mask in zip(encrypted, masks, strict=True)
            ],
        )
        opened = stages.time("decrypt", lambda: [each.decrypt() for each in answers])
        _require_close(np.array(opened) - self._mask_NK, self._plain_ND @ self._matrix_DK)


def tenseal_records(sizes: tuple[Size, ...]) -> Iterator[Record]:
    """Measure the tensor on every size, the vector on the first."""
    for size in sizes:

        def of_columns(kept: int, size: Size = size) -> float:
            return _seconds(Tensor(Size(rows=size.rows, contraction=size.contraction, kept=kept)))

        scaled = linear("columns", COLUMNS, size.kept, of_columns)
        yield from scaled_records(scaled, size, "TenSEAL CKKSTensor N = 8192")
    size = sizes[0]
    scaled = linear("rows", ROWS, size.rows, lambda rows: _seconds(Vector(size.with_rows(rows))))
    yield from scaled_records(scaled, size, "TenSEAL CKKSVector N = 8192")


def _seconds(product: Tensor | Vector) -> float:
    stages = Stages()
    product.run(stages)
    return total_of(stages, warm_up=0).cpu[0]


def _context() -> Any:
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, DEGREE, -1, list(MODULUS_BITS), n_threads=1)
    context.global_scale = 2.0**SCALE_BITS
    context.generate_galois_keys()
    return context


def _plain(matrix: NDArray[np.float64]) -> Any:
    return tenseal.plain_tensor(matrix.ravel().tolist(), list(matrix.shape))


def _require_close(result: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    if np.abs(result - expected).max() > TOLERANCE:
        raise AssertionError("the result is not the product")
