"""The protocol `acml`: exact arithmetic, activations that cross once a session, and refusals.

What it has in common with `joint` is in test_joint.
"""

from collections import Counter

import numpy as np
import pytest

from moiety.contract.products import Product, Role
from moiety.contract.schedule import Split
from moiety.crypto.kernel import matmul
from moiety.crypto.paillier import TESTING_ONLY
from moiety.errors import LocalProtocolError, MalformedMessageError, MoietyError, RemoteProtocolError
from moiety.protocol.acml import AcmlLabelOwner
from moiety.protocol.initial import left_factor, right_factor
from moiety.protocol.messages import Block, Kind
from moiety.protocol.reuse import Part
from tests.protocol.test_joint import (
    INPUT_GRADIENT,
    OPENING,
    UNITS,
    Change,
    RecordedPair,
    changed_messages,
    check_closed,
    check_refused,
    contract_for,
    follow_exactly,
)
from tests.support.pair import training_handles

ACTIVATIONS = [Kind.TRANSPOSED_ACTIVATIONS, Kind.ACTIVATIONS]
Z = [Kind.MASKED_Z, Kind.SHARE_OF_Z]
STEP = [Kind.REQUEST, *ACTIVATIONS, Kind.DATA_WEIGHTS, *Z, *INPUT_GRADIENT, Kind.MASKED_UPDATE]


def kinds(pair: RecordedPair) -> list[Kind]:
    return [block.kind for block in pair.seen]


# --- arithmetic ---


@pytest.mark.parametrize("activations", ["trained", "fixed"])
def test_twenty_steps_equal_plain_integers_exactly(activations: str) -> None:
    contract = contract_for("acml", activations=activations, scheme=None, epochs=10)
    assert follow_exactly(RecordedPair(contract), training_handles(contract)) == 20


@pytest.mark.parametrize("activations", ["trained", "fixed"])
def test_three_hundred_steps_equal_plain_integers_exactly(activations: str) -> None:
    contract = contract_for("acml", activations=activations, epochs=150)
    assert follow_exactly(RecordedPair(contract), training_handles(contract)) == 300


@pytest.mark.parametrize("activations", ["trained", "fixed"])
def test_steps_under_paillier_equal_plain_integers_exactly(activations: str) -> None:
    contract = contract_for("acml", activations=activations, scheme=TESTING_ONLY, epochs=4)
    assert follow_exactly(RecordedPair(contract), training_handles(contract)) == 8


def test_initial_weights_are_a_product_that_neither_party_knows() -> None:
    pair = RecordedPair(contract_for("acml", scheme=None))
    assert pair.label_weight_seed is not None
    left_DD = left_factor(pair.label_weight_seed, in_features=5)
    right_DK = right_factor(pair.weight_seed, in_features=5, out_features=UNITS)
    assert np.array_equal(pair.weights(), matmul(left_DD, right_DK))
    assert not np.any(pair.data_owner.state().share_DK == right_DK)


# --- order of messages ---


def test_messages_follow_the_specification() -> None:
    contract = contract_for("acml", scheme=None)
    pair = RecordedPair(contract)
    for handle in training_handles(contract)[:2]:
        pair.step(handle)
    for _ in range(2):
        pair.forward(contract.schedule.batches(Split.VALIDATION, epoch=0)[0], training=False)
    forward = [Kind.REQUEST, Kind.TRANSPOSED_ACTIVATIONS, *Z]
    assert kinds(pair) == [*OPENING, *STEP, *STEP, *forward, *forward]
    assert [block.step for block in pair.seen] == [0, 0, *[1] * 9, *[2] * 9, *[3] * 4, *[4] * 4]
    assert {(block.index, block.count) for block in pair.seen} == {(0, 1)}


def test_fixed_activations_cross_once_a_session() -> None:
    contract = contract_for("acml", activations="fixed", epochs=3)
    pair = RecordedPair(contract)
    batches = contract.schedule.batches
    for epoch in range(3):
        for handle in batches(Split.TRAIN, epoch=epoch):
            pair.step(handle, number=epoch)
        for handle in batches(Split.VALIDATION, epoch=epoch):
            pair.forward(handle, training=False)
    for handle in [*batches(Split.TEST, epoch=0), *batches(Split.TRAIN, epoch=1)]:
        pair.forward(handle, training=False)
    count = Counter(kinds(pair))
    # 2 batches to train on, 1 to validate with, 1 to test with; updates need training batches only.
    assert (count[Kind.TRANSPOSED_ACTIVATIONS], count[Kind.ACTIVATIONS]) == (4, 2)
    assert count[Kind.REQUEST] == count[Kind.MASKED_Z] == count[Kind.SHARE_OF_Z] == 12
    assert count[Kind.MASKED_UPDATE] == 6
    assert not count.keys() & {Kind.DATA_WEIGHTS, *INPUT_GRADIENT}


def test_trained_activations_cross_in_every_step() -> None:
    contract = contract_for("acml", epochs=3)
    pair = RecordedPair(contract)
    for handle in training_handles(contract):
        pair.step(handle)
    assert [Counter(kinds(pair))[kind] for kind in ACTIVATIONS] == [6, 6]


def test_batches_asked_for_before_they_are_trained_on_are_completed() -> None:
    contract = contract_for("acml", activations="fixed")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    pair.forward(handle, training=False)
    pair.step(handle)
    count = Counter(kinds(pair))
    assert (count[Kind.TRANSPOSED_ACTIVATIONS], count[Kind.ACTIVATIONS]) == (1, 1)


def test_kept_activations_go_into_the_store_that_is_given() -> None:
    contract = contract_for("acml", activations="fixed")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    store: dict[Part, list[bytes]] = {}
    assert isinstance(pair.label_owner, AcmlLabelOwner)
    pair.label_owner._store = store
    pair.step(handle)
    part = contract.schedule.part_of(handle)
    sent = {block.kind: [block.payload] for block in pair.seen}
    assert store == {
        (Product.FORWARD, Split.TRAIN, part): sent[Kind.TRANSPOSED_ACTIVATIONS],
        (Product.UPDATE, Split.TRAIN, part): sent[Kind.ACTIVATIONS],
    }


def test_trained_activations_are_not_kept() -> None:
    contract = contract_for("acml")
    pair = RecordedPair(contract)
    pair.step(training_handles(contract)[0])
    assert isinstance(pair.label_owner, AcmlLabelOwner)
    assert not pair.label_owner._store


def test_the_label_owner_holds_no_key() -> None:
    contract = contract_for("acml", scheme=None)
    pair = RecordedPair(contract)
    assert list(contract.schemes) == [Role.DATA_OWNER]
    assert pair.label_owner._own_keys is None
    assert pair.data_owner._own_evaluator is None


# --- what is refused ---


@pytest.mark.parametrize(("kind", "change", "error"), changed_messages([*OPENING, *STEP]))
def test_changed_message_is_refused(kind: Kind, change: Change, error: type[MoietyError]) -> None:
    check_refused(contract_for("acml"), kind, change, error)


@pytest.mark.parametrize(
    ("kind", "change", "error"),
    changed_messages([Kind.REQUEST, *ACTIVATIONS, *Z, Kind.MASKED_UPDATE]),
)
def test_changed_message_over_fixed_activations_is_refused(
    kind: Kind, change: Change, error: type[MoietyError]
) -> None:
    check_refused(contract_for("acml", activations="fixed"), kind, change, error)


def replace_payload(payload: bytes) -> Change:
    def change(block: Block) -> Block:
        return Block(kind=block.kind, step=block.step, payload=payload * len(block.payload))

    return change


@pytest.mark.parametrize(
    "kind", [*OPENING, *ACTIVATIONS, Kind.DATA_WEIGHTS, Kind.MASKED_Z, Kind.MASKED_UPDATE]
)
def test_no_paillier_ciphertext_is_refused(kind: Kind) -> None:
    contract = contract_for("acml", scheme=TESTING_ONLY)
    check_refused(contract, kind, replace_payload(b"\xff"), MalformedMessageError)


def test_activations_that_were_sent_already_are_refused() -> None:
    contract = contract_for("acml", activations="fixed")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    pair.forward(handle, training=False)
    again = next(block for block in pair.seen if block.kind is Kind.TRANSPOSED_ACTIVATIONS)
    request, *_ = pair.label_owner.request(handle, training=False)
    with pytest.raises(RemoteProtocolError, match="where SHARE_OF_Z of step 2"):
        list(pair.label_owner.receive(Block(kind=again.kind, step=2, payload=again.payload)))
    assert request.step == 2
    check_closed(pair.label_owner)


def test_activations_in_another_order_are_refused() -> None:
    contract = contract_for("acml")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    (request,) = pair.label_owner.request(handle, training=True)
    blocks = list(pair.data_owner.receive(request))
    assert [block.kind for block in blocks] == [*ACTIVATIONS, Kind.DATA_WEIGHTS]
    with pytest.raises(RemoteProtocolError, match="where TRANSPOSED_ACTIVATIONS of step 1"):
        list(pair.label_owner.receive(blocks[1]))
    check_closed(pair.label_owner)


@pytest.mark.parametrize("taken", [1, 2])
def test_activations_that_are_not_taken_to_their_end_close_the_data_owner(taken: int) -> None:
    contract = contract_for("acml")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    (request,) = pair.label_owner.request(handle, training=True)
    answer = pair.data_owner.receive(request)
    for _ in range(taken):
        next(answer)
    answer.close()  # type: ignore[attr-defined]
    check_closed(pair.data_owner)


def masked_z_of(pair: RecordedPair) -> list[Block]:
    """Bring a first step so far that the label owner answers the activations."""
    handle = training_handles(pair.contract)[0]
    (request,) = pair.label_owner.request(handle, training=True)
    *before, last = pair.data_owner.receive(request)
    for block in before:
        assert list(pair.label_owner.receive(block)) == []
    return [last]


def test_masked_z_that_is_not_taken_to_its_end_closes_the_label_owner() -> None:
    pair = RecordedPair(contract_for("acml"))
    (last,) = masked_z_of(pair)
    answer = iter(pair.label_owner.receive(last))
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    check_closed(pair.label_owner)


def test_share_of_z_that_is_not_taken_to_its_end_closes_the_data_owner() -> None:
    pair = RecordedPair(contract_for("acml"))
    (last,) = masked_z_of(pair)
    (masked,) = pair.label_owner.receive(last)
    answer = pair.data_owner.receive(masked)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    check_closed(pair.data_owner)


def test_second_request_before_the_first_is_answered() -> None:
    pair = RecordedPair(contract_for("acml"))
    masked_z_of(pair)
    with pytest.raises(LocalProtocolError, match="forward where idle"):
        next(pair.label_owner.request(training_handles(pair.contract)[0], training=True))
