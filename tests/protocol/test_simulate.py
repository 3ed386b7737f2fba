"""Both roles in one process: the specification in use."""

import numpy as np
import pytest

from moiety.contract.policy import Meter
from moiety.contract.products import Product
from moiety.contract.schedule import RowIndices, Split
from moiety.crypto.ring import RingArray
from moiety.errors import PolicyError
from moiety.protocol.messages import Block, Kind, Request
from moiety.protocol.simulate import Pair, handshake
from tests.support.pair import contract_of, data_terms, gradient_of, label_terms, table_of, training_handles
from tests.support.randomness import RecordedRandomness

CONTRACT = contract_of()


def pair_of(seen: list[Block], *, seed: bytes = b"simulate") -> Pair:
    return Pair(CONTRACT, table_of(CONTRACT), randomness=RecordedRandomness(seed), observe=seen.append)


def run(seen: list[Block], *, gradient: str = "gradient") -> RingArray:
    pair = pair_of(seen)
    for handle in training_handles(CONTRACT)[:2]:
        pair.forward(handle, training=True)
        pair.update(gradient_of(handle, 3, name=gradient))
    pair.forward(CONTRACT.schedule.batches(Split.TEST, epoch=0)[0], training=False)
    return pair.weights()


def test_messages_follow_the_specification() -> None:
    seen: list[Block] = []
    run(seen)
    step = [
        Kind.REQUEST,
        Kind.WEIGHTS,
        Kind.MASKED_Z,
        Kind.SHARE_OF_Z,
        Kind.GRADIENTS,
        Kind.MASKED_UPDATE,
    ]
    assert [block.kind for block in seen] == [Kind.INITIAL_SHARE, *step, *step, *step[:4]]
    assert [block.step for block in seen] == [0, *[1] * 6, *[2] * 6, *[3] * 4]


def test_message_sizes_do_not_depend_on_the_gradients() -> None:
    blocks: list[list[Block]] = [[], []]
    weights = [run(seen, gradient=name) for seen, name in zip(blocks, ("one", "two"), strict=True)]
    assert not np.array_equal(weights[0], weights[1])
    sizes = [[(each.kind, each.index, len(each.payload)) for each in seen] for seen in blocks]
    assert sizes[0] == sizes[1]


def test_run_repeats_with_its_seeds() -> None:
    blocks: list[list[Block]] = [[], []]
    assert np.array_equal(run(blocks[0]), run(blocks[1]))
    assert blocks[0] == blocks[1]


def test_no_seed_is_used_twice() -> None:
    randomness = RecordedRandomness(b"fresh")
    pair = Pair(CONTRACT, table_of(CONTRACT), randomness=randomness)
    before = len(randomness.given)
    for handle in training_handles(CONTRACT)[:2]:
        pair.forward(handle, training=True)
        pair.update(gradient_of(handle, 3))
    # Per step: public part and secrets of two requests, secrets of two responses.
    assert len(randomness.given) - before == 2 * 6
    assert len(set(randomness.given)) == len(randomness.given)


def test_handshake_gives_what_the_pair_needs() -> None:
    contract = handshake(label_terms(), data_terms())
    pair = Pair(contract, table_of(contract), randomness=RecordedRandomness(b"handshake"))
    handle = training_handles(contract)[0]
    assert pair.forward(handle, training=True).shape == (handle.rows, 3)


def test_policy_stops_the_release_that_would_exceed_it() -> None:
    meter = Meter(CONTRACT.data_owner.policy, before=CONTRACT.data_owner.before, rows=40, asks=CONTRACT.asks)
    totals = []

    def charge(request: Request, rows: RowIndices) -> None:
        totals.append(meter.charge(rows, out_features=3, prediction=False, step=request.training))

    pair = Pair(CONTRACT, table_of(CONTRACT), randomness=RecordedRandomness(b"x"), charge=charge)
    handle = CONTRACT.schedule.batches(Split.TEST, epoch=0)[0]
    for _ in range(33):
        pair.forward(handle, training=False)
    with pytest.raises(PolicyError) as caught:
        pair.forward(handle, training=False)
    assert (caught.value.limit, caught.value.allowed, caught.value.asked) == (
        "released_z_per_row",
        100,
        102,
    )
    assert totals[-1].released_z_per_row == 99


def test_weights_cross_once_between_updates() -> None:
    """Enc(W_label) serves every batch until W moves, and no longer."""
    seen: list[Kind] = []
    pair = Pair(
        CONTRACT,
        table_of(CONTRACT),
        randomness=RecordedRandomness(b"once"),
        observe=lambda block: seen.append(block.kind),
    )
    first, second = training_handles(CONTRACT)[:2]
    z_NK = pair.forward(first, training=False)
    assert np.array_equal(pair.forward(first, training=False), z_NK)
    pair.forward(first, training=True)
    assert seen.count(Kind.WEIGHTS) == 1
    pair.update(gradient_of(first, 3))
    assert not np.array_equal(pair.forward(first, training=False), z_NK)
    pair.forward(second, training=True)
    assert seen.count(Kind.WEIGHTS) == 2


def test_weights_cross_again_in_another_layout() -> None:
    contract = contract_of(label=label_terms(rows=300, batch=256, validation=0.01), data=data_terms(rows=300))
    seen: list[Kind] = []
    pair = Pair(
        contract,
        table_of(contract),
        randomness=RecordedRandomness(b"layout"),
        observe=lambda block: seen.append(block.kind),
    )
    (few,) = contract.schedule.batches(Split.VALIDATION, epoch=0)
    (many,) = contract.schedule.batches(Split.TRAIN, epoch=0)
    plans = [contract.plan(Product.FORWARD, handle.rows) for handle in (few, many)]
    assert plans[0].request_sizes != plans[1].request_sizes
    for handle in (few, many, many, few):
        pair.forward(handle, training=False)
    assert seen.count(Kind.WEIGHTS) == 3
