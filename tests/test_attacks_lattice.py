"""Lattice reduction of z: the hidden linear combination problem (Nguyen and Stern, CRYPTO 1999).

Z = X W holds over the integers with small X. Vectors u with u Z = 0 that are short are orthogonal to X too,
and enough of them give the lattice that the columns of X span, hence whole one-hot columns. The default test
takes 90 rows of the demo's table and 32 units for seconds; tests/campaign has up to 400.
"""

import numpy as np
import pytest
from fpylll import BKZ, LLL, IntegerMatrix
from numpy.typing import NDArray

from moiety.crypto.kernel import matmul
from moiety.crypto.sampling import Seed
from moiety.dither import DITHER_BITS, dither, row_digests
from moiety.protocol.blind import initial_weights
from moiety.ring import RingArray
from tests.attack_tools import credit_activations

UNITS = 32
EXACT_SHIFT = 12
"""z / 2^12 in the lattice's last columns: exact relations stay exact, inexact ones become expensive."""


def batch(rows: int, *, first: int = 0) -> NDArray[np.int16]:
    """Different rows of UCI credit: equal ones would be related by definition."""
    return np.unique(credit_activations()[first : first + 2 * rows], axis=0)[:rows]


def released(activation_ND: NDArray[np.int16], *, dithered: bool) -> RingArray:
    """z of a batch as the label owner gets it, under the first weights."""
    weights_DK = initial_weights(
        Seed(bytes([21]) * 32), in_features=activation_ND.shape[1], out_features=UNITS
    )
    z_NK = matmul(activation_ND, weights_DK)
    if not dithered:
        return z_NK
    return z_NK + dither(Seed(bytes([22]) * 32), weights_DK, row_digests(activation_ND))


def orthogonal_vectors(
    z_NK: RingArray, activation_ND: NDArray[np.int16], *, shift: int, block_size: int = 0
) -> int:
    """The attack: reduce [I | z / 2^shift]; count the vectors that are orthogonal to every feature."""
    rows, columns = z_NK.shape
    scaled = [[int(value) >> shift for value in row] for row in z_NK.view(np.int64)]
    basis = [[int(i == j) for j in range(rows)] + scaled[i] for i in range(rows)]
    matrix = IntegerMatrix.from_matrix(basis)
    LLL.reduction(matrix)
    if block_size:
        BKZ.reduction(matrix, BKZ.Param(block_size=block_size, flags=BKZ.AUTO_ABORT))
    u_RN = np.array(
        [[int(matrix[i, j]) for j in range(rows)] for i in range(rows)], dtype=object
    )
    relations = u_RN @ activation_ND.astype(object)
    nonzero = (u_RN != 0).any(axis=1)
    return int((nonzero & (relations == 0).all(axis=1)).sum())


def possible(activation_ND: NDArray[np.int16]) -> int:
    """How many independent vectors are orthogonal to every feature."""
    rank = int(np.linalg.matrix_rank(activation_ND.astype(np.float64)))
    return len(activation_ND) - rank
