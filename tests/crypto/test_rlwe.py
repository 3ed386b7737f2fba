"""The cryptosystem: shares that add up to the product exactly; noise, sizes, seeds, order."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from moiety.crypto import packing, rlwe
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import LISTED, TESTING_ONLY, ParameterSet, deviation
from moiety.crypto.ring import RingArray
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import MapFunction, ProductShape
from moiety.errors import MalformedMessageError
from tests.support import oracle
from tests.support.randomness import RecordedRandomness, words_of

PUBLIC_SEED = Seed(bytes(range(32)))
PRODUCTION = LISTED[0]
EXTREME = 2**15 - 1


class Pair:
    """One key holder and one evaluator, with all randomness recorded in one list."""

    def __init__(self, parameters: ParameterSet, *, map_function: MapFunction = map) -> None:
        self.randomness = RecordedRandomness(b"test of rlwe")
        self.holder = RlweKeyHolder(parameters, public_seed=PUBLIC_SEED, randomness=self.randomness)
        self.evaluator = RlweEvaluator(
            parameters,
            public_key=self.holder.public_key(),
            public_seed=PUBLIC_SEED,
            map_function=map_function,
        )

    def request(self, matrix_DK: RingArray, plan: PackingPlan) -> list[bytes]:
        return list(self.holder.encrypt(matrix_DK, plan=plan, randomness=self.randomness))

    def respond(
        self, plain_ND: NDArray[Any], requests: list[bytes], plan: PackingPlan
    ) -> tuple[list[bytes], RingArray]:
        answers = list(self.evaluator.respond(plain_ND, requests, plan=plan, randomness=self.randomness))
        return [block for block, _ in answers], np.concatenate([share for _, share in answers])

    def shares(
        self, plain_ND: NDArray[Any], matrix_DK: RingArray, plan: PackingPlan
    ) -> tuple[RingArray, RingArray]:
        blocks, own = self.respond(plain_ND, self.request(matrix_DK, plan), plan)
        return self.holder.decrypt(blocks, plan=plan), own


def _shape(*, rows: int, contraction: int, kept: int) -> ProductShape:
    return ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=15)


def _plan(shape: ProductShape, *, level: int) -> PackingPlan:
    slots = 1 << (shape.kept - 1).bit_length()
    return PackingPlan(
        parameters=TESTING_ONLY,
        shape=shape,
        slots=slots,
        contracted_per_ciphertext=min(2**level, TESTING_ONLY.degree // slots),
    )


def _operands(shape: ProductShape, name: str = "") -> tuple[NDArray[np.int64], RingArray]:
    plain = words_of(f"plain {name}", shape.rows * shape.contraction).astype(np.int16)
    plain[plain == -(2**15)] = EXTREME
    matrix_DK = words_of(f"matrix {name}", shape.contraction * shape.kept)
    plain_ND = plain.astype(np.int64).reshape(shape.rows, shape.contraction)
    return plain_ND, matrix_DK.reshape(shape.contraction, shape.kept)


def _product(plain_ND: NDArray[Any], matrix_DK: RingArray) -> RingArray:
    return plain_ND.astype(np.int64).view(np.uint64) @ matrix_DK


@settings(max_examples=200)
@given(
    rows=st.integers(1, 40),
    contraction=st.integers(1, 40),
    kept=st.integers(1, 40),
    contracted=st.integers(1, 256),
    request_bytes=st.sampled_from([None, 16, 19]),
    name=st.text(max_size=4),
)
def test_shares_add_up_random_shapes(
    *, rows: int, contraction: int, kept: int, contracted: int, request_bytes: int | None, name: str
) -> None:
    shape = _shape(rows=rows, contraction=contraction, kept=kept)
    plan = _plan(shape, level=0)
    contracted = 1 + (contracted - 1) % plan.column_length
    plan = replace(plan, contracted_per_ciphertext=contracted, request_bytes=request_bytes)
    plain_ND, matrix_DK = _operands(shape, name)
    holder, evaluator = Pair(TESTING_ONLY).shares(plain_ND, matrix_DK, plan)
    assert holder.shape == evaluator.shape == (rows, kept)
    assert np.array_equal(holder + evaluator, _product(plain_ND, matrix_DK))


@pytest.mark.parametrize(
    ("rows", "contraction", "kept"),
    [(1000, 91, 32), (91, 1000, 32), (1, 1, 1), (37, 200, 33), (3, 5, 5000)],
)
def test_shares_add_up_production_set(*, rows: int, contraction: int, kept: int) -> None:
    shape = _shape(rows=rows, contraction=contraction, kept=kept)
    plan = packing.plan(PRODUCTION, shape)
    plain_ND, matrix_DK = _operands(shape)
    holder, evaluator = Pair(PRODUCTION).shares(plain_ND, matrix_DK, plan)
    assert np.array_equal(holder + evaluator, _product(plain_ND, matrix_DK))


@pytest.mark.parametrize("parameters", LISTED[1:], ids=lambda each: each.name)
def test_shares_add_up_other_sets(parameters: ParameterSet) -> None:
    shape = _shape(rows=7, contraction=11, kept=5)
    plain_ND, matrix_DK = _operands(shape)
    plan = packing.plan(parameters, shape)
    holder, evaluator = Pair(parameters).shares(plain_ND, matrix_DK, plan)
    assert np.array_equal(holder + evaluator, _product(plain_ND, matrix_DK))


@pytest.mark.parametrize("multiplier", [EXTREME, -EXTREME, 0])
@pytest.mark.parametrize("word", [0, 1, 2**63, 2**64 - 1, 2**63 - 1])
def test_shares_add_up_extreme_values(*, multiplier: int, word: int) -> None:
    shape = _shape(rows=20, contraction=40, kept=4)
    plain_ND = np.full((20, 40), multiplier, dtype=np.int64)
    matrix_DK = np.full((40, 4), word, dtype=np.uint64)
    holder, evaluator = Pair(TESTING_ONLY).shares(plain_ND, matrix_DK, _plan(shape, level=3))
    assert np.array_equal(holder + evaluator, _product(plain_ND, matrix_DK))


def test_shares_same_for_both_integer_types() -> None:
    shape = _shape(rows=9, contraction=7, kept=3)
    plain_ND, matrix_DK = _operands(shape)
    plan = _plan(shape, level=2)
    wide = Pair(TESTING_ONLY).shares(plain_ND, matrix_DK, plan)
    narrow = Pair(TESTING_ONLY).shares(plain_ND.astype(np.int16), matrix_DK, plan)
    assert np.array_equal(wide, narrow)


def _backwards(work: Callable[[Any], Any], blocks: Iterable[Any]) -> list[Any]:
    return [work(block) for block in reversed(list(blocks))][::-1]


@pytest.mark.parametrize("ahead", [False, True])
def test_messages_independent_of_order_and_of_what_was_prepared(*, ahead: bool) -> None:
    # 920 ciphertexts each way, so that there are several blocks of both kinds.
    shape = _shape(rows=920, contraction=920, kept=256)
    plan = _plan(shape, level=0)
    assert len(plan.request_ranges) > 1 < len(plan.response_ranges)
    small = _shape(rows=920, contraction=3, kept=256)
    plan_small = _plan(small, level=0)
    plain_ND, matrix_DK = _operands(small)
    results: list[object] = []
    for pair in (Pair(TESTING_ONLY), Pair(TESTING_ONLY, map_function=_backwards)):
        prepares = ahead and bool(results)  # the second pair
        if prepares:
            pair.holder.prepare(plan=plan, randomness=pair.randomness)
        requests = pair.request(_operands(shape)[1], plan)
        small_requests = pair.request(matrix_DK, plan_small)
        if prepares:
            pair.evaluator.prepare(plan=plan_small, randomness=pair.randomness)
        blocks, own = pair.respond(plain_ND, small_requests, plan_small)
        share = pair.holder.decrypt(blocks, plan=plan_small)
        assert np.array_equal(share + own, _product(plain_ND, matrix_DK))
        results.append((requests, blocks, share.tolist()))
    assert results[0] == results[1]


def test_respond_several_request_blocks() -> None:
    shape = _shape(rows=2, contraction=920, kept=256)
    plan = _plan(shape, level=0)
    plain_ND, matrix_DK = _operands(shape)
    pair = Pair(TESTING_ONLY)
    requests = pair.request(matrix_DK, plan)
    assert [len(block) for block in requests] == list(plan.request_sizes)
    assert len(requests) == 2
    blocks, own = pair.respond(plain_ND, requests, plan)
    assert np.array_equal(pair.holder.decrypt(blocks, plan=plan) + own, _product(plain_ND, matrix_DK))
    with pytest.raises(MalformedMessageError):
        pair.respond(plain_ND, requests[::-1], plan)


@pytest.mark.parametrize("parameters", [TESTING_ONLY, PRODUCTION], ids=lambda each: each.name)
def test_wire_sizes_as_planned(parameters: ParameterSet) -> None:
    shape = _shape(rows=100, contraction=30, kept=17)
    plan = packing.plan(parameters, shape)
    plain_ND, matrix_DK = _operands(shape)
    pair = Pair(parameters)
    requests = pair.request(matrix_DK, plan)
    blocks, _ = pair.respond(plain_ND, requests, plan)
    assert len(pair.holder.public_key()) == parameters.polynomial_bytes
    assert tuple(map(len, requests)) == plan.request_sizes
    assert tuple(map(len, blocks)) == plan.response_sizes


@pytest.mark.parametrize(
    ("level", "sign", "request_bytes", "response_bytes"),
    [(0, 1, None, 19), (3, -1, None, 19), (6, 1, None, 19), (6, 1, 15, 14), (6, -1, None, 12)],
)
def test_noise_deviates_as_bounded(
    monkeypatch: pytest.MonkeyPatch, *, level: int, sign: int, request_bytes: int | None, response_bytes: int
) -> None:
    """With multipliers all as large as they may be, the bound is met but for what s and u are short of N."""
    shape = _shape(rows=200, contraction=60, kept=4)
    plan = replace(_plan(shape, level=level), request_bytes=request_bytes, response_bytes=response_bytes)
    _, matrix_DK = _operands(shape)
    plain_ND = np.full((200, 60), sign * EXTREME, dtype=np.int64)
    pair, c0 = Pair(TESTING_ONLY), record_own_part(monkeypatch)
    blocks, _ = pair.respond(plain_ND, pair.request(matrix_DK, plan), plan)
    noises = _noises(
        plan, blocks, c0, key_seed=pair.randomness.given[0], product=_product(plain_ND, matrix_DK)
    )
    bound = deviation(
        TESTING_ONLY,
        shape,
        rows_per_ciphertext=plan.rows_per_ciphertext,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
    )
    found = float(np.sqrt(np.mean(np.square(np.array(noises) / TESTING_ONLY.modulus))))
    # 800 values that depend on each other: equal multipliers add the same errors up, with other signs.
    assert bound / 4 < found < 1.5 * bound


def record_own_part(monkeypatch: pytest.MonkeyPatch) -> list[RingArray]:
    """Record c0' where rows lie, as the evaluator keeps it: (1, primes, entries) of some ciphertexts."""
    recorded: list[RingArray] = []
    respond = rlwe._respond_piece

    def keeping(plan: PackingPlan, sums: Any, products: Any, errors: Any, numbers: range) -> Any:
        answer = respond(plan, sums, products, errors, numbers)
        recorded.append(packing.read_rows(plan, sums[:, 0], numbers))
        return answer

    monkeypatch.setattr(rlwe, "_respond_piece", keeping)
    return recorded


def _layout(plan: PackingPlan) -> oracle.Layout:
    ring = oracle.Ring(degree=plan.parameters.degree, primes=plan.parameters.primes)
    return oracle.Layout(
        ring=ring,
        rows=plan.shape.rows,
        contraction=plan.shape.contraction,
        kept=plan.shape.kept,
        slots=plan.slots,
        contracted=plan.contracted_per_ciphertext,
        request_bytes=plan.request_bytes,
        response_bytes=plan.response_bytes,
    )


def _own_parts(plan: PackingPlan, blocks: list[bytes], *, key_seed: bytes) -> list[int]:
    """The key holder's c1' s where rows lie, with the oracle."""
    layout = _layout(plan)
    holder = oracle.KeyHolder(layout.ring, public_seed=PUBLIC_SEED, seed=key_seed)
    parts = zip(blocks, layout.response_blocks(), strict=True)
    return [
        value for block, numbers in parts for part in holder.parts(layout, block, numbers) for value in part
    ]


def _noises(
    plan: PackingPlan, blocks: list[bytes], c0: list[RingArray], *, key_seed: bytes, product: RingArray
) -> list[int]:
    """c0' + c1' s - product q / 2^64, in units of q, around 0."""
    ring = _layout(plan).ring
    kept = [oracle.from_residues(ring, part[0].tolist()) for part in c0]
    phases = oracle.add(
        ring, [value for part in kept for value in part], _own_parts(plan, blocks, key_seed=key_seed)
    )
    exact = [oracle.scale_up(ring, value) for row in product.tolist() for value in row]
    noises = [(a - b) % ring.modulus for a, b in zip(phases, exact, strict=True)]
    return [noise - ring.modulus * (noise > ring.modulus // 2) for noise in noises]


def test_every_message_takes_fresh_seeds() -> None:
    shape = _shape(rows=3, contraction=4, kept=2)
    plan = _plan(shape, level=1)
    plain_ND, matrix_DK = _operands(shape)
    pair = Pair(TESTING_ONLY)
    messages: list[bytes] = []
    for _ in range(8):
        requests = pair.request(matrix_DK, plan)
        blocks, _ = pair.respond(plain_ND, requests, plan)
        messages += [*requests, *blocks]
    given_seeds = pair.randomness.given
    assert len(given_seeds) == 1 + 8 * 3
    assert len(set(given_seeds)) == len(given_seeds)
    assert len(set(messages)) == len(messages)


def test_prepared_zeros_are_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared twice and used twice: the second use draws fresh seeds, and draws nothing again."""
    shape = _shape(rows=3, contraction=4, kept=2)
    plan, other = _plan(shape, level=1), _plan(_shape(rows=3, contraction=9, kept=2), level=1)
    plain_ND, matrix_DK = _operands(shape)
    pair = Pair(TESTING_ONLY)
    drawn: list[bytes] = []
    sample = rlwe._ternary

    def recorded(*arguments: Any) -> Any:
        values = sample(*arguments)
        drawn.append(values.tobytes())
        return values

    monkeypatch.setattr(rlwe, "_ternary", recorded)
    messages: list[bytes] = []
    for _ in range(3):
        for _ in range(2):
            pair.holder.prepare(plan=plan, randomness=pair.randomness)
            pair.evaluator.prepare(plan=plan, randomness=pair.randomness)
        requests = pair.request(matrix_DK, plan)
        blocks, _ = pair.respond(plain_ND, requests, plan)
        messages += [*requests, *blocks]
    assert len(set(messages)) == len(messages) == 6
    assert len(set(drawn)) == len(drawn) == 3 * plan.responses
    # What was prepared for another plan is never used.
    pair.holder.prepare(plan=other, randomness=pair.randomness)
    pair.evaluator.prepare(plan=other, randomness=pair.randomness)
    holder, evaluator = pair.shares(plain_ND, matrix_DK, plan)
    assert np.array_equal(holder + evaluator, _product(plain_ND, matrix_DK))


def test_response_differs_in_every_coefficient_where_there_is_nothing_to_hide() -> None:
    shape = _shape(rows=70, contraction=2, kept=2)
    plan = _plan(shape, level=1)
    pair = Pair(TESTING_ONLY)
    requests = pair.request(np.zeros((2, 2), dtype=np.uint64), plan)
    blocks, own = pair.respond(np.zeros((70, 2), dtype=np.int64), requests, plan)
    size = plan.response_bytes
    coefficients = [block[at : at + size] for block in blocks for at in range(0, len(block), size)]
    assert len(set(coefficients)) == len(coefficients) == 256 * plan.responses
    assert len(set(own.ravel().tolist())) == own.size


def test_response_sends_c1_and_nothing_else() -> None:
    shape = _shape(rows=5, contraction=40, kept=3)
    plan = _plan(shape, level=4)
    plain_ND, matrix_DK = _operands(shape)
    pair = Pair(TESTING_ONLY)
    blocks, _ = pair.respond(plain_ND, pair.request(matrix_DK, plan), plan)
    assert plan.rows_per_ciphertext == 4
    assert sum(map(len, blocks)) == 2 * 256 * plan.response_bytes


@pytest.mark.parametrize("response_bytes", [14, 15, 16, 18])
def test_shares_add_up_with_fewer_bytes(response_bytes: int) -> None:
    shape = _shape(rows=20, contraction=40, kept=5)
    plan = replace(_plan(shape, level=3), request_bytes=response_bytes + 1, response_bytes=response_bytes)
    plain_ND, matrix_DK = _operands(shape)
    holder, evaluator = Pair(TESTING_ONLY).shares(plain_ND, matrix_DK, plan)
    assert plan.spare_bits > 30
    assert np.array_equal(holder + evaluator, _product(plain_ND, matrix_DK))


def test_public_key_depends_on_the_public_seed() -> None:
    randomness = RecordedRandomness(b"one")
    first = RlweKeyHolder(TESTING_ONLY, public_seed=PUBLIC_SEED, randomness=randomness)
    again = RecordedRandomness(b"one")
    second = RlweKeyHolder(TESTING_ONLY, public_seed=Seed(bytes(32)), randomness=again)
    assert first.public_key() != second.public_key()
    assert "redacted" in repr(first)
