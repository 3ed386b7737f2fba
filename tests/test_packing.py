"""Packing: the plan's invariants, and the layouts against the loops of the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.crypto import packing
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import LISTED, TESTING_ONLY, ParameterSet, spare_bits
from moiety.crypto.scheme import BLOCK_BYTES, ProductShape
from moiety.errors import ParameterError
from tests import oracle
from tests.randomness import words_of

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
    levels = (TESTING_ONLY.degree // slots).bit_length()
    contracted = 2 ** draw(st.integers(0, levels - 1))
    return PackingPlan(
        parameters=TESTING_ONLY, shape=shape, slots=slots, contracted_per_ciphertext=contracted
    )


def _layout(plan: PackingPlan) -> oracle.Layout:
    return oracle.Layout(
        ring=oracle.Ring(degree=plan.parameters.degree, primes=plan.parameters.primes),
        rows=plan.shape.rows,
        contraction=plan.shape.contraction,
        kept=plan.shape.kept,
        slots=plan.slots,
        contracted=plan.contracted_per_ciphertext,
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
    assert plan.slots * c * r == parameters.degree
    assert kept <= plan.slots < 2 * kept
    assert plan.spare_bits >= 40
    assert (plan.requests - 1) * c < contraction <= plan.requests * c
    assert (plan.responses - 1) * r < rows <= plan.responses * r
    assert 2**plan.column_levels == plan.column_length == c * r
    _check_blocks(plan)


def _check_blocks(plan: PackingPlan) -> None:
    size = plan.parameters.polynomial_bytes
    assert [n for block in plan.request_ranges for n in block] == list(range(plan.requests))
    assert [n for block in plan.response_ranges for n in block] == list(range(plan.responses))
    assert max(*plan.request_sizes, *plan.response_sizes, 0) <= BLOCK_BYTES
    assert sum(plan.request_sizes) == 32 * len(plan.request_ranges) + plan.requests * size
    assert sum(plan.response_sizes) == 2 * plan.responses * size
    covered = [plan.output_rows(numbers) for numbers in plan.response_ranges]
    rows = [row for each in covered for row in range(each.start, each.stop)]
    assert rows == list(range(plan.shape.rows))


def test_plan_is_the_cheapest_that_fits() -> None:
    shape = ProductShape(rows=1000, contraction=91, kept=32, multiplier_bits=15)
    chosen = packing.plan(LISTED[0], shape)
    costs = {}
    for level in range(9):
        plan = PackingPlan(parameters=LISTED[0], shape=shape, slots=32, contracted_per_ciphertext=2**level)
        if plan.spare_bits >= 40:
            costs[2**level] = 10 * plan.requests + 23 * plan.responses
    assert costs[chosen.contracted_per_ciphertext] == min(costs.values())


def test_plan_stricter_spare_refused() -> None:
    shape = ProductShape(rows=1000, contraction=91, kept=32, multiplier_bits=15)
    with pytest.raises(ParameterError) as caught:
        packing.plan(LISTED[0], shape, required_spare_bits=64)
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
def test_unpack_response_equals_formula(plan: PackingPlan) -> None:
    layout, degree = _layout(plan), plan.parameters.degree
    numbers = range(plan.responses // 2, plan.responses)
    words = words_of("response", len(numbers) * degree).reshape(len(numbers), degree)
    expected = [
        row for place, g in enumerate(numbers) for row in oracle.read_rows(layout, words[place].tolist(), g)
    ]
    assert packing.unpack_response(plan, words, numbers).tolist() == expected


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
    assert oracle.read_rows(layout, total, g) == modular


def test_plan_with_more_requests_than_the_kernel_adds_up() -> None:
    shape = ProductShape(rows=8, contraction=2**18, kept=4096, multiplier_bits=15)
    with pytest.raises(ParameterError):
        packing.plan(LISTED[2], shape)
