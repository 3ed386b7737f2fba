"""Packing: the plan's invariants, and the layouts against the loops of the oracle."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.crypto import packing
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import (
    DITHERED_SPARE_BITS,
    EXACT_SPARE_BITS,
    LEAST_CUT_BYTES,
    LISTED,
    MOST_CUT_BYTES,
    TESTING_ONLY,
    ParameterSet,
    spare_bits,
)
from moiety.crypto.scheme import BLOCK_BYTES, ProductNeed, ProductShape
from moiety.errors import InsecureParameterError, ParameterError
from tests.support import oracle
from tests.support.randomness import words_of

SHAPES = st.builds(
    ProductShape,
    rows=st.integers(1, 40),
    contraction=st.integers(1, 40),
    kept=st.integers(1, 40),
    multiplier_bits=st.just(15),
)


@st.composite
def plans(draw: st.DrawFn) -> PackingPlan:
    shape = draw(SHAPES)
    slots = 1 << (shape.kept - 1).bit_length()
    sizes = st.integers(LEAST_CUT_BYTES, MOST_CUT_BYTES)
    return PackingPlan(
        parameters=TESTING_ONLY,
        shape=shape,
        slots=slots,
        contracted_per_ciphertext=draw(st.integers(1, TESTING_ONLY.degree // slots)),
        request_bytes=draw(sizes | st.none()),
        response_bytes=draw(sizes),
    )


def _layout(plan: PackingPlan) -> oracle.Layout:
    return oracle.Layout(
        ring=oracle.Ring(degree=plan.parameters.degree, primes=plan.parameters.primes),
        rows=plan.shape.rows,
        contraction=plan.shape.contraction,
        kept=plan.shape.kept,
        slots=plan.slots,
        contracted=plan.contracted_per_ciphertext,
        request_bytes=plan.request_bytes,
        response_bytes=plan.response_bytes,
    )


@given(
    rows=st.integers(1, 5000),
    contraction=st.integers(1, 5000),
    kept=st.integers(1, 8192),
    parameters=st.sampled_from(LISTED),
)
def test_plan_invariants(*, rows: int, contraction: int, kept: int, parameters: ParameterSet) -> None:
    shape = ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=15)
    if spare_bits(parameters, shape, rows_per_ciphertext=1) < 40:
        with pytest.raises(ParameterError):
            packing.plan(parameters, shape)
        return
    plan = packing.plan(parameters, shape)
    c, r = plan.contracted_per_ciphertext, plan.rows_per_ciphertext
    assert plan.slots * c * r <= parameters.degree < plan.slots * c * (r + 1)
    assert kept <= plan.slots < 2 * kept
    assert plan.spare_bits >= 40
    assert (plan.requests - 1) * c < contraction <= plan.requests * c
    assert (plan.responses - 1) * r < rows <= plan.responses * r
    assert plan.slots * 2**plan.column_levels == plan.slots * plan.column_length == parameters.degree
    _check_blocks(plan)


def _check_blocks(plan: PackingPlan) -> None:
    degree = plan.parameters.degree
    whole = plan.parameters.polynomial_bytes
    size = whole if plan.request_bytes is None else degree * plan.request_bytes
    assert size <= whole
    assert [n for block in plan.request_ranges for n in block] == list(range(plan.requests))
    assert [n for block in plan.response_ranges for n in block] == list(range(plan.responses))
    assert max(*plan.request_sizes, *plan.response_sizes, 0) <= BLOCK_BYTES
    assert sum(plan.request_sizes) == 32 * len(plan.request_ranges) + plan.requests * size
    assert sum(plan.response_sizes) == plan.responses * degree * plan.response_bytes
    covered = [plan.output_rows(numbers) for numbers in plan.response_ranges]
    rows = [row for each in covered for row in range(each.start, each.stop)]
    assert rows == list(range(plan.shape.rows))


@given(plan=plans())
def test_block_sizes_equal_formula(plan: PackingPlan) -> None:
    layout = _layout(plan)
    assert list(plan.request_ranges) == layout.request_blocks()
    assert list(plan.response_ranges) == layout.response_blocks()
    assert list(plan.response_sizes) == [layout.response_size(each) for each in layout.response_blocks()]


@pytest.mark.parametrize("required", [DITHERED_SPARE_BITS, EXACT_SPARE_BITS])
@pytest.mark.parametrize("parameters", LISTED[1:], ids=lambda each: each.name)
def test_plan_takes_no_more_response_bytes_than_it_needs(required: int, parameters: ParameterSet) -> None:
    shape = ProductShape(rows=100, contraction=9, kept=32, multiplier_bits=15)
    plan = packing.plan(parameters, shape, required_spare_bits=required)
    assert plan.spare_bits >= required
    assert replace(plan, response_bytes=plan.response_bytes - 1).spare_bits < required
    assert plan.parameters.residue_bytes * len(parameters.primes) > plan.response_bytes


def _nanoseconds(plan: PackingPlan) -> int:
    """A byte of 8 ns both ways; 16 and 20 ns for each residue of a ciphertext to and fro."""
    residues = plan.parameters.degree * len(plan.parameters.primes)
    link = 8 * (sum(plan.request_sizes) + sum(plan.response_sizes))
    return link + residues * (16 * plan.requests + 20 * plan.responses)


def _all_plans(parameters: ParameterSet, shape: ProductShape) -> list[PackingPlan]:
    slots = 1 << (shape.kept - 1).bit_length()
    length = parameters.degree // slots
    few = {odd << level for odd in (1, 3, 5, 7) for level in range(14) if odd << level <= length}
    return [
        PackingPlan(
            parameters=parameters,
            shape=shape,
            slots=slots,
            contracted_per_ciphertext=contracted,
            request_bytes=asked,
            response_bytes=answered,
        )
        for contracted in few | {length // each for each in few}
        for asked in (None, *range(LEAST_CUT_BYTES, MOST_CUT_BYTES + 1))
        for answered in range(LEAST_CUT_BYTES, MOST_CUT_BYTES + 1)
    ]


@pytest.mark.parametrize(
    ("rows", "contraction", "bits"),
    # Of the last, a request of one byte more than it needs is the cheapest: the response needs fewer.
    [(1000, 91, 15), (91, 1000, 15), (8192, 300, 15), (100, 30, 12)],
)
def test_plan_is_the_cheapest_that_fits(rows: int, contraction: int, bits: int) -> None:
    shape = ProductShape(rows=rows, contraction=contraction, kept=32, multiplier_bits=bits)
    chosen = packing.plan(LISTED[0], shape)
    fitting = [plan for plan in _all_plans(LISTED[0], shape) if plan.spare_bits >= 40]
    assert chosen in fitting
    costs = [_nanoseconds(plan) for plan in fitting]
    assert _nanoseconds(chosen) == min(costs) < max(costs)


@pytest.mark.parametrize(
    ("rows", "contraction", "kept"),
    [(1024, 91, 32), (91, 1024, 32), (8192, 300, 32), (300, 8192, 32), (256, 784, 128), (512, 2000, 64)],
)
@pytest.mark.parametrize("megabits", [10, 100, 1000])
@pytest.mark.parametrize("cores", [1, 16])
def test_plan_for_one_line_suits_others(
    rows: int, contraction: int, kept: int, megabits: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why a contract has neither the speed of the line nor cores: a plan made for them is no 1 % better."""
    shape = ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=15)
    taken = packing.plan(LISTED[0], shape)
    monkeypatch.setattr(packing, "BYTE_COST", 8000 * cores // megabits)
    best = min(packing._cost(each) for each in packing._fitting(LISTED[0], shape, DITHERED_SPARE_BITS))
    assert packing._cost(taken) <= 1.01 * best


def test_plan_stricter_spare_refused() -> None:
    shape = ProductShape(rows=1000, contraction=91, kept=32, multiplier_bits=15)
    with pytest.raises(ParameterError) as caught:
        packing.plan(LISTED[0], shape, required_spare_bits=70)
    assert caught.value.hint


def test_plan_kept_beyond_the_degree() -> None:
    shape = ProductShape(rows=1, contraction=1, kept=257, multiplier_bits=15)
    with pytest.raises(ParameterError):
        packing.plan(TESTING_ONLY, shape)


@given(plan=plans())
def test_pack_request_equals_formula(plan: PackingPlan) -> None:
    shape, layout = plan.shape, _layout(plan)
    words = words_of("request", shape.contraction * shape.kept)
    matrix_DK = words.reshape(shape.contraction, shape.kept)
    for numbers in (range(plan.requests), range(plan.requests - 1, plan.requests)):
        packed = packing.pack_request(plan, matrix_DK, numbers)
        expected = [oracle.pack_request(layout, matrix_DK.tolist(), b) for b in numbers]
        assert packed.dtype == np.uint64
        assert packed.tolist() == expected


@pytest.mark.parametrize("narrow", [True, False])
@given(plan=plans())
def test_pack_multipliers_equals_formula(*, narrow: bool, plan: PackingPlan) -> None:
    shape, layout = plan.shape, _layout(plan)
    words = words_of("multipliers", shape.rows * shape.contraction).astype(np.int16)
    small_ND = words.reshape(shape.rows, shape.contraction)
    plain_ND = small_ND if narrow else small_ND.astype(np.int64)
    numbers = range(plan.responses // 2, plan.responses)
    packed = packing.pack_multipliers(plan, plain_ND, numbers)
    for place, g in enumerate(numbers):
        for b in range(plan.requests):
            formula = oracle.pack_multiplier(layout, plain_ND.tolist(), g=g, b=b)
            # Multipliers live in Y = X^l: nothing of the formula lies between.
            assert packed[place, b].tolist() == formula[:: plan.slots]
            assert sum(map(bool, formula)) == np.count_nonzero(packed[place, b])


@given(plan=plans())
def test_read_rows_equals_formula(plan: PackingPlan) -> None:
    layout, degree = _layout(plan), plan.parameters.degree
    numbers = range(plan.responses // 2, plan.responses)
    primes = len(plan.parameters.primes)
    words = words_of("response", len(numbers) * primes * degree).reshape(len(numbers), primes, degree)
    carrying = [layout.carrying(g) for g in numbers]
    expected = [
        [int(words[place, prime, each]) for place, places in enumerate(carrying) for each in places]
        for prime in range(primes)
    ]
    read = packing.read_rows(plan, words, numbers)
    assert read.tolist() == [expected]
    assert read.flags.c_contiguous


@given(plan=plans())
def test_packed_product_is_the_matrix_product(plan: PackingPlan) -> None:
    shape, layout = plan.shape, _layout(plan)
    flat = words_of("plain", shape.rows * shape.contraction).astype(np.int16).tolist()
    plain = [flat[n * shape.contraction :][: shape.contraction] for n in range(shape.rows)]
    flat = words_of("matrix", shape.contraction * shape.kept).tolist()
    matrix = [flat[d * shape.kept :][: shape.kept] for d in range(shape.contraction)]
    ring, g = layout.ring, plan.responses - 1
    total = [0] * ring.degree
    for b in range(plan.requests):
        multiplier = oracle.pack_multiplier(layout, plain, g=g, b=b)
        message = oracle.pack_request(layout, matrix, b)
        total = oracle.add(ring, total, oracle.multiply(ring, multiplier, message))
    rows = plain[g * plan.rows_per_ciphertext :]
    expected = [
        [sum(row[d] * matrix[d][k] for d in range(shape.contraction)) for k in range(shape.kept)]
        for row in rows
    ]
    modular = [[each % ring.modulus for each in row] for row in expected]
    assert oracle.as_rows(layout, [total[each] for each in layout.carrying(g)]) == modular


def test_plan_with_more_requests_than_the_kernel_adds_up() -> None:
    shape = ProductShape(rows=8, contraction=2**18, kept=4096, multiplier_bits=15)
    with pytest.raises(ParameterError):
        packing.plan(LISTED[2], shape)


def _cost(parameters: ParameterSet, needs: list[ProductNeed]) -> float:
    """Add up the nanoseconds of the cheapest plans, by trying all of them."""
    total = 0
    for need in needs:
        plans = _all_plans(parameters, need.shape)
        costs = [_nanoseconds(plan) for plan in plans if plan.spare_bits >= need.spare_bits]
        if not costs:
            return math.inf
        total += min(costs)
    return float(total)


def _need(rows: int, contraction: int, kept: int, *, bits: int = 15, spare: int = 40) -> ProductNeed:
    shape = ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=bits)
    return ProductNeed(shape=shape, spare_bits=spare)


@pytest.mark.parametrize(
    "needs",
    [
        [_need(16, 5, 3)],
        [_need(1024, 91, 32), _need(91, 1024, 32)],
        [_need(1024, 32, 91, bits=21, spare=64)],
        [_need(32, 91, 1024, bits=63), _need(32, 1024, 91, bits=30)],
        [_need(256, 16, 4, spare=70), _need(16, 256, 4)],
        [_need(3, 5, 2**14, bits=63)],
    ],
)
@pytest.mark.slow
def test_choose_takes_the_set_under_which_all_products_are_cheapest(needs: list[ProductNeed]) -> None:
    costs = {parameters.name: _cost(parameters, needs) for parameters in LISTED}
    chosen = packing.choose(needs)
    assert costs[chosen.name] == min(costs.values()) < math.inf


def test_choose_weighs_all_products_and_not_the_first() -> None:
    small, exact = _need(16, 5, 3), _need(1024, 32, 91, bits=63, spare=64)
    alone = packing.choose([small])
    assert packing.choose([small, exact]) == packing.choose([exact, small]) != alone


@pytest.mark.parametrize("need", [_need(3, 5, 2**14 + 1), _need(1024, 91, 32, spare=400)])
def test_choose_refuses_what_fits_no_set(need: ProductNeed) -> None:
    with pytest.raises(ParameterError, match="no listed parameter set") as caught:
        packing.choose([_need(16, 5, 3), need])
    assert "smaller batches" in caught.value.hint


def test_choose_refuses_a_set_without_security(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LISTED", (TESTING_ONLY,))
    with pytest.raises(InsecureParameterError):
        packing.choose([_need(16, 5, 3)])
