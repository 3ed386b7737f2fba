"""Sub-ring packing: how a matrix product lies in polynomials.

Write X^N + 1 over Y = X^l: a ciphertext is l independent columns, each a polynomial in Y of degree below
M = N / l, and plain multipliers live in Z[Y] only, so that one small transform serves l columns. With c
contracted entries and r = floor(M / c) output rows per ciphertext,

    column i of ciphertext b:    m(Y) = sum_j M[b c + j, i] Y^j
    multiplier of rows g, b:     p(Y) = sum_t sum_j P[g r + t, b c + j] Y^(t c + c - 1 - j)

the coefficient of Y^(t c + c - 1) in sum_b p m is row g r + t of the product: terms of another row would
need |j - j'| to be a multiple of c, and what wraps at Y^M = -1 ends at or below Y^(c - 2).

Of c0' only these coefficients are read, those of rows and columns that exist: rows x kept integers, row after
row. What crosses of a request, c0 beside a seed, and of a response, c1', is cut to a number of bytes for each
coefficient (`parameters`).

A larger c means fewer ciphertexts to send and more to return; the planner weighs the two.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf, isinf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.parameters import (
    DITHERED_SPARE_BITS,
    LEAST_CUT_BYTES,
    LISTED,
    MOST_CUT_BYTES,
    ParameterSet,
    require_secure,
    spare_bits,
)
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import SEED_BYTES
from moiety.crypto.scheme import BLOCK_BYTES, ProductNeed, ProductShape
from moiety.errors import ParameterError

BYTE_COST: Final = 8
"""Nanoseconds: a link of 1 Gbit/s."""
REQUEST_COST: Final = 16
RESPONSE_COST: Final = 20
"""Nanoseconds of both parties for each residue (N for each prime) of a ciphertext to and fro, on one core of
2.6 GHz with AVX-512: the slopes of a product's time over the number of ciphertexts as c changes, measured as
13 to 20 and 18 to 23 at 141 to 188 bits. A request is sampled, transformed, expanded and transformed back
along X; a response takes five transforms."""

REQUESTS_LIMIT: Final = 8192
"""Ciphertexts that the kernel adds up without reducing in between."""
_CUTS: Final = range(LEAST_CUT_BYTES, MOST_CUT_BYTES + 1)
"""Bytes that a coefficient may be cut to; each more leaves more bits to spare."""


@dataclass(frozen=True, kw_only=True)
class PackingPlan:
    """One product under one parameter set, cut into ciphertexts and blocks.

    Args:
        slots: l, columns per ciphertext, a power of two not below the kept dimension.
        contracted_per_ciphertext: c; rows per ciphertext are N / (l c), rounded down.
        request_bytes: of a coefficient of a request's c0 on the wire; None: it crosses as packed residues.
        response_bytes: of a coefficient of c1' on the wire.
    """

    parameters: ParameterSet
    shape: ProductShape
    slots: int
    contracted_per_ciphertext: int
    request_bytes: int | None = None
    response_bytes: int = MOST_CUT_BYTES

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

    @cached_property
    def spare_bits(self) -> float:
        """Bits left over by the noise bound."""
        return _spare(self, self.request_bytes, self.response_bytes)

    @property
    def column_levels(self) -> int:
        """Transform levels that act along Y only: log2 M."""
        return self.column_length.bit_length() - 1

    @property
    def asked_bytes(self) -> int:
        """Bytes of the c0 of one request ciphertext."""
        if self.request_bytes is None:
            return self.parameters.polynomial_bytes
        return self.parameters.degree * self.request_bytes

    @property
    def answered_bytes(self) -> int:
        """Bytes of the c1' of one response ciphertext."""
        return self.parameters.degree * self.response_bytes

    @cached_property
    def request_ranges(self) -> tuple[range, ...]:
        """Ciphertext numbers of each request block: 32 bytes of seed, and the c0 of each."""
        return _ranges(self.requests, (BLOCK_BYTES - SEED_BYTES) // self.asked_bytes)

    @cached_property
    def response_ranges(self) -> tuple[range, ...]:
        """Ciphertext numbers of each response block: the c1' of each."""
        return _ranges(self.responses, BLOCK_BYTES // self.answered_bytes)

    @property
    def request_sizes(self) -> tuple[int, ...]:
        """Bytes of each request block."""
        return tuple(SEED_BYTES + len(numbers) * self.asked_bytes for numbers in self.request_ranges)

    @property
    def response_sizes(self) -> tuple[int, ...]:
        """Bytes of each response block."""
        return tuple(len(numbers) * self.answered_bytes for numbers in self.response_ranges)

    @property
    def request_layout(self) -> tuple[int, ...]:
        """What the requests of this plan depend on: plans that share it share their requests."""
        return (self.slots, self.contracted_per_ciphertext, self.request_bytes or 0)

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
    """Choose (c, r) for a product and the bytes of a response: the cheapest whose noise fits.

    Raises:
        ParameterError: the kept dimension exceeds the degree, or no pair holds the noise.
    """
    cheapest = _cheapest(parameters, shape, required_spare_bits)
    if cheapest is None:
        raise ParameterError(
            f"{parameters.name} cannot hold the product {shape}",
            hint="use smaller batches or fewer units",
        )
    return cheapest


@lru_cache(maxsize=1024)  # a run asks for the same few products in every step
def _cheapest(parameters: ParameterSet, shape: ProductShape, required: int) -> PackingPlan | None:
    return min(_fitting(parameters, shape, required), key=_cost, default=None)


def _fitting(parameters: ParameterSet, shape: ProductShape, required: int) -> Iterator[PackingPlan]:
    """Yield plans that leave the spare bits required: for each c, those with the fewest bytes."""
    slots = _power_of_two(shape.kept)
    for contracted in _contracted(parameters.degree // slots):
        whole = PackingPlan(
            parameters=parameters, shape=shape, slots=slots, contracted_per_ciphertext=contracted
        )
        if whole.spare_bits >= required and whole.requests <= REQUESTS_LIMIT:
            yield from (_shortest(asked, required) for asked in _asked(whole, required))


def _asked(whole: PackingPlan, required: int) -> Iterator[PackingPlan]:
    """Cut the request to the fewest bytes, to one more, and not at all: the response may need fewer then."""
    fewest = bisect_left(_CUTS, float(required), key=lambda size: _spare(whole, size, whole.response_bytes))
    yield from (replace(whole, request_bytes=size) for size in _CUTS[fewest : fewest + 2])
    yield whole


def _shortest(asked: PackingPlan, required: int) -> PackingPlan:
    """Cut the response of a plan that fits to the fewest bytes that still do."""
    fewest = bisect_left(_CUTS, float(required), key=lambda size: _spare(asked, asked.request_bytes, size))
    return replace(asked, response_bytes=_CUTS[fewest])


def _spare(plan: PackingPlan, request_bytes: int | None, response_bytes: int) -> float:
    """Return the spare bits of a plan that is cut otherwise; to make each would take longer than this."""
    return spare_bits(
        plan.parameters,
        plan.shape,
        rows_per_ciphertext=plan.rows_per_ciphertext,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
    )


def _contracted(column_length: int) -> list[int]:
    """List the c that are tried: those for which c or r is a power of two, or 3, 5 or 7 times one."""
    steps = [odd << level for odd in (1, 3, 5, 7) for level in range(column_length.bit_length())]
    few = {step for step in steps if step <= column_length}
    return sorted(few | {column_length // step for step in few})


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
    # Every listed set is secure, and a test says so; asked once more where it is chosen, because nothing
    # later is.
    require_secure(cheapest)
    return cheapest


def _total_cost(parameters: ParameterSet, needs: Sequence[ProductNeed]) -> float:
    """Return the cost of all products; infinite where one does not fit."""
    try:
        plans = [plan(parameters, need.shape, required_spare_bits=need.spare_bits) for need in needs]
    except ParameterError:
        return inf
    return float(sum(map(_cost, plans)))


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
    multipliers = np.zeros((len(numbers), plan.requests, plan.column_length), dtype=np.int64)
    # Reversed within a row: the coefficient of Y^(t c + c - 1) then is the sum over j of both factors'
    # entries j.
    multipliers[..., : r * c] = grouped[..., ::-1].reshape(len(numbers), plan.requests, r * c)
    return multipliers


def read_rows(plan: PackingPlan, polynomials: RingArray, numbers: range) -> RingArray:
    """Read the coefficients that carry the product's rows, uint64 (1, primes, rows * kept).

    Args:
        plan: the product.
        polynomials: (ciphertexts, primes, degree).
        numbers: which response ciphertexts they are.
    """
    c, kept, primes = plan.contracted_per_ciphertext, plan.shape.kept, polynomials.shape[1]
    columns = polynomials.reshape(len(numbers), primes, plan.column_length, plan.slots)
    carrying = columns[:, :, c - 1 :: c, :kept].transpose(1, 0, 2, 3)
    rows = range(plan.shape.rows)[plan.output_rows(numbers)]
    return np.ascontiguousarray(carrying.reshape(1, primes, -1)[..., : len(rows) * kept])


def _power_of_two(value: int) -> int:
    return 1 << (value - 1).bit_length()


def _ranges(count: int, size: int) -> tuple[range, ...]:
    return tuple(range(start, min(start + size, count)) for start in range(0, count, size))


def _cost(plan: PackingPlan) -> int:
    """Add up nanoseconds of link and of processors; the product between is the same for all (c, r)."""
    work = REQUEST_COST * plan.requests + RESPONSE_COST * plan.responses
    residues = plan.parameters.degree * len(plan.parameters.primes)
    return BYTE_COST * sum((*plan.request_sizes, *plan.response_sizes)) + residues * work
