"""Sub-ring packing: how a matrix product lies in polynomials.

Write X^N + 1 over Y = X^l: a ciphertext is l independent columns, each a polynomial in Y of degree below
M = N / l, and plain multipliers live in Z[Y] only, so that one small transform serves l columns. With c
contracted entries and r = M / c output rows per ciphertext,

    column i of ciphertext b:    m(Y) = sum_j M[b c + j, i] Y^j
    multiplier of rows g, b:     p(Y) = sum_t sum_j P[g r + t, b c + j] Y^(t c + c - 1 - j)

the coefficient of Y^(t c + c - 1) in sum_b p m is row g r + t of the product: terms of another row would
need |j - j'| to be a multiple of c, and what wraps at Y^M = -1 ends at or below Y^(c - 2).

A larger c means fewer ciphertexts to send and more to return; the planner weighs the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isinf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.parameters import (
    DITHERED_SPARE_BITS,
    LISTED,
    ParameterSet,
    require_secure,
    spare_bits,
)
from moiety.crypto.sampling import SEED_BYTES
from moiety.crypto.scheme import BLOCK_BYTES, ProductNeed, ProductShape
from moiety.errors import ParameterError
from moiety.ring import RingArray

REQUEST_COST: Final = 10
RESPONSE_COST: Final = 23
"""Relative cost of a ciphertext sent to and fro, in transforms and in bytes: a request is seeded (one
polynomial on the wire) and costs about two transforms a prime, a response two polynomials and five."""


REQUESTS_LIMIT: Final = 8192
"""Ciphertexts that the kernel adds up without reducing in between."""


@dataclass(frozen=True, kw_only=True)
class PackingPlan:
    """One product under one parameter set, cut into ciphertexts and blocks.

    Args:
        slots: l, columns per ciphertext, a power of two not below the kept dimension.
        contracted_per_ciphertext: c, a power of two; rows per ciphertext are N / (l c).
    """

    parameters: ParameterSet
    shape: ProductShape
    slots: int
    contracted_per_ciphertext: int

    @property
    def column_length(self) -> int:
        """M = N / l: coefficients of a column, and of a multiplier."""
        return self.parameters.degree // self.slots

    @property
    def rows_per_ciphertext(self) -> int:
        """Output rows r of one response ciphertext."""
        return self.column_length // self.contracted_per_ciphertext

    @property
    def requests(self) -> int:
        """Ciphertexts from the key holder."""
        return -(-self.shape.contraction // self.contracted_per_ciphertext)

    @property
    def responses(self) -> int:
        """Ciphertexts from the evaluator."""
        return -(-self.shape.rows // self.rows_per_ciphertext)

    @property
    def spare_bits(self) -> float:
        """Bits left over by the noise bound."""
        return spare_bits(self.parameters, self.shape, rows_per_ciphertext=self.rows_per_ciphertext)

    @property
    def column_levels(self) -> int:
        """Transform levels that act along Y only: log2 M."""
        return self.column_length.bit_length() - 1

    @cached_property
    def request_ranges(self) -> tuple[range, ...]:
        """Ciphertext numbers of each request block: 32 bytes of seed and one polynomial each."""
        return _ranges(self.requests, (BLOCK_BYTES - SEED_BYTES) // self.parameters.polynomial_bytes)

    @cached_property
    def response_ranges(self) -> tuple[range, ...]:
        """Ciphertext numbers of each response block: two polynomials each."""
        return _ranges(self.responses, BLOCK_BYTES // (2 * self.parameters.polynomial_bytes))

    @property
    def request_sizes(self) -> tuple[int, ...]:
        """Bytes of each request block."""
        size = self.parameters.polynomial_bytes
        return tuple(SEED_BYTES + len(numbers) * size for numbers in self.request_ranges)

    @property
    def response_sizes(self) -> tuple[int, ...]:
        """Bytes of each response block."""
        size = 2 * self.parameters.polynomial_bytes
        return tuple(len(numbers) * size for numbers in self.response_ranges)

    def output_rows(self, numbers: range) -> slice:
        """Return the rows of the product that response ciphertexts `numbers` carry."""
        r = self.rows_per_ciphertext
        return slice(numbers.start * r, min(numbers.stop * r, self.shape.rows))


def plan(
    parameters: ParameterSet,
    shape: ProductShape,
    *,
    required_spare_bits: int = DITHERED_SPARE_BITS,
) -> PackingPlan:
    """Choose (c, r) for a product: the cheapest pair whose noise fits.

    Raises:
        ParameterError: the kept dimension exceeds the degree, or no pair holds the noise.
    """
    slots = _power_of_two(shape.kept)
    candidates = [
        PackingPlan(parameters=parameters, shape=shape, slots=slots, contracted_per_ciphertext=2**level)
        for level in range((parameters.degree // slots).bit_length())
    ]
    fitting = [
        each
        for each in candidates
        if each.spare_bits >= required_spare_bits and each.requests <= REQUESTS_LIMIT
    ]
    if not fitting:
        raise ParameterError(
            f"{parameters.name} cannot hold the product {shape}",
            hint="use smaller batches or fewer units",
        )
    return min(fitting, key=_cost)


def choose(needs: Sequence[ProductNeed]) -> ParameterSet:
    """Return the listed parameter set under which the products together are cheapest.

    A larger modulus costs more for each ciphertext and can hold more rows in one; mostly the smallest set
    that fits is the cheapest, and not where a product needs many spare bits.

    Raises:
        ParameterError: no listed set holds the noise of a product, or its kept dimension.
    """
    costs = {parameters: _total_cost(parameters, needs) for parameters in LISTED}
    cheapest = min(costs, key=costs.__getitem__)
    if isinf(costs[cheapest]):
        raise ParameterError(
            f"no listed parameter set fits the products {[need.shape for need in needs]}",
            hint="use smaller batches or fewer units",
        )
    require_secure(cheapest)
    return cheapest


def _total_cost(parameters: ParameterSet, needs: Sequence[ProductNeed]) -> float:
    """Return the cost of all products in residues; infinite where one does not fit."""
    try:
        plans = [plan(parameters, need.shape, required_spare_bits=need.spare_bits) for need in needs]
    except ParameterError:
        return inf
    return float(sum(_cost(each) for each in plans) * parameters.degree * len(parameters.primes))


def pack_request(plan: PackingPlan, matrix_DK: RingArray, numbers: range) -> RingArray:
    """Lay rows of M into message polynomials, uint64 (ciphertexts, degree)."""
    c = plan.contracted_per_ciphertext
    padded = np.zeros((len(numbers) * c, plan.slots), dtype=np.uint64)
    rows = matrix_DK[numbers.start * c : numbers.stop * c]
    padded[: len(rows), : plan.shape.kept] = rows
    messages = np.zeros((len(numbers), plan.parameters.degree), dtype=np.uint64)
    messages[:, : c * plan.slots] = padded.reshape(len(numbers), -1)
    return messages


def pack_multipliers(
    plan: PackingPlan, plain_ND: NDArray[np.int64] | NDArray[np.int16], numbers: range
) -> NDArray[np.int64]:
    """Lay rows of P into multiplier polynomials, int64 (responses, requests, column_length)."""
    c, r = plan.contracted_per_ciphertext, plan.rows_per_ciphertext
    padded = np.zeros((len(numbers) * r, plan.requests * c), dtype=np.int64)
    rows = plain_ND[plan.output_rows(numbers)]
    padded[: len(rows), : plan.shape.contraction] = rows
    grouped = padded.reshape(len(numbers), r, plan.requests, c).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grouped[..., ::-1]).reshape(len(numbers), plan.requests, plan.column_length)


def unpack_response(plan: PackingPlan, coefficients: RingArray, numbers: range) -> RingArray:
    """Read the product's rows out of rounded coefficients, uint64 (rows, kept)."""
    c = plan.contracted_per_ciphertext
    columns = coefficients.reshape(len(numbers), plan.column_length, plan.slots)
    wanted = columns[:, c - 1 :: c, : plan.shape.kept].reshape(-1, plan.shape.kept)
    rows = plan.output_rows(numbers)
    return np.ascontiguousarray(wanted[: rows.stop - rows.start])


def _power_of_two(value: int) -> int:
    return 1 << (value - 1).bit_length()


def _ranges(count: int, size: int) -> tuple[range, ...]:
    return tuple(range(start, min(start + size, count)) for start in range(0, count, size))


def _cost(plan: PackingPlan) -> int:
    return REQUEST_COST * plan.requests + RESPONSE_COST * plan.responses
