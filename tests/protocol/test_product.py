"""One product under encryption: the message's blocks in order and of size, and shares that add up."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.contract.flow import matrix_sizes
from moiety.crypto.packing import plan
from moiety.crypto.parameters import TESTING_ONLY
from moiety.crypto.ring import RingArray
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import BLOCK_BYTES, Evaluator, KeyHolder, ProductShape
from moiety.errors import MalformedMessageError, RemoteProtocolError
from moiety.protocol.messages import Block, Kind
from moiety.protocol.product import Collector, blocks_of, matrix_blocks, read_matrix
from tests.support.fake_scheme import FakeEvaluator, FakeKeyHolder
from tests.support.randomness import RecordedRandomness, words_of

SIZES = (3, 3, 2)
PUBLIC_SEED = Seed(bytes(32))


def message() -> list[Block]:
    payloads = [bytes(size) for size in SIZES]
    return list(blocks_of(Kind.WEIGHTS, payloads, step=4, count=len(SIZES)))


def collector() -> Collector:
    return Collector(Kind.WEIGHTS, step=4, sizes=SIZES)


def matrix(rows: int, columns: int) -> RingArray:
    return words_of(f"matrix {rows} x {columns}", rows * columns).reshape(rows, columns)


def test_collector_takes_a_message_in_order() -> None:
    expected = collector()
    assert [expected.receive(block) for block in message()] == [False, False, True]
    assert expected.complete
    assert [len(payload) for payload in expected.payloads] == list(SIZES)


@pytest.mark.parametrize(
    ("change", "value"), [("kind", Kind.GRADIENTS), ("step", 3), ("step", 5), ("index", 1), ("count", 2)]
)
def test_collector_refuses_what_is_not_expected(change: str, value: int) -> None:
    expected, first = collector(), message()[0]
    with pytest.raises(RemoteProtocolError, match=r"block 0 of 3, was expected"):
        expected.receive(replace(first, **{change: value}))  # type: ignore[arg-type]
    assert expected.payloads == []


def test_collector_refuses_a_repeated_block() -> None:
    expected = collector()
    expected.receive(message()[0])
    with pytest.raises(RemoteProtocolError):
        expected.receive(message()[0])
    assert len(expected.payloads) == 1


def test_collector_refuses_more_than_the_message() -> None:
    expected = collector()
    for block in message():
        expected.receive(block)
    beyond = replace(message()[0], index=3)
    with pytest.raises(RemoteProtocolError):
        expected.receive(beyond)


@pytest.mark.parametrize("size", [0, 2, 4])
def test_collector_refuses_another_size(size: int) -> None:
    expected = collector()
    with pytest.raises(MalformedMessageError, match=f"{size} bytes instead of 3"):
        expected.receive(replace(message()[0], payload=bytes(size)))
    assert expected.payloads == []


@given(rows=st.integers(1, 20), columns=st.integers(1, 9))
def test_matrix_round_trip(rows: int, columns: int) -> None:
    blocks = list(matrix_blocks(Kind.SHARE_OF_Z, matrix(rows, columns), step=1))
    assert [len(block.payload) for block in blocks] == list(matrix_sizes(rows, columns))
    assert np.array_equal(read_matrix([block.payload for block in blocks], columns), matrix(rows, columns))


def test_matrix_larger_than_a_block_is_cut_between_rows() -> None:
    columns = BLOCK_BYTES // 8 // 2
    blocks = list(matrix_blocks(Kind.SHARE_OF_Z, matrix(5, columns), step=1))
    assert [(block.index, block.count, len(block.payload)) for block in blocks] == [
        (0, 3, BLOCK_BYTES),
        (1, 3, BLOCK_BYTES),
        (2, 3, BLOCK_BYTES // 2),
    ]
    assert np.array_equal(read_matrix([block.payload for block in blocks], columns), matrix(5, columns))


def test_matrix_of_a_transposed_view_keeps_its_order() -> None:
    transposed = matrix(3, 4).T
    (block,) = matrix_blocks(Kind.SHARE_OF_Z, transposed, step=1)
    assert np.array_equal(read_matrix([block.payload], 3), transposed)


@settings(max_examples=30)
@given(
    rows=st.integers(1, 40),
    contraction=st.integers(1, 40),
    kept=st.integers(1, 20),
    real=st.booleans(),
)
def test_shares_add_up_to_the_product(*, rows: int, contraction: int, kept: int, real: bool) -> None:
    randomness = RecordedRandomness(b"product")
    shape = ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=15)
    planned = plan(TESTING_ONLY, shape)
    holder: KeyHolder = FakeKeyHolder()
    evaluator: Evaluator = FakeEvaluator()
    if real:
        holder = RlweKeyHolder(TESTING_ONLY, public_seed=PUBLIC_SEED, randomness=randomness)
        evaluator = RlweEvaluator(TESTING_ONLY, public_key=holder.public_key(), public_seed=PUBLIC_SEED)
    secret_DK = matrix(contraction, kept)
    plain_ND = (matrix(rows, contraction) >> np.uint64(48)).astype(np.uint16).view(np.int16)
    plain_ND = np.maximum(plain_ND, -(2**15) + 1)
    requests = list(holder.encrypt(secret_DK, plan=planned, randomness=randomness))
    assert [len(block) for block in requests] == list(planned.request_sizes)
    answers = list(evaluator.respond(plain_ND, requests, plan=planned, randomness=randomness))
    assert [len(block) for block, _ in answers] == list(planned.response_sizes)
    share_NK = holder.decrypt([block for block, _ in answers], plan=planned)
    total_NK = share_NK + np.concatenate([share for _, share in answers])
    expected = plain_ND.astype(object) @ secret_DK.astype(object)
    assert total_NK.tolist() == (expected % 2**64).tolist()
