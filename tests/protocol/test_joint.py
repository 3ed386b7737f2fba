"""The protocol `joint`: exact arithmetic for z, W and da, and nothing applied in part after any error.

What the two protocols that train a bottom model have in common is tested by functions of this module, which
test_acml uses too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product, Role
from moiety.contract.schedule import RowHandle, RowIndices, Split
from moiety.crypto.kernel import matmul
from moiety.crypto.parameters import LISTED, ParameterSet
from moiety.crypto.ring import INPUT_GRADIENT_BITS, RingArray, decode
from moiety.crypto.scheme import Scheme
from moiety.crypto.schemes import RlweScheme
from moiety.errors import (
    LocalProtocolError,
    MalformedMessageError,
    MoietyError,
    RemoteProtocolError,
    RingOverflowError,
)
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.dither import DITHER_BITS, RowDigests, dither
from moiety.protocol.initial import left_factor, right_factor
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.messages import Block, Kind
from moiety.protocol.simulate import Pair
from moiety.protocol.state import Features, State
from tests.support.no_choice import NeverGoesBack
from tests.support.pair import data_terms, label_terms, table_of, training_handles
from tests.support.randomness import RecordedRandomness, words_of

UNITS: Final = 3
HALF_WIDTH: Final = 2 ** (DITHER_BITS - 1)
SMALL: Final = RlweScheme(
    parameters=ParameterSet(
        name="testing-only-256-282", degree=256, primes=LISTED[3].primes, testing_only=True
    )
)
"""No security: wide enough for every product, and small enough for hundreds of steps."""

Change = Callable[[Block], Block]


@dataclass(frozen=True, kw_only=True)
class SmallContract(Contract):
    """A contract under one scheme for whoever holds a key."""

    scheme: Scheme = SMALL

    @cached_property
    def schemes(self) -> dict[Role, Scheme]:
        return dict.fromkeys(self._needs(), self.scheme)


def contract_for(
    protocol: str,
    *,
    activations: str = "trained",
    scheme: Scheme | None = SMALL,
    **label: object,
) -> Contract:
    """Make a contract, under the parameters of real runs where `scheme` is None."""
    both = {"protocol": protocol, "reveals": "gradients"}
    purpose = {"purpose": label.get("purpose", "train")}
    terms: dict[str, Any] = {
        "label_owner": label_terms(**both, **label),
        "data_owner": data_terms(**both, **purpose, activations=activations),
    }
    return Contract(**terms) if scheme is None else SmallContract(**terms, scheme=scheme)


class Recorder(NeverGoesBack):
    """A table for activations, which keeps da."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.asked: list[bool] = []
        self.gradients: list[NDArray[np.float64]] = []

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[NDArray[np.int16], RowDigests]:
        self.asked.append(training)
        return self.features.batch(rows, training=training)

    def backward(self, gradient_ND: NDArray[np.float64]) -> None:
        self.gradients.append(gradient_ND)


class RecordedPair(Pair):
    """Both machines with a `Recorder`, and everything that crossed."""

    def __init__(self, contract: Contract, *, seed: bytes = b"pair") -> None:
        self.contract = contract
        self.recorder = Recorder(table_of(contract))
        self.seen: list[Block] = []
        randomness = RecordedRandomness(seed)
        super().__init__(contract, self.recorder, randomness=randomness, observe=self.seen.append)

    def step(self, handle: RowHandle, *, number: int = 0) -> None:
        """Run a whole training step with small gradients."""
        self.forward(handle, training=True)
        self.update(*self.gradients(handle, number))

    def gradients(self, handle: RowHandle, number: int) -> tuple[RingArray, NDArray[np.int64] | None]:
        """Draw |dz'| < 2^-8 and, where the bottom is trained, |dz''| < 2^-2."""
        scaled_NK, input_NK = small_gradients(handle, number)
        return scaled_NK, input_NK if self.contract.trains_bottom else None


def small_gradients(handle: RowHandle, number: int) -> tuple[RingArray, NDArray[np.int64]]:
    """Draw gradients of either sign: thousands of steps leave z and da in their range."""
    words = words_of(f"gradients {number}", 2 * handle.rows * UNITS).reshape(2, handle.rows, UNITS)
    scaled_NK = (words[0] >> np.uint64(45)) - np.uint64(2**18)
    return scaled_NK, (words[1] >> np.uint64(47)).astype(np.int64) - 2**16


def follow_exactly(pair: RecordedPair, handles: Iterable[RowHandle]) -> int:
    """Train beside plain 64-bit integers, and compare z, da and W exactly after every step."""
    weights_DK, steps = pair.weights(), 0
    for number, handle in enumerate(handles):
        rows = pair.contract.schedule.rows_of(handle)
        x_ND, digest_N = pair.recorder.features.batch(rows, training=True)
        x_ring_ND = x_ND.astype(np.int64).view(np.uint64)
        state = pair.data_owner.state()
        rho_NK = dither(state.dither_key, state.share_DK, digest_N)
        pair._to_data_owner(pair.label_owner.request(handle, training=True))
        gap_NK = (pair.label_owner.z() - x_ring_ND @ weights_DK).view(np.int64)
        assert np.array_equal(gap_NK.view(np.uint64), rho_NK)
        assert -HALF_WIDTH <= gap_NK.min() <= gap_NK.max() < HALF_WIDTH
        scaled_NK, input_NK = pair.gradients(handle, number)
        pair.update(scaled_NK, input_NK)
        if input_NK is not None:
            # W from before the update: both parties take their shares of it from the same moment.
            da_ND = decode(input_NK.view(np.uint64) @ weights_DK.T, scale_bits=INPUT_GRADIENT_BITS)
            assert np.array_equal(pair.recorder.gradients.pop(), da_ND / handle.rows)
        assert pair.recorder.gradients == []
        weights_DK = weights_DK - x_ring_ND.T @ scaled_NK
        assert np.array_equal(pair.weights(), weights_DK)
        steps += 1
    assert pair.label_owner.updates == pair.data_owner.state().updates == steps
    return steps


# --- arithmetic ---


def test_twenty_steps_equal_plain_integers_exactly() -> None:
    contract = contract_for("joint", scheme=None, epochs=10)
    assert follow_exactly(RecordedPair(contract), training_handles(contract)) == 20


def test_three_hundred_steps_equal_plain_integers_exactly() -> None:
    contract = contract_for("joint", epochs=150)
    assert follow_exactly(RecordedPair(contract), training_handles(contract)) == 300


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("protocol", "activations"), [("joint", "trained"), ("acml", "trained"), ("acml", "fixed")]
)
def test_ten_thousand_steps_equal_plain_integers_exactly(protocol: str, activations: str) -> None:
    contract = contract_for(protocol, activations=activations, scheme=None, epochs=5000)
    steps = follow_exactly(RecordedPair(contract), training_handles(contract))
    assert steps == 10_000
    print(f"{protocol}, {activations} activations: z, W and da exact in each of {steps} steps")  # noqa: T201


def test_activations_that_are_not_trained_are_shown_no_gradient() -> None:
    contract = contract_for("joint", activations="fixed")
    pair = RecordedPair(contract)
    assert follow_exactly(pair, training_handles(contract)) == 4
    assert {block.kind for block in pair.seen}.isdisjoint({Kind.DATA_WEIGHTS, *INPUT_GRADIENT})


def test_initial_weights_are_a_product_that_neither_party_knows() -> None:
    pair = RecordedPair(contract_for("joint", scheme=None))
    assert pair.label_weight_seed is not None
    left_DD = left_factor(pair.weight_seed, in_features=5)
    right_DK = right_factor(pair.label_weight_seed, in_features=5, out_features=UNITS)
    assert np.array_equal(pair.weights(), matmul(left_DD, right_DK))
    assert not np.any(pair.label_owner.share == right_DK)


def test_initial_share_says_nothing_about_the_weights() -> None:
    one, two = (RecordedPair(contract_for("joint"), seed=seed).label_owner.share for seed in (b"1", b"2"))
    assert not np.any(one == two)


def test_bottom_model_is_told_what_is_trained() -> None:
    contract = contract_for("joint")
    pair = RecordedPair(contract)
    pair.forward(contract.schedule.batches(Split.TEST, epoch=0)[0], training=False)
    pair.step(training_handles(contract)[0])
    assert pair.recorder.asked == [False, True]
    assert len(pair.recorder.gradients) == 1


# --- order of messages ---

INPUT_GRADIENT = [Kind.MASKED_INPUT_GRADIENT, Kind.SHARE_OF_INPUT_GRADIENT]
OPENING = [Kind.INITIAL_FACTOR, Kind.MASKED_INITIAL]
FORWARD = [Kind.REQUEST, Kind.WEIGHTS, Kind.MASKED_Z, Kind.SHARE_OF_Z]
STEP = [*FORWARD, Kind.DATA_WEIGHTS, *INPUT_GRADIENT, Kind.GRADIENTS, Kind.MASKED_UPDATE]


def test_messages_follow_the_specification() -> None:
    contract = contract_for("joint", scheme=None)
    pair = RecordedPair(contract)
    for handle in training_handles(contract)[:2]:
        pair.step(handle)
    pair.forward(contract.schedule.batches(Split.VALIDATION, epoch=0)[0], training=False)
    assert [block.kind for block in pair.seen] == [*OPENING, *STEP, *STEP, *FORWARD]
    assert [block.step for block in pair.seen] == [0, 0, *[1] * 9, *[2] * 9, *[3] * 4]
    assert {(block.index, block.count) for block in pair.seen} == {(0, 1)}


def test_message_sizes_do_not_depend_on_the_gradients() -> None:
    contract = contract_for("joint")
    pairs = [RecordedPair(contract) for _ in range(2)]
    for number, pair in enumerate(pairs):
        pair.step(training_handles(contract)[0], number=number)
    assert not np.array_equal(pairs[0].weights(), pairs[1].weights())
    one, two = ([(block.kind, len(block.payload)) for block in pair.seen] for pair in pairs)
    assert one == two


def test_prediction_session_needs_no_key_of_the_data_owner() -> None:
    contract = contract_for("joint", activations="fixed", purpose="predict")
    assert list(contract.schemes) == [Role.LABEL_OWNER]
    assert Product.INITIAL not in contract.products


# --- what is refused ---


class TamperedPair(RecordedPair):
    """A pair whose wire changes the first block of one kind; keeps the error that this leads to."""

    def __init__(self, contract: Contract, *, kind: Kind, change: Change) -> None:
        self._kind: Kind | None = kind
        self._change = change
        self.refused_by: DataOwner | LabelOwner | None = None
        self.error: MoietyError | None = None
        self._shares: dict[DataOwner | LabelOwner, RingArray] = {}
        self._attempt(lambda: super(TamperedPair, self).__init__(contract))
        if self.error is None:
            self._shares = {
                self.label_owner: self.label_owner.share.copy(),
                self.data_owner: self.data_owner.state().share_DK.copy(),
            }
            self._attempt(lambda: self.step(training_handles(contract)[0]))

    def share_before(self, machine: DataOwner | LabelOwner) -> RingArray:
        """Return a machine's share before the step that was changed; zeros if it had none."""
        return self._shares.get(machine, np.zeros_like(machine._share))

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except MoietyError as error:
            self.error = error

    def _to_data_owner(self, blocks: Iterable[Block]) -> None:
        super()._to_data_owner(self._changed(blocks, "data_owner"))

    def _to_label_owner(self, blocks: Iterable[Block]) -> None:
        super()._to_label_owner(self._changed(blocks, "label_owner"))

    def _changed(self, blocks: Iterable[Block], receiver: str) -> Iterator[Block]:
        for block in blocks:
            if block.kind is self._kind:
                self._kind = None
                self.refused_by = getattr(self, receiver)
                yield self._change(block)
            else:
                yield block


CHANGES: list[tuple[str, Change, type[MoietyError]]] = [
    ("finish", lambda block: replace(block, kind=Kind.FINISH), RemoteProtocolError),
    ("next kind", lambda block: replace(block, kind=Kind(block.kind % 18 + 1)), RemoteProtocolError),
    ("later step", lambda block: replace(block, step=block.step + 1), RemoteProtocolError),
    ("earlier step", lambda block: replace(block, step=block.step - 1), RemoteProtocolError),
    ("more blocks", lambda block: replace(block, count=2), RemoteProtocolError),
    ("second block", lambda block: replace(block, index=1, count=2), RemoteProtocolError),
    ("cut", lambda block: replace(block, payload=block.payload[:-1]), MalformedMessageError),
    ("longer", lambda block: replace(block, payload=block.payload + b"\0"), MalformedMessageError),
    ("empty", lambda block: replace(block, payload=b""), MalformedMessageError),
    (
        "no ciphertext",
        lambda block: replace(block, payload=b"\xff" * len(block.payload)),
        MalformedMessageError,
    ),
]
RESIDUES = {Kind.TRANSPOSED_ACTIVATIONS}
"""What crosses as residues, which have a range. Of what was cut, any bytes of the right size are one."""


def changed_messages(kinds: Iterable[Kind]) -> list[Any]:
    """List every change of every message, as parameters of a test."""
    return [
        pytest.param(kind, change, error, id=f"{kind.name} {name}")
        for kind in kinds
        for name, change, error in CHANGES
        if kind in RESIDUES or name != "no ciphertext"
    ]


def check_refused(contract: Contract, kind: Kind, change: Change, error: type[MoietyError]) -> None:
    """Change one message; its receiver must refuse it, keep its share and be closed for good."""
    pair = TamperedPair(contract, kind=kind, change=change)
    assert isinstance(pair.error, error)
    refused_by = pair.refused_by
    assert refused_by is not None
    assert np.array_equal(refused_by._share, pair.share_before(refused_by))
    assert bool(pair._shares) is (kind not in OPENING)
    # The last message of a step finds the data owner done.
    assert len(pair.recorder.gradients) == (refused_by is pair.label_owner and kind is Kind.MASKED_UPDATE)
    check_closed(refused_by)


def check_closed(machine: DataOwner | LabelOwner) -> None:
    """Check that a machine has stopped for good, before any update."""
    assert machine._state is State.CLOSED
    assert machine._updates == 0
    with pytest.raises(LocalProtocolError, match="stopped at an earlier error"):
        list(machine.receive(Block(kind=Kind.REQUEST, step=1, payload=b"")))
    with pytest.raises(LocalProtocolError):
        _ = machine.share if isinstance(machine, LabelOwner) else machine.state()


@pytest.mark.parametrize(("kind", "change", "error"), changed_messages([*OPENING, *STEP]))
def test_changed_message_is_refused(kind: Kind, change: Change, error: type[MoietyError]) -> None:
    check_refused(contract_for("joint"), kind, change, error)


def add(amount: int) -> Change:
    """Change ring integers by an amount."""

    def change(block: Block) -> Block:
        words = np.frombuffer(block.payload, dtype="<u8") + np.uint64(amount)
        return replace(block, payload=words.tobytes())

    return change


@pytest.mark.parametrize(
    ("kind", "amount", "limit"),
    [(Kind.SHARE_OF_Z, 2**60 + 2**58, 10), (Kind.SHARE_OF_INPUT_GRADIENT, 2**62 + 2**60, 6)],
)
@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_value_out_of_its_range_changes_nothing(protocol: str, kind: Kind, amount: int, limit: int) -> None:
    contract = contract_for(protocol)
    check_refused(contract, kind, add(amount), RingOverflowError)
    pair = TamperedPair(contract, kind=kind, change=add(amount))
    assert isinstance(pair.error, RingOverflowError)
    assert (pair.error.limit_bits, bool(pair.error.hint)) == (limit, True)
    assert TamperedPair(contract, kind=kind, change=add(0)).error is None


def after_forward(protocol: str, *, activations: str = "trained") -> tuple[RecordedPair, RowHandle]:
    """Return a pair with an open training step."""
    contract = contract_for(protocol, activations=activations)
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    pair.forward(handle, training=True)
    return pair, handle


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_update_needs_the_gradients_of_its_contract(protocol: str) -> None:
    for activations, given in (("trained", False), ("fixed", True)):
        pair, handle = after_forward(protocol, activations=activations)
        scaled_NK, input_NK = small_gradients(handle, 0)
        with pytest.raises(LocalProtocolError, match="if and only if the bottom model is trained"):
            pair.update(scaled_NK, input_NK if given else None)
        assert pair.label_owner.open
        pair.update(scaled_NK, None if given else input_NK)  # nothing was sent before
        assert pair.label_owner.updates == pair.data_owner.state().updates == 1


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_input_gradient_of_another_shape_is_not_sent(protocol: str) -> None:
    pair, handle = after_forward(protocol)
    scaled_NK, input_NK = small_gradients(handle, 0)
    for wrong in (input_NK[1:], input_NK[:, 1:]):
        with pytest.raises(LocalProtocolError, match="has shape"):
            pair.update(scaled_NK, wrong)
    assert pair.label_owner.open


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_messages_of_an_update_in_another_order(protocol: str) -> None:
    for first in (1, 2):
        pair, handle = after_forward(protocol)
        share_DK = pair.data_owner._share
        blocks = list(pair.label_owner.update(*pair.gradients(handle, 0)))
        with pytest.raises(RemoteProtocolError, match="where MASKED_INPUT_GRADIENT of step 1"):
            list(pair.data_owner.receive(blocks[first]))
        assert pair.data_owner._share is share_DK
        check_closed(pair.data_owner)


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_message_of_an_update_twice(protocol: str) -> None:
    pair, handle = after_forward(protocol)
    block = next(pair.label_owner.update(*pair.gradients(handle, 0)))
    assert list(pair.data_owner.receive(block)) == []
    with pytest.raises(RemoteProtocolError, match="where SHARE_OF_INPUT_GRADIENT of step 1"):
        list(pair.data_owner.receive(block))
    check_closed(pair.data_owner)


@pytest.mark.parametrize("protocol", ["joint", "acml"])
@pytest.mark.parametrize("taken", [1, 2])
def test_update_that_is_not_sent_to_its_end_closes_the_label_owner(protocol: str, taken: int) -> None:
    pair, handle = after_forward(protocol)
    share_DK = pair.label_owner._share
    blocks = pair.label_owner.update(*pair.gradients(handle, 0))
    for _ in range(taken):
        next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert pair.label_owner._share is share_DK
    check_closed(pair.label_owner)


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_request_that_is_not_sent_to_its_end_closes_the_label_owner(protocol: str) -> None:
    contract = contract_for(protocol)
    label_owner = RecordedPair(contract).label_owner
    blocks = label_owner.request(training_handles(contract)[0], training=True)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    check_closed(label_owner)


@pytest.mark.parametrize("taken", [1, 2])
def test_answer_that_is_not_taken_to_its_end_closes_the_data_owner(taken: int) -> None:
    contract = contract_for("joint")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    request, weights = pair.label_owner.request(handle, training=True)
    assert list(pair.data_owner.receive(request)) == []
    answer = pair.data_owner.receive(weights)
    for _ in range(taken):
        next(answer)
    answer.close()  # type: ignore[attr-defined]
    check_closed(pair.data_owner)


def test_masked_update_that_is_not_taken_trains_nothing() -> None:
    pair, handle = after_forward("joint")
    share_DK = pair.data_owner._share
    *before, last = pair.label_owner.update(*pair.gradients(handle, 0))
    for block in before:
        assert list(pair.data_owner.receive(block)) == []
    answer = pair.data_owner.receive(last)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    assert pair.data_owner._share is share_DK
    assert pair.recorder.gradients == []
    check_closed(pair.data_owner)


def test_error_of_the_bottom_model_closes_the_data_owner() -> None:
    pair, handle = after_forward("joint")

    def fail(gradient_ND: NDArray[np.float64]) -> None:
        del gradient_ND
        raise ZeroDivisionError

    pair.recorder.backward = fail  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        pair.update(*pair.gradients(handle, 0))
    check_closed(pair.data_owner)


def test_table_cannot_be_trained() -> None:
    features = table_of(contract_for("blind"))
    with pytest.raises(LocalProtocolError, match="a table cannot be trained"):
        features.backward(np.zeros((1, 5)))
