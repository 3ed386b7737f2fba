"""Lattice reduction of z: the hidden linear combination problem (Nguyen and Stern, CRYPTO 1999).

Z = X W holds over the integers with small X. Vectors u with u Z = 0 that are short are orthogonal to X too,
and enough of them give the lattice that the columns of X span, hence whole one-hot columns. The default test
takes up to 220 rows of the demo's table at 32 units, for seconds; tests/campaign has up to 400 rows.
"""

import numpy as np
import pytest
from fpylll import BKZ, LLL, IntegerMatrix
from numpy.typing import NDArray

from moiety.contract.schedule import Split
from moiety.crypto.ring import RingArray
from moiety.protocol import data_owner
from moiety.protocol.dither import DITHER_BITS, row_digests
from moiety.protocol.simulate import Pair
from moiety.protocol.state import Features
from tests.support.attack_tools import credit_activations
from tests.support.pair import contract_of, data_terms, label_terms
from tests.support.randomness import RecordedRandomness

pytestmark = pytest.mark.slow

UNITS = 32


def batch(rows: int, *, first: int = 0) -> NDArray[np.int16]:
    """Different rows of UCI credit: equal ones would be related by definition."""
    return np.unique(credit_activations()[first : first + 2 * rows], axis=0)[:rows]


def released(activation_ND: NDArray[np.int16], *, dithered: bool) -> RingArray:
    """z of a batch as the label owner gets it, from a data owner with or without dither."""
    rows, columns = activation_ND.shape
    terms = {"rows": rows, "batch": rows, "validation": 0.0, "test": 0.0, "epochs": 1}
    contract = contract_of(
        label=label_terms(**terms, out_features=UNITS), data=data_terms(rows=rows, in_features=columns)
    )
    features = Features(activation_ND=activation_ND, digest_N=row_digests(activation_ND))
    with pytest.MonkeyPatch.context() as patch:
        if not dithered:
            patch.setattr(data_owner, "dither", lambda *_: np.zeros((rows, UNITS), dtype=np.uint64))
        pair = Pair(contract, features, randomness=RecordedRandomness(b"row 21"))
        handle = contract.schedule.batches(Split.ALL, epoch=0)[0]
        for block in pair.label_owner.request(handle, training=False):
            for answer in pair.data_owner.receive(block):
                pair.label_owner.receive(answer)
    return pair.label_owner.z()


def orthogonal_vectors(
    z_NK: RingArray, activation_ND: NDArray[np.int16], *, shift: int, block_size: int = 0
) -> int:
    """The attack: reduce [I | z / 2^shift]; count the vectors that are orthogonal to every feature."""
    rows = len(z_NK)
    scaled = [[int(value) >> shift for value in row] for row in z_NK.view(np.int64)]
    basis = [[int(i == j) for j in range(rows)] + scaled[i] for i in range(rows)]
    matrix = IntegerMatrix.from_matrix(basis)
    LLL.reduction(matrix)
    if block_size:
        BKZ.reduction(matrix, BKZ.Param(block_size=block_size, flags=BKZ.AUTO_ABORT))
    u_RN = np.array([[int(matrix[i, j]) for j in range(rows)] for i in range(rows)], dtype=object)
    relations = u_RN @ activation_ND.astype(object)
    nonzero = (u_RN != 0).any(axis=1)
    return int((nonzero & (relations == 0).all(axis=1)).sum())


def possible(activation_ND: NDArray[np.int16]) -> int:
    """How many independent vectors are orthogonal to every feature."""
    rank = int(np.linalg.matrix_rank(activation_ND.astype(np.float64)))
    return len(activation_ND) - rank


def test_lattice_reduction_of_exact_z() -> None:
    """The label owner reduces one batch of 220 rows, knowing neither W nor any row.

    Control, a data owner that adds no dither: every vector orthogonal to all features is found (169 of 169),
    in seconds. Ours is the next test.
    """
    activation_ND = batch(220)
    z_NK = released(activation_ND, dithered=False)
    assert possible(activation_ND) == 169
    assert orthogonal_vectors(z_NK, activation_ND, shift=0) == 169


@pytest.mark.parametrize(
    ("rows", "shift", "block_size"),
    [(220, DITHER_BITS - 1, 0), (110, DITHER_BITS - 1, 20), (110, 0, 0), (70, 0, 20)],
)
def test_lattice_reduction_of_dithered_z(rows: int, shift: int, block_size: int) -> None:
    """The same with dither of width 2^-5, the lattice scaled to the dither or not, by LLL and by BKZ-20.

    Control, the same batch without dither: all vectors. Ours: none.
    """
    activation_ND = batch(rows)
    exact = released(activation_ND, dithered=False)
    assert orthogonal_vectors(exact, activation_ND, shift=0) == possible(activation_ND) > 0
    z_NK = released(activation_ND, dithered=True)
    assert orthogonal_vectors(z_NK, activation_ND, shift=shift, block_size=block_size) == 0
