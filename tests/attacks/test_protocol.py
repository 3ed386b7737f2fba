"""Attacks on the protocol `blind`: each reaches its figure on a broken build, and fails on ours.

Sizes are chosen for seconds; the full ones are in tests/campaign.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.schedule import RowHandle, Split
from moiety.crypto.ring import WEIGHT_BITS, RingArray, decode
from moiety.crypto.sampling import Seed
from moiety.errors import PolicyError
from moiety.protocol.blind import BlindDataOwner
from moiety.protocol.dither import row_digests
from moiety.protocol.messages import Block, Kind
from moiety.protocol.product import matrix_blocks
from moiety.protocol.simulate import Pair, handshake
from moiety.protocol.state import Features, State, initial_weights
from tests.support.attack_tools import chi_square_p, correlation, credit_activations, folded_auc
from tests.support.pair import contract_of, data_terms, label_terms, training_handles
from tests.support.randomness import RecordedRandomness, words_of

ONE = 2**12  # an activation of 1.0
FROM_DATA_OWNER = {Kind.INITIAL_SHARE, Kind.MASKED_Z, Kind.SHARE_OF_Z, Kind.MASKED_UPDATE}


def features_of(activation_ND: NDArray[np.int16]) -> Features:
    return Features(activation_ND=activation_ND, digest_N=row_digests(activation_ND))


def pair_of(
    contract: Contract, activation_ND: NDArray[np.int16], *, name: bytes, seen: list[Block] | None = None
) -> Pair:
    """Both roles with recorded seeds; every block goes to `seen`."""
    observe: Callable[[Block], None] = (lambda _: None) if seen is None else seen.append
    return Pair(contract, features_of(activation_ND), randomness=RecordedRandomness(name), observe=observe)


def outline(blocks: Iterable[Block]) -> list[tuple[Kind, int, int, int, int]]:
    """What of blocks is not payload: kinds, steps, numbers, counts and sizes."""
    return [(each.kind, each.step, each.index, each.count, len(each.payload)) for each in blocks]


def bits_of(name: str, rows: int, columns: int) -> NDArray[np.int16]:
    """Binary features as activations of 0 and 1."""
    words = words_of(name, rows * columns).reshape(rows, columns)
    return ((words & np.uint64(1)) * np.uint64(ONE)).astype(np.int16)


# --- row 10


def rectified(name: str, rows: int, columns: int) -> NDArray[np.int16]:
    """Features with the zeros that a ReLU leaves."""
    words = words_of(name, rows * columns).reshape(rows, columns)
    return np.maximum(words.astype(np.uint16).view(np.int16), 0)


def clear_exponents(values: NDArray[np.float64]) -> bytes:
    """A broken codec, the paper's: mantissas encrypted (here masked), exponents in the clear."""
    mantissas, exponents = np.frexp(values)
    masked = mantissas.view(np.uint64) + words_of("mantissas", values.size).reshape(values.shape)
    return masked.tobytes() + exponents.astype(np.int8).tobytes()


def without_trailing_zeros(values: NDArray[np.int16]) -> bytes:
    """A broken codec that saves space where the data allow it."""
    return values.tobytes().rstrip(b"\0")


def test_lengths_and_zero_patterns_papers_codec() -> None:
    """The network reads exponents and lengths. Control of the next test.

    The zero pattern of a ReLU's output comes back exactly from the exponents (AUC 1), and an all-zero table
    has a length of its own.
    """
    values = rectified("control", 64, 8)
    message = clear_exponents(values.astype(np.float64))
    exponents = np.frombuffer(message[8 * values.size :], dtype=np.int8)
    zero = (values.ravel() == 0).astype(np.int64)
    assert folded_auc((exponents == 0).astype(np.float64), zero) > 0.99
    tables = [rectified(str(number), 4, 2) for number in range(99)]
    lengths = {len(without_trailing_zeros(each)) for each in [*tables, np.zeros((4, 2), dtype=np.int16)]}
    assert len(lengths) > 1


@pytest.mark.slow
def test_lengths_and_zero_patterns_over_data_sets() -> None:
    """The network and the peer compare the messages of 1000 tables, ReLU zeros and all-zero ones among them.

    Control: the test above. Ours: one outline for all 1000; the bytes of an all-zero table's answer are as
    uniform as any (chi-square), and the share's words say nothing about which rows are zero.
    """
    label = label_terms(rows=8, batch=8, validation=0.0, test=0.0, epochs=1, out_features=2)
    contract = contract_of(label=label, data=data_terms(rows=8, in_features=4))
    handle = training_handles(contract)[0]
    outlines, zeros = set(), bytearray()
    for number in range(1000):
        seen: list[Block] = []
        table = np.zeros((8, 4), np.int16) if number % 10 == 0 else rectified(f"set {number}", 8, 4)
        pair = pair_of(contract, table, name=number.to_bytes(2, "little"), seen=seen)
        pair.forward(handle, training=True)
        gradients = np.zeros((8, 2)) if number % 3 == 0 else np.ones((8, 2))
        pair.update(gradients.astype(np.uint64))
        outlines.add(tuple(outline(seen)))
        if number % 10 == 0:
            zeros += b"".join(each.payload for each in seen if each.kind is Kind.SHARE_OF_Z)
    assert len(outlines) == 1
    assert chi_square_p(np.frombuffer(bytes(zeros), dtype=np.uint8)) > 1e-6


def test_lengths_and_zero_patterns_in_shares() -> None:
    """The network looks for zero rows in the words of SHARE_OF_Z and the residues of MASKED_Z.

    Control: z itself, where an all-zero row stands out (AUC 1). Ours: AUC within four standard errors of 0.5.
    """
    rows = 1024
    table = rectified("half", rows, 8)
    zero_N = (words_of("zero rows", rows) & np.uint64(1)).astype(np.int64)
    table[zero_N == 1] = 0
    label = label_terms(rows=rows, batch=rows, validation=0.0, test=0.0, epochs=1, out_features=2)
    contract = contract_of(label=label, data=data_terms(rows=rows, in_features=8))
    handle = training_handles(contract)[0]
    seen: list[Block] = []
    z_NK = pair_of(contract, table, name=b"row 10", seen=seen).forward(handle, training=False)
    labels = zero_N[contract.schedule.rows_of(handle)]
    share = b"".join(each.payload for each in seen if each.kind is Kind.SHARE_OF_Z)
    words = np.abs(np.frombuffer(share, dtype=np.int64).reshape(rows, 2).astype(np.float64))
    bar = 0.5 + 4 * sqrt(1 / (12 * rows / 4))
    assert folded_auc(np.abs(z_NK[:, 0]), labels) > 0.99
    assert folded_auc(words[:, 0], labels) < bar
    assert folded_auc(words.min(axis=1), labels) < bar


# --- row 12

INPUTS, WIDE, ROWS = 8, 16, 512


def binary_columns(z_NK: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """The attack (arXiv 2210.06771): find the 0/1 columns in the column space of z.

    A column is fixed by its values on as many independent rows as there are inputs, so all 2^inputs guesses
    are tried; one that is 0/1 on every row is a feature.
    """
    basis_ND = np.linalg.svd(z_NK, full_matrices=False)[0][:, :INPUTS]
    rows: list[int] = []
    left = basis_ND.copy()
    for _ in range(INPUTS):  # pivoted rows: well-conditioned
        rows.append(int(np.square(left).sum(axis=1).argmax()))
        direction = left[rows[-1]] / np.linalg.norm(left[rows[-1]])
        left = left - np.outer(left @ direction, direction)
    guesses = np.array(list(product((0.0, 1.0), repeat=INPUTS)))[1:]
    columns = basis_ND @ np.linalg.solve(basis_ND[rows], guesses.T)
    distance = np.abs(columns - np.clip(np.rint(columns), 0, 1)).max(axis=0)
    best = np.argsort(distance)[:INPUTS]
    return [np.clip(np.rint(columns[:, each]), 0, 1).astype(np.int64) for each in best]


def test_linear_inversion_of_z() -> None:
    """A label owner asks for more units than there are features and solves for 0/1 features from one batch.

    Control, `wide_layer` allowed: 0.999 of all features' values. Ours: the default policy refuses the
    handshake, naming out_features, at equal width too.
    """
    terms = {"rows": ROWS, "batch": ROWS, "validation": 0.0, "test": 0.0, "epochs": 1}
    label = label_terms(**terms, out_features=WIDE)
    owner = data_terms(rows=ROWS, in_features=INPUTS, policy={"wide_layer": True})
    contract = contract_of(label=label, data=owner)
    contract.check()
    table = bits_of("row 12", ROWS, INPUTS)
    handle = training_handles(contract)[0]
    z_NK = pair_of(contract, table, name=b"row 12").forward(handle, training=True)
    found = binary_columns(z_NK)
    truth = (table[contract.schedule.rows_of(handle)] // ONE).astype(np.int64)
    agreed = [max(float((column == each).mean()) for each in found) for column in truth.T]
    assert np.mean(agreed) >= 0.999

    for width in (WIDE, INPUTS):
        with pytest.raises(PolicyError) as caught:
            handshake(label_terms(**terms, out_features=width), data_terms(rows=ROWS, in_features=INPUTS))
        assert caught.value.limit == "wide_layer"


# --- row 22


class FirstBatch:
    """What the label owner has after the first batch: its share, z, and the public covariance of features."""

    def __init__(self, *, seed: int) -> None:
        table = credit_activations()
        rows = words_of(f"row 22 {seed}", len(table)).argsort()
        self.table, self._known = table[rows[:1024]], decode_activations(table[rows[1024:9216]])
        terms = {"rows": 1024, "batch": 1024, "validation": 0.0, "test": 0.0, "epochs": 1}
        self._contract = contract_of(
            label=label_terms(**terms, out_features=32),
            data=data_terms(rows=1024, in_features=91, policy={"released_z_per_row": 640}),
            production=True,
        )
        self._name = bytes([seed])

    def figures(self) -> tuple[float, float, float]:
        """The attack: estimate x from z by the own summand of W_0.

        Returns R2 with the covariance, squared correlation without, and how many of 40 shares that have
        nothing to do with the run do as well as the own one.
        """
        pair = pair_of(self._contract, self.table, name=self._name)
        share_DK = at_usual_scale(pair.label_owner.share)
        handle = training_handles(self._contract)[0]
        z_NK = pair.forward(handle, training=True)
        z_NK = z_NK - z_NK.mean(axis=0)
        x_ND = decode_activations(self.table[self._contract.schedule.rows_of(handle)])
        x_ND = x_ND - x_ND.mean(axis=0)
        covariance = np.cov(self._known.T)
        alike = np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
        informed = estimate(z_NK, covariance, share_DK)
        explained = 1 - float(np.square(x_ND - informed).sum() / np.square(x_ND).sum())
        unrelated = (
            at_usual_scale(words_of(str(k), share_DK.size).reshape(share_DK.shape)) for k in range(100)
        )
        chance = [correlation(estimate(z_NK, covariance, each), x_ND) for each in unrelated]
        as_good = sum(each >= correlation(informed, x_ND) for each in chance)
        return explained, correlation(estimate(z_NK, alike, share_DK), x_ND) ** 2, as_good


def decode_activations(activation_ND: NDArray[np.int16]) -> NDArray[np.float64]:
    return activation_ND.astype(np.float64) / ONE


def at_usual_scale(share_DK: RingArray) -> NDArray[np.float64]:
    """Read a share as weights, scaled to the deviation that a draw of W_0 has."""
    weights = decode(share_DK, scale_bits=WEIGHT_BITS)
    deviation = float(weights.std())
    return weights / (deviation * sqrt(3 * len(weights)))


def estimate(
    z_NK: NDArray[np.float64], covariance_DD: NDArray[np.float64], summand_DK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Estimate x linearly from z = x H + x U, H known, U uniform in +-1/sqrt(D).

    cov(x, z) = C H and, on average over U, cov(z) = H^T C H + trace(C) / 3D.
    """
    unknown = np.trace(covariance_DD) / (3 * len(covariance_DD))
    spread_KK = summand_DK.T @ covariance_DD @ summand_DK + unknown * np.eye(summand_DK.shape[1])
    estimated: NDArray[np.float64] = z_NK @ np.linalg.solve(spread_KK, summand_DK.T @ covariance_DD)
    return estimated


@pytest.mark.slow
def test_first_batch_regression_with_own_summand(monkeypatch: pytest.MonkeyPatch) -> None:
    """UCI credit, 32 units, 1024 rows: the label owner regresses x on z by what it knows of W_0.

    It knows the covariance of the features from 8192 other rows. Control, each party draws half of W_0 and
    keeps it: R2 over 0.44 with the covariance, 0.155 without, and no unrelated share does as well. Ours, W_0
    minus a uniform mask: R2 <= 0.01 both ways, and unrelated shares do as well. 3 seeds.
    """

    def halves(self: BlindDataOwner, weight_seed: Seed) -> Iterable[Block]:
        """Each draws a summand: own one kept, the other sent as the label owner's own draw."""
        draw = partial(
            initial_weights,
            in_features=self._contract.in_features,
            out_features=self._contract.out_features,
        )
        self._share = draw(weight_seed)
        self._state = State.IDLE
        other = draw(Seed(bytes(reversed(weight_seed))))
        return matrix_blocks(Kind.INITIAL_SHARE, other, step=0)

    ours = np.array([FirstBatch(seed=seed).figures() for seed in range(3)])
    assert ours[:, :2].max() <= 0.01
    assert ours[:, 2].min() > 0
    monkeypatch.setattr(BlindDataOwner, "open", halves)
    control = np.array([FirstBatch(seed=seed).figures() for seed in range(3)])
    assert control[:, 0].min() >= 0.44
    assert control[:, 1].min() >= 0.155
    assert control[:, 2].max() == 0


# --- row 25


def all_rows(contract: Contract) -> RowHandle:
    return contract.schedule.batches(Split.ALL, epoch=0)[0]


def repeated(pair: Pair, handle: RowHandle, times: int, *, fresh: bool) -> NDArray[np.float64]:
    """Ask `times` for z of the same rows; a broken data owner takes a fresh dither key each time."""
    answers = []
    keys = RecordedRandomness(b"fresh dither keys")
    for _ in range(times):
        if fresh:
            pair.data_owner._dither_key = keys.seed()
        answers.append(pair.forward(handle, training=False))
    return np.array(answers)


def test_repeated_prediction_averages_nothing() -> None:
    """The label owner asks 64 times for z of the same rows under the same weights and averages.

    Control, fresh dither each time: the error of the mean of 64 is an eighth of one answer's, as 1/sqrt(m).
    Ours: 64 equal answers, spread zero.
    """
    terms = {"rows": 64, "batch": 64, "validation": 0.0, "test": 0.0, "epochs": 1}
    contract = contract_of(label=label_terms(**terms), data=data_terms(rows=64))
    table = rectified("row 25", 64, 5)
    handle = all_rows(contract)
    pair = pair_of(contract, table, name=b"row 25")
    assert not np.ptp(repeated(pair, handle, 64, fresh=False), axis=0).any()

    weights = decode(pair.weights(), scale_bits=WEIGHT_BITS)
    error = repeated(pair, handle, 64, fresh=True) - decode_activations(table) @ weights
    single = float(np.sqrt(np.square(error).mean()))
    averaged = float(np.sqrt(np.square(error.mean(axis=0)).mean()))
    assert single == pytest.approx(2**-5 / sqrt(12), rel=0.05)
    assert single / averaged == pytest.approx(sqrt(64), rel=0.2)


def resumed(contract: Contract, table: NDArray[np.int16], before: Pair, *, key: Seed) -> RingArray:
    """Answer for all rows in a new session with new keys, from what both sides kept."""
    pair = pair_of(contract, table, name=b"another session")
    state = before.data_owner.state()
    pair.data_owner._share, pair.data_owner._dither_key = state.share_DK, key
    pair.label_owner._share = before.label_owner.share
    for block in pair.label_owner.request(all_rows(contract), training=False):
        for answer in pair.data_owner.receive(block):
            pair.label_owner.receive(answer)
    return pair.label_owner.z()


def test_repeated_prediction_in_another_session() -> None:
    """The label owner comes back in another session, with other keys and masks, and subtracts the answers.

    Control, a dither key for each session: the answers differ in every value. Ours, the key is kept with the
    share: the difference is zero.
    """
    terms = {"rows": 32, "batch": 32, "validation": 0.0, "test": 0.0, "epochs": 1}
    contract = contract_of(label=label_terms(**terms), data=data_terms(rows=32))
    later = contract_of(label=label_terms(**terms, nonce="77" * 32), data=data_terms(rows=32))
    table = rectified("row 25", 32, 5)
    first = pair_of(contract, table, name=b"row 25")
    kept = first.data_owner.state().dither_key
    again = resumed(contract, table, first, key=kept)
    assert np.array_equal(resumed(later, table, first, key=kept), again)
    assert (resumed(later, table, first, key=Seed(bytes(32))) != again).mean() > 0.99
