"""The protocol `blind`: exact arithmetic, and nothing applied in part after any message out of place."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from moiety.contract.policy import exceeded
from moiety.contract.schedule import RowHandle, RowIndices, Split
from moiety.crypto.ring import WEIGHT_BITS, Z_BITS, RingArray, decode
from moiety.crypto.sampling import Seed
from moiety.errors import (
    LocalProtocolError,
    MalformedMessageError,
    MoietyError,
    PolicyError,
    RemoteProtocolError,
    RingOverflowError,
)
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner
from moiety.protocol.data_owner import Charge
from moiety.protocol.dither import DITHER_BITS, dither
from moiety.protocol.messages import Block, Kind, Request, decode_request, encode_request
from moiety.protocol.simulate import Pair
from moiety.protocol.state import DataOwnerState, State, initial_weights
from tests.support.fake_scheme import FakeEvaluator, FakeKeyHolder
from tests.support.pair import (
    answers,
    contract_of,
    data_terms,
    deliver,
    gradient_of,
    label_terms,
    machines,
    table_of,
    training_handles,
)
from tests.support.randomness import RecordedRandomness

Machines = tuple[BlindLabelOwner, BlindDataOwner]
CONTRACT = contract_of()
FIRST = training_handles(CONTRACT)[0]
HALF_WIDTH = 2 ** (DITHER_BITS - 1)


def fake_machines(charge: Charge = lambda *_: None, *, state: DataOwnerState | None = None) -> Machines:
    """Both machines under the scheme that does nothing."""
    randomness = RecordedRandomness(b"fake")
    share_DK = None if state is None else np.zeros((5, 3), dtype=np.uint64)
    label_owner = BlindLabelOwner(CONTRACT, keys=FakeKeyHolder(), share_DK=share_DK, randomness=randomness)
    data_owner = BlindDataOwner(
        CONTRACT,
        evaluator=FakeEvaluator(),
        features=table_of(CONTRACT),
        state=state,
        charge=charge,
        randomness=randomness,
    )
    if state is None:
        deliver(data_owner.open(Seed(bytes(32))), label_owner)
    return label_owner, data_owner


def step(pair: Machines, handle: RowHandle) -> None:
    """Run one whole training step."""
    label_owner, data_owner = pair
    deliver(answers(label_owner.request(handle, training=True), data_owner), label_owner)
    label_owner.z()
    deliver(answers(label_owner.update(gradient_of(handle, 3)), data_owner), label_owner)


def request_block(request: Request, *, step: int = 1) -> Block:
    return Block(kind=Kind.REQUEST, step=step, payload=encode_request(request))


# --- arithmetic, under the parameters of real runs ---


def exact_pair() -> tuple[Pair, RecordedRandomness]:
    randomness = RecordedRandomness(b"exact")
    label = label_terms(epochs=10)
    contract = contract_of(label=label, production=True)
    return Pair(contract, table_of(contract), randomness=randomness), randomness


def released(pair: Pair, handle: RowHandle, *, training: bool) -> tuple[RingArray, RingArray]:
    """Return z in ring integers and the dither that the data owner added."""
    state = pair.data_owner.state()
    contract = pair.data_owner._contract
    rows = contract.schedule.rows_of(handle)
    digests = table_of(pair.data_owner._contract).digest_N[rows]
    rho_NK = dither(state.dither_key, state.share_DK, digests)
    pair._to_data_owner(pair.label_owner.request(handle, training=training))
    return pair.label_owner.z(), rho_NK


def test_twenty_steps_equal_big_integers_exactly() -> None:
    pair, _ = exact_pair()
    contract = pair.data_owner._contract
    table = table_of(contract).activation_ND.astype(object)
    weights = pair.weights().astype(object)
    handles = training_handles(contract)
    assert len(handles) == 20
    for number, handle in enumerate(handles):
        x_ND = table[contract.schedule.rows_of(handle)]
        z_NK, rho_NK = released(pair, handle, training=True)
        exact = x_ND @ weights
        assert z_NK.tolist() == ((exact + rho_NK.astype(object)) % 2**64).tolist()
        gap = (z_NK.astype(object) - exact + 2**63) % 2**64 - 2**63
        assert all(-HALF_WIDTH <= int(each) < HALF_WIDTH for each in gap.flat)
        # Small steps of either sign: 20 of them keep z in its range.
        scaled_NK = (gradient_of(handle, 3, name=f"step {number}").view(np.int64) >> 8).view(np.uint64)
        pair.update(scaled_NK)
        weights = (weights - x_ND.T @ scaled_NK.astype(object)) % 2**64
        assert pair.weights().tolist() == weights.tolist()


def test_z_is_within_half_the_dither_width_of_the_product() -> None:
    pair, _ = exact_pair()
    handle = training_handles(pair.data_owner._contract)[0]
    rows = pair.data_owner._contract.schedule.rows_of(handle)
    activation_ND = table_of(pair.data_owner._contract).activation_ND[rows]
    plain_NK = np.ldexp(activation_ND, -12) @ decode(pair.weights(), scale_bits=WEIGHT_BITS)
    z_NK = pair.forward(handle, training=False)
    assert np.abs(z_NK - plain_NK).max() <= 2.0**-6 + 2.0**-40
    assert np.abs(z_NK - plain_NK).max() > 2.0**-9  # it is there


def test_initial_weights_are_the_data_owners_and_uniform_in_range() -> None:
    pair, randomness = exact_pair()
    drawn = initial_weights(pair.weight_seed, in_features=5, out_features=3)
    assert np.array_equal(pair.weights(), drawn)
    assert pair.weight_seed in randomness.given
    values = decode(initial_weights(pair.weight_seed, in_features=400, out_features=50), scale_bits=38)
    assert np.abs(values).max() <= 400**-0.5
    assert np.abs(values).max() > 0.99 * 400**-0.5
    assert abs(values.mean()) < 6 * 400**-0.5 / (3 * values.size) ** 0.5


def test_initial_share_says_nothing_about_the_weights() -> None:
    first, _ = machines(CONTRACT, randomness=RecordedRandomness(b"one"))
    second, _ = machines(CONTRACT, randomness=RecordedRandomness(b"two"))
    assert not np.any(first.share == second.share)  # the same W_0 under another mask


def test_same_rows_get_the_same_answer_until_an_update() -> None:
    label_owner, data_owner = fake_machines()
    z_NK: list[RingArray] = []
    for _ in range(2):
        deliver(answers(label_owner.request(FIRST, training=False), data_owner), label_owner)
        z_NK.append(label_owner.z())
    assert np.array_equal(z_NK[0], z_NK[1])


def test_update_of_nothing_still_refreshes_the_dither() -> None:
    # The sum of the shares stays, the data owner's share does not: rho is fresh.
    label_owner, data_owner = fake_machines()
    z_NK: list[RingArray] = []
    for handle in (FIRST, SECOND):
        deliver(answers(label_owner.request(handle, training=True), data_owner), label_owner)
        z_NK.append(label_owner.z())
        zero_NK = np.zeros((handle.rows, 3), dtype=np.uint64)
        deliver(answers(label_owner.update(zero_NK), data_owner), label_owner)
        deliver(answers(label_owner.request(FIRST, training=False), data_owner), label_owner)
        z_NK.append(label_owner.z())
    assert not np.any(z_NK[0] == z_NK[1])
    gap = (z_NK[0] - z_NK[1]).view(np.int64)
    assert np.abs(gap).max() < 2 * HALF_WIDTH


# --- order of messages, at the data owner ---


def test_forward_only_leaves_both_machines_idle() -> None:
    label_owner, data_owner = fake_machines()
    deliver(answers(label_owner.request(FIRST, training=False), data_owner), label_owner)
    assert data_owner.idle
    assert not label_owner.waiting
    assert not label_owner.open
    assert (label_owner.updates, data_owner.state().updates) == (0, 0)


def test_whole_step_is_counted_by_both() -> None:
    pair = fake_machines()
    step(pair, FIRST)
    assert (pair[0].updates, pair[1].state().updates) == (1, 1)


def test_saved_state_continues_without_initial_share() -> None:
    state = DataOwnerState(share_DK=np.ones((5, 3), dtype=np.uint64), dither_key=Seed(bytes(32)), updates=0)
    label_owner, data_owner = fake_machines(state=state)
    deliver(answers(label_owner.request(FIRST, training=False), data_owner), label_owner)
    assert label_owner.z().shape == (FIRST.rows, 3)
    with pytest.raises(LocalProtocolError, match="already sent"):
        data_owner.open(Seed(bytes(32)))


def test_data_owner_before_its_initial_share() -> None:
    _, data_owner = machines(CONTRACT, opened=False)
    with pytest.raises(LocalProtocolError, match="has not been sent"):
        list(data_owner.receive(Block(kind=Kind.REQUEST, step=1, payload=b"")))
    with pytest.raises(LocalProtocolError):
        data_owner.state()


def closed_unchanged(data_owner: BlindDataOwner, share_DK: RingArray, *, updates: int) -> None:
    """Check that nothing was applied in part and that the machine is closed for good."""
    assert np.array_equal(data_owner._share, share_DK)
    assert data_owner._updates == updates
    assert data_owner._state is State.CLOSED
    with pytest.raises(LocalProtocolError, match="stopped at an earlier error"):
        list(data_owner.receive(Block(kind=Kind.REQUEST, step=1, payload=b"")))
    with pytest.raises(LocalProtocolError):
        data_owner.state()


TRAINING = Request(handle=FIRST, training=True, updates=0)
SECOND = training_handles(CONTRACT)[1]
VALIDATION = CONTRACT.schedule.batches(Split.VALIDATION, epoch=0)[0]


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (Block(kind=Kind.WEIGHTS, step=1, payload=b""), RemoteProtocolError),
        (Block(kind=Kind.GRADIENTS, step=1, payload=b""), RemoteProtocolError),
        (Block(kind=Kind.MASKED_Z, step=1, payload=b""), RemoteProtocolError),
        (Block(kind=Kind.HELLO, step=1, payload=b""), RemoteProtocolError),
        (request_block(TRAINING, step=0), RemoteProtocolError),
        (request_block(TRAINING, step=2), RemoteProtocolError),
        (replace(request_block(TRAINING), count=2), RemoteProtocolError),
        (replace(request_block(TRAINING), index=1, count=2), RemoteProtocolError),
        (Block(kind=Kind.REQUEST, step=1, payload=b""), MalformedMessageError),
        (request_block(replace(TRAINING, updates=1)), RemoteProtocolError),
        (request_block(replace(TRAINING, handle=replace(FIRST, rows=15))), RemoteProtocolError),
        (request_block(replace(TRAINING, handle=replace(FIRST, epoch=2))), RemoteProtocolError),
        (request_block(replace(TRAINING, handle=SECOND)), RemoteProtocolError),
        (request_block(replace(TRAINING, handle=VALIDATION)), RemoteProtocolError),
        (request_block(replace(TRAINING, handle=replace(FIRST, epoch=1))), RemoteProtocolError),
    ],
)
def test_data_owner_refuses_where_a_request_is_expected(block: Block, kind: type[MoietyError]) -> None:
    charged: list[RowIndices] = []
    _, data_owner = fake_machines(lambda _, rows: charged.append(rows))
    share_DK = data_owner.state().share_DK.copy()
    with pytest.raises(kind):
        list(data_owner.receive(block))
    assert charged == []
    closed_unchanged(data_owner, share_DK, updates=0)


def test_training_batch_twice() -> None:
    pair = fake_machines()
    step(pair, FIRST)
    share_DK = pair[1].state().share_DK.copy()
    with pytest.raises(RemoteProtocolError, match=r"\(0, 0\) of split TRAIN came where \(0, 1\)"):
        answers(pair[0].request(FIRST, training=True), pair[1])
    closed_unchanged(pair[1], share_DK, updates=1)


def test_training_runs_through_its_epochs_and_no_further() -> None:
    pair = fake_machines()
    for handle in training_handles(CONTRACT):
        step(pair, handle)
    beyond = Request(handle=replace(FIRST, epoch=2), training=True, updates=len(training_handles(CONTRACT)))
    number = len(training_handles(CONTRACT)) + 1
    with pytest.raises(RemoteProtocolError, match="not in the schedule"):
        list(pair[1].receive(request_block(beyond, step=number)))


def test_forward_only_may_come_in_any_order() -> None:
    label_owner, data_owner = fake_machines()
    for handle in (VALIDATION, SECOND, SECOND, FIRST):
        deliver(answers(label_owner.request(handle, training=False), data_owner), label_owner)
        assert label_owner.z().shape == (handle.rows, 3)


def test_training_in_a_prediction_session() -> None:
    contract = contract_of(label=label_terms(purpose="predict"), data=data_terms(purpose="predict"))
    label_owner, data_owner = machines(contract)
    with pytest.raises(RemoteProtocolError, match="split TRAIN"):
        answers(label_owner.request(FIRST, training=True), data_owner)


def change_kind(block: Block) -> Block:
    return replace(block, kind=Kind.GRADIENTS if block.kind is Kind.WEIGHTS else Kind.WEIGHTS)


CHANGES: list[tuple[Callable[[Block], Block], type[MoietyError]]] = [
    (change_kind, RemoteProtocolError),
    (lambda block: replace(block, kind=Kind.REQUEST), RemoteProtocolError),
    (lambda block: replace(block, step=block.step + 1), RemoteProtocolError),
    (lambda block: replace(block, step=block.step - 1), RemoteProtocolError),
    (lambda block: replace(block, count=block.count + 1), RemoteProtocolError),
    (lambda block: replace(block, index=1, count=2), RemoteProtocolError),
    (lambda block: replace(block, payload=block.payload[:-1]), MalformedMessageError),
    (lambda block: replace(block, payload=block.payload + b"\0"), MalformedMessageError),
]


@pytest.mark.parametrize(("change", "kind"), CHANGES)
def test_data_owner_refuses_changed_weights(
    change: Callable[[Block], Block], kind: type[MoietyError]
) -> None:
    label_owner, data_owner = machines(CONTRACT)
    share_DK = data_owner.state().share_DK.copy()
    request, weights = label_owner.request(FIRST, training=True)
    assert list(data_owner.receive(request)) == []
    with pytest.raises(kind):
        list(data_owner.receive(change(weights)))
    closed_unchanged(data_owner, share_DK, updates=0)


@pytest.mark.parametrize(("change", "kind"), CHANGES)
def test_data_owner_refuses_changed_gradients(
    change: Callable[[Block], Block], kind: type[MoietyError]
) -> None:
    label_owner, data_owner = machines(CONTRACT)
    share_DK = data_owner.state().share_DK.copy()
    deliver(answers(label_owner.request(FIRST, training=True), data_owner), label_owner)
    (gradients,) = label_owner.update(gradient_of(FIRST, 3))
    with pytest.raises(kind):
        list(data_owner.receive(change(gradients)))
    closed_unchanged(data_owner, share_DK, updates=0)


def test_answer_that_is_not_taken_to_its_end_changes_nothing() -> None:
    label_owner, data_owner = fake_machines()
    share_DK = data_owner.state().share_DK.copy()
    deliver(answers(label_owner.request(FIRST, training=True), data_owner), label_owner)
    (gradients,) = label_owner.update(gradient_of(FIRST, 3))
    answer = data_owner.receive(gradients)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    closed_unchanged(data_owner, share_DK, updates=0)


def test_charge_comes_before_anything_is_computed() -> None:
    class Unused:
        def respond(self, *_: object, **__: object) -> None:
            raise AssertionError("computed before it was counted")

    def refuse(_: Request, rows: RowIndices) -> None:
        assert np.array_equal(rows, CONTRACT.schedule.rows_of(FIRST))
        raise exceeded("released_z_per_row", allowed=1, asked=2)

    label_owner, data_owner = fake_machines(refuse)
    data_owner._own_evaluator = Unused()  # type: ignore[assignment]
    share_DK = data_owner.state().share_DK.copy()
    with pytest.raises(PolicyError):
        answers(label_owner.request(FIRST, training=True), data_owner)
    closed_unchanged(data_owner, share_DK, updates=0)


def test_every_request_is_charged_once_with_its_rows() -> None:
    charged: list[RowIndices] = []
    label_owner, data_owner = fake_machines(lambda _, rows: charged.append(rows))
    step((label_owner, data_owner), FIRST)
    deliver(answers(label_owner.request(VALIDATION, training=False), data_owner), label_owner)
    expected = [CONTRACT.schedule.rows_of(handle) for handle in (FIRST, VALIDATION)]
    assert [rows.tolist() for rows in charged] == [rows.tolist() for rows in expected]


# --- order of messages, at the label owner ---


@pytest.mark.parametrize(
    "change",
    [
        lambda block: replace(block, kind=Kind.MASKED_UPDATE),
        lambda block: replace(block, kind=Kind.WEIGHTS),
        lambda block: replace(block, step=block.step + 1),
        lambda block: replace(block, count=2),
        lambda block: replace(block, payload=block.payload[:-1]),
    ],
)
@pytest.mark.parametrize("message", [Kind.MASKED_Z, Kind.MASKED_UPDATE])
def test_label_owner_refuses_a_changed_answer(message: Kind, change: Callable[[Block], Block]) -> None:
    label_owner, data_owner = machines(CONTRACT)
    share_DK = label_owner.share.copy()
    blocks = answers(label_owner.request(FIRST, training=True), data_owner)
    if message is Kind.MASKED_UPDATE:
        deliver(blocks, label_owner)
        label_owner.z()
        blocks = answers(label_owner.update(gradient_of(FIRST, 3)), data_owner)
    changed = change(replace(blocks[0], kind=message))
    if changed == blocks[0]:
        changed = replace(changed, kind=Kind.MASKED_Z)
    with pytest.raises(RemoteProtocolError):
        deliver([changed, *blocks[1:]], label_owner)
    assert np.array_equal(label_owner._share, share_DK)
    assert label_owner.updates == 0
    for refused in (lambda: label_owner.share, lambda: list(label_owner.request(FIRST, training=True))):
        with pytest.raises(LocalProtocolError, match="stopped at an earlier error"):
            refused()
    with pytest.raises(LocalProtocolError):
        label_owner.receive(blocks[0])
    with pytest.raises(LocalProtocolError):
        label_owner.z()
    assert not label_owner.waiting


def test_label_owner_refuses_what_is_not_expected() -> None:
    label_owner, _ = fake_machines()
    with pytest.raises(RemoteProtocolError, match="nothing was expected"):
        label_owner.receive(Block(kind=Kind.MASKED_Z, step=1, payload=b""))


def test_label_owner_refuses_a_repeated_answer() -> None:
    label_owner, data_owner = fake_machines()
    blocks = answers(label_owner.request(FIRST, training=True), data_owner)
    deliver(blocks, label_owner)
    with pytest.raises(RemoteProtocolError, match="nothing was expected"):
        label_owner.receive(blocks[0])


def test_label_owner_refuses_reordered_answers() -> None:
    label_owner, data_owner = fake_machines()
    blocks = answers(label_owner.request(FIRST, training=True), data_owner)
    assert [block.kind for block in blocks] == [Kind.MASKED_Z, Kind.SHARE_OF_Z]
    with pytest.raises(RemoteProtocolError, match="MASKED_Z of step 1"):
        label_owner.receive(blocks[1])


@pytest.mark.parametrize("magnitude", [2 ** (Z_BITS + 10), 2**63])
def test_z_beyond_its_range_stops_the_label_owner(magnitude: int) -> None:
    label_owner, data_owner = fake_machines()
    blocks = answers(label_owner.request(FIRST, training=True), data_owner)
    label_owner.receive(blocks[0])
    words = np.frombuffer(blocks[1].payload, dtype="<u8") + np.uint64(magnitude + 2**60)
    with pytest.raises(RingOverflowError) as caught:
        label_owner.receive(replace(blocks[1], payload=words.tobytes()))
    assert caught.value.limit_bits == 10
    with pytest.raises(LocalProtocolError):
        label_owner.z()


def test_label_owner_order_of_calls() -> None:
    label_owner, data_owner = fake_machines()
    with pytest.raises(LocalProtocolError, match="not arrived"):
        label_owner.z()
    with pytest.raises(LocalProtocolError, match="idle where open"):
        list(label_owner.update(gradient_of(FIRST, 3)))
    blocks = answers(label_owner.request(FIRST, training=True), data_owner)
    with pytest.raises(LocalProtocolError, match="forward where idle"):
        list(label_owner.request(SECOND, training=True))
    deliver(blocks, label_owner)
    label_owner.z()
    with pytest.raises(LocalProtocolError, match="not arrived"):
        label_owner.z()
    with pytest.raises(LocalProtocolError, match="open where idle"):
        _ = label_owner.share
    assert label_owner.open


def test_data_owner_state_within_a_step() -> None:
    label_owner, data_owner = fake_machines()
    deliver(answers(label_owner.request(FIRST, training=True), data_owner), label_owner)
    assert not data_owner.idle
    with pytest.raises(LocalProtocolError, match="within a step"):
        data_owner.state()


@pytest.mark.parametrize("shape", [(FIRST.rows, 2), (FIRST.rows - 1, 3)])
def test_gradient_of_another_shape_is_not_sent(shape: tuple[int, int]) -> None:
    label_owner, data_owner = fake_machines()
    deliver(answers(label_owner.request(FIRST, training=True), data_owner), label_owner)
    with pytest.raises(LocalProtocolError, match="shape"):
        list(label_owner.update(np.zeros(shape, dtype=np.uint64)))
    assert label_owner.open


def test_handle_of_another_schedule_is_not_sent() -> None:
    label_owner, _ = fake_machines()
    with pytest.raises(LocalProtocolError, match="names no batch") as caught:
        next(label_owner.request(replace(FIRST, rows=1000), training=True))
    assert "batch.rows" in caught.value.hint
    assert label_owner.share.shape == (5, 3)


def test_request_names_batch_purpose_and_updates() -> None:
    pair = fake_machines()
    step(pair, FIRST)
    request = next(iter(pair[0].request(SECOND, training=True)))
    assert (request.kind, request.step) == (Kind.REQUEST, 2)
    assert decode_request(request.payload) == Request(handle=SECOND, training=True, updates=1)
