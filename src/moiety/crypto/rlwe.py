"""The cryptosystem: BFV over Z_q[X] / (X^N + 1) kept to additions and plaintext multiplications.

A message m in Z_2^64 is carried as round(m q / 2^64). A fresh ciphertext is (c0, c1) with c1 = a uniform,
expanded from a public seed, and c0 = e - a s + round(m q / 2^64); it crosses as c0 only.

The response to the key holder is the rule that everything hangs on. With fresh ternary u and fresh errors e1,
every time,

    c0' = sum + pk0 u        c1' = sum + pk1 u + e1

and c0' never leaves the evaluator: its share of the product is round(c0' 2^64 / q), and the key holder's, who
is sent c1', is round(c1' s 2^64 / q). Their sum is the product, off by one unit with probability
2 E|noise| 2^64 / q. c1' is computationally hidden (RLWE), and there is nothing else to see (ADR 0014).

What crosses is cut to fewer bits: a public function of c0 and of c1', its error part of the noise bound.

What does not depend on the matrices can be prepared while there is nothing else to do: a request is an
encryption of zero with the message added, a response has an encryption of zero added.

Does not know what the matrices mean, and sends nothing. Reference: section 4 of docs/design.md.
Polynomial arrays are (ciphertexts, primes, degree).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from moiety.crypto import kernel
from moiety.crypto.packing import PackingPlan, pack_multipliers, pack_request, read_rows
from moiety.crypto.parameters import ParameterSet, transform
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import (
    SEED_BYTES,
    TERNARY_SPARE_BYTES,
    UNIFORM_SPARE_WORDS,
    Randomness,
    Seed,
    expand,
    expand_words,
    gaussian_thresholds,
)
from moiety.crypto.scheme import MapFunction
from moiety.crypto.secret import Secret
from moiety.errors import MalformedMessageError

PIECE: Final = 2
"""Ciphertexts that are worked on together; more would leave a core's caches between two steps."""

Polynomials = NDArray[np.uint64]
Errors = NDArray[np.int64]
Zeros = tuple[Polynomials, Errors]
"""Of the encryptions of zero of a response block: pk0 u and pk1 u, transformed along Y, (ciphertexts, 2,
primes, degree), and e1, (ciphertexts, degree)."""
Number = TypeVar("Number", bound=np.generic)


class RlweKeyHolder(Secret):
    """Holds the secret key of one session; it is never written anywhere.

    Args:
        parameters: the ring; `parameters.require_secure` is the caller's duty.
        public_seed: what pk1 is expanded from; derived from both parties' nonces, so that the key holder
            cannot choose it (with pk1 = 0 the re-randomisation would hide nothing).
        randomness: where the secret key's seed comes from.
    """

    def __init__(self, parameters: ParameterSet, *, public_seed: Seed, randomness: Randomness) -> None:
        self._parameters = parameters
        self._transform = transform(parameters)
        seed = randomness.seed()
        self._secret = _transformed(parameters, _ternary(parameters, seed, b"secret key", 0))[0]
        modulus = np.array(parameters.primes, dtype=np.uint64)[:, None]
        self._negated_secret = np.where(self._secret == 0, self._secret, modulus - self._secret)
        key = _transformed(parameters, _gaussian(parameters, seed, b"public key error", 0))
        # pk1 is expanded, not drawn: a key holder that chose it could choose 0, and c1' would be the bare sum
        # (ADR 0014).
        pk1 = _uniform(parameters, public_seed, b"pk1", 0)
        self._transform.multiply_accumulate(key, pk1, self._negated_secret)
        self._public_key = self._transform.pack(key).tobytes()
        self._ahead: _RequestZeros | None = None

    def public_key(self) -> bytes:
        """Return pk0 in transformed form; pk1 is known to both sides.

        Leaks:
            Nothing about the secret key (RLWE).
        """
        return self._public_key

    def prepare(self, *, plan: PackingPlan, randomness: Randomness) -> None:
        """Compute the encryptions of zero that the next request of this plan starts from."""
        if self._ahead is None or self._ahead.count != plan.requests:
            self._ahead = self._zeros(plan, randomness)
            self._ahead.compute()

    def encrypt(self, matrix_DK: RingArray, *, plan: PackingPlan, randomness: Randomness) -> Iterator[bytes]:
        """Encrypt M block by block: the seed of the uniform part, then c0 of each ciphertext.

        Noise: 19 units at most, half a unit more from rounding, and what cutting adds.

        Leaks:
            Nothing to the evaluator but the shape (RLWE).
        """
        # Taken out before it is used, so that no error can leave it there: an encryption of zero that served
        # twice gives the difference of two messages.
        zeros, self._ahead = self._ahead, None
        if zeros is None or zeros.count != plan.requests:
            zeros = self._zeros(plan, randomness)
        for numbers in plan.request_ranges:
            pieces = (
                self._encrypt_piece(pack_request(plan, matrix_DK, each), plan, zeros.take(each))
                for each in _pieces(numbers)
            )
            yield b"".join([zeros.public, *pieces])

    def _zeros(self, plan: PackingPlan, randomness: Randomness) -> "_RequestZeros":
        # Two draws: the first crosses, and nothing of the errors may follow from it.
        public, secret = randomness.seed(), randomness.seed()
        sample = partial(request_zeros, self._parameters, self._negated_secret, public, secret)
        return _RequestZeros(sample, count=plan.requests, public=public)

    def _encrypt_piece(self, messages: RingArray, plan: PackingPlan, c0: Polynomials) -> memoryview:
        self._transform.add(c0, self._transform.encode(messages))
        if plan.request_bytes is not None:
            return self._transform.cut(c0, width=plan.request_bytes).data
        self._transform.forward(c0)
        return self._transform.pack(c0).data

    def decrypt(self, blocks: Sequence[bytes], *, plan: PackingPlan) -> RingArray:
        """Decrypt all response blocks to this side's share, uint64 (rows, kept).

        Raises:
            MalformedMessageError: a block is missing or too many, or not of its size.
        """
        parts = _numbered(blocks, plan.response_ranges)
        return np.concatenate([self._decrypt_block(block, plan, each) for block, each in parts])

    def _decrypt_block(self, block: bytes, plan: PackingPlan, numbers: range) -> RingArray:
        c1 = _coefficients(block, plan.parameters.degree, plan.response_bytes, len(numbers))
        pieces = (
            self._product_piece(c1[each.start - numbers.start : each.stop - numbers.start], plan, each)
            for each in _pieces(numbers)
        )
        # Only c1' s: c0' is the evaluator's share and is never here (ADR 0014). Any bytes of the right length
        # are a response; damaged ones give wrong shares and no error (ADR 0013).
        phase = np.concatenate(list(pieces), axis=-1)
        return self._transform.round_to_share(phase).reshape(-1, plan.shape.kept)

    def _product_piece(self, c1: NDArray[np.uint8], plan: PackingPlan, numbers: range) -> Polynomials:
        """Return c1' s of ciphertexts `numbers` where the product's rows lie."""
        piece = self._transform.restore(c1)
        self._transform.forward(piece)
        product = np.zeros_like(piece)
        self._transform.multiply_accumulate(product, piece, self._secret)
        self._transform.inverse(product)
        return read_rows(plan, product, numbers)


class _RequestZeros(Secret):
    """The encryptions of zero of one request, each used once: computed ahead, or when they are taken.

    Args:
        sample: gives c0 of the ciphertexts of these numbers.
        count: how many there are.
        public: the seed of their uniform parts.
    """

    def __init__(self, sample: Callable[[range], Polynomials], *, count: int, public: Seed) -> None:
        self.count = count
        self.public = public
        self._sample = sample
        self._computed: Polynomials | None = None

    def compute(self) -> None:
        """Compute all of them."""
        self._computed = np.concatenate([self._sample(each) for each in _pieces(range(self.count))])

    def take(self, numbers: range) -> Polynomials:
        """Return c0 of these, (ciphertexts, primes, degree) in coefficient form."""
        if self._computed is None:
            return self._sample(numbers)
        return self._computed[numbers.start : numbers.stop]


def request_zeros(
    parameters: ParameterSet, negated_secret: Polynomials, public: Seed, secret: Seed, numbers: range
) -> Polynomials:
    """Compute c0 = e - a s of ciphertexts `numbers`, in coefficient form."""
    tables = transform(parameters)
    c0 = np.zeros((len(numbers), len(parameters.primes), parameters.degree), dtype=np.uint64)
    for place, number in enumerate(numbers):
        uniform = _uniform(parameters, public, b"uniform part", number)
        tables.multiply_accumulate(c0[place : place + 1], uniform, negated_secret)
    tables.inverse(c0)
    tables.add_small(c0, _each(_gaussian, parameters, secret, b"error", numbers))
    return c0


class RlweEvaluator(Secret):
    """Multiplies ciphertexts by its own plain matrix, and answers re-randomised.

    Args:
        parameters: the ring.
        public_key: pk0 as the key holder sent it.
        public_seed: what pk1 is expanded from.
        map_function: spreads the work of response blocks.

    Raises:
        MalformedMessageError: the public key is not one polynomial with residues in range.
    """

    def __init__(
        self,
        parameters: ParameterSet,
        *,
        public_key: bytes,
        public_seed: Seed,
        map_function: MapFunction = map,
    ) -> None:
        self._parameters = parameters
        self._transform = transform(parameters)
        self._map = map_function
        pk0 = _unpack(parameters, public_key, 1)[0]
        self._public_key = np.stack([pk0, _uniform(parameters, public_seed, b"pk1", 0)[0]])
        # Memory of an earlier product, used again: to the system, fresh memory is a fault every 4 KiB.
        self._memory: list[RingArray] = []
        self._ahead: tuple[PackingPlan, list[Zeros]] | None = None

    def prepare(self, *, plan: PackingPlan, randomness: Randomness) -> None:
        """Compute the encryptions of zero that the next response of this plan adds."""
        if self._ahead is None or self._ahead[0] != plan:
            self._ahead = (plan, list(self._map(self._sampler(plan, randomness), plan.response_ranges)))

    def respond(
        self,
        plain_ND: NDArray[np.int64] | NDArray[np.int16],
        blocks: Sequence[bytes],
        *,
        plan: PackingPlan,
        randomness: Randomness,
    ) -> Iterator[tuple[bytes, RingArray]]:
        """Yield each response block with the rows of this side's share that it covers.

        Raises:
            MalformedMessageError: a block is missing or too many, or is not a seed and one polynomial a
                ciphertext with residues in range.

        Leaks:
            Nothing to the key holder but the shape: see the module's rule.
        """
        # As in `encrypt`: the difference of two responses under one (u, e1) is a bare linear combination (ADR
        # 0014).
        ahead, self._ahead = self._ahead, None
        memory = self._take_memory(plan)
        ciphertexts = self._columns(blocks, plan, memory)
        if ahead is None or ahead[0] != plan:
            work = partial(respond_block, plan, plain_ND, ciphertexts, self._sampler(plan, randomness))
            yield from self._map(work, plan.response_ranges)
        else:
            given = dict(zip(plan.response_ranges, ahead[1], strict=True))
            work = partial(respond_block, plan, plain_ND, ciphertexts, given.__getitem__)
            yield from self._map(work, plan.response_ranges)
        self._memory = [memory]

    def _sampler(self, plan: PackingPlan, randomness: Randomness) -> Callable[[range], Zeros]:
        return partial(response_zeros, plan, self._public_key, randomness.seed())

    def _take_memory(self, plan: PackingPlan) -> RingArray:
        """Return words for the ciphertexts of a product; nobody else has them until they are put back."""
        words = plan.requests * 2 * len(self._parameters.primes) * self._parameters.degree
        memory = self._memory.pop() if self._memory else np.empty(0, dtype=np.uint64)
        return memory if len(memory) >= words else np.empty(words, dtype=np.uint64)

    def _columns(self, blocks: Sequence[bytes], plan: PackingPlan, memory: RingArray) -> Polynomials:
        """Expand, transformed along Y only: (requests, 2, primes, degree)."""
        parameters = self._parameters
        shape = (plan.requests, 2, len(parameters.primes), parameters.degree)
        ciphertexts = memory[: prod(shape)].reshape(shape)
        for block, numbers in _numbered(blocks, plan.request_ranges):
            public = Seed(block[:SEED_BYTES])
            data = memoryview(block)[SEED_BYTES:]
            if len(data) != len(numbers) * plan.asked_bytes:
                raise MalformedMessageError(f"a request block of {len(block)} bytes came")
            for each in _pieces(numbers):
                part = data[(each.start - numbers.start) * plan.asked_bytes :][: len(each) * plan.asked_bytes]
                piece = ciphertexts[each.start : each.stop]
                piece[:, 0] = self._read_asked(part, plan, len(each))
                uniform = _each(_uniform, parameters, public, b"uniform part", each)
                self._transform.inverse(uniform, first=plan.column_levels)
                piece[:, 1] = uniform
        return ciphertexts

    def _read_asked(self, data: memoryview, plan: PackingPlan, count: int) -> Polynomials:
        """Read c0 of a request, transformed along Y."""
        if plan.request_bytes is None:
            c0 = _unpack(self._parameters, data, count)
            self._transform.inverse(c0, first=plan.column_levels)
            return c0
        cut = _coefficients(data, self._parameters.degree, plan.request_bytes, count)
        c0 = self._transform.restore(cut)
        self._transform.forward(c0, last=plan.column_levels)
        return c0


def response_zeros(plan: PackingPlan, public_key: Polynomials, secret: Seed, numbers: range) -> Zeros:
    """Compute the encryptions of zero of response ciphertexts `numbers`, but for the addition of e1."""
    parameters, tables = plan.parameters, transform(plan.parameters)
    products = np.zeros((len(numbers), *public_key.shape), dtype=np.uint64)
    for each in _pieces(numbers):
        u = _transformed(parameters, _each(_ternary, parameters, secret, b"u", each))
        for place in range(len(each)):
            piece = products[each.start - numbers.start + place]
            for part, key in zip(piece, public_key, strict=True):
                tables.multiply_accumulate(part[None], u[place : place + 1], key)
            tables.inverse(piece, first=plan.column_levels)
    # One error, for c1': pk0 u needs none, because c0' never leaves this machine (ADR 0014). It is added as
    # it is, after the last inverse transform.
    return products, _each(_gaussian, parameters, secret, b"e1", numbers)


def respond_block(
    plan: PackingPlan,
    plain_ND: NDArray[np.int64] | NDArray[np.int16],
    ciphertexts: Polynomials,
    zeros: Callable[[range], Zeros],
    numbers: range,
) -> tuple[bytes, RingArray]:
    """Compute response ciphertexts `numbers`: a function of arrays and bytes, in any order or place."""
    tables = transform(plan.parameters)
    multipliers = pack_multipliers(plan, plain_ND, numbers).reshape(-1, plan.column_length)
    lifted = tables.lift(multipliers)
    tables.forward(lifted)
    shape = (len(numbers), plan.requests, len(plan.parameters.primes), plan.column_length)
    sums = tables.subring_product(lifted.reshape(shape), ciphertexts)
    products, errors = zeros(numbers)
    parts = []
    for each in _pieces(range(len(numbers))):
        rows = range(numbers.start + each.start, numbers.start + each.stop)
        piece = slice(each.start, each.stop)
        parts.append(_respond_piece(plan, sums[piece], products[piece], errors[piece], rows))
    cut, shares = zip(*parts, strict=True)
    return b"".join(cut), np.concatenate(shares)


def _respond_piece(
    plan: PackingPlan, sums: Polynomials, products: Polynomials, errors: Errors, numbers: range
) -> tuple[memoryview, RingArray]:
    """Re-randomise response ciphertexts `numbers`: c1' as it crosses, and own share."""
    tables = transform(plan.parameters)
    flat = sums.reshape(-1, *sums.shape[2:])
    # First re-randomised, then read and cut: what is cut off later is a public function of what may be seen
    # (ADR 0013). The sums themselves must not be returned by anything: they give the evaluator's matrix away.
    tables.add(flat, products.reshape(flat.shape))
    tables.inverse(flat, last=plan.column_levels)
    share = tables.round_to_share(read_rows(plan, sums[:, 0], numbers)).reshape(-1, plan.shape.kept)
    c1 = np.ascontiguousarray(sums[:, 1])
    tables.add_small(c1, errors)
    return tables.cut(c1, width=plan.response_bytes).data, share


def _each(
    sample: Callable[[ParameterSet, Seed, bytes, int], NDArray[Number]],
    parameters: ParameterSet,
    seed: Seed,
    purpose: bytes,
    numbers: range,
) -> NDArray[Number]:
    """Sample a polynomial for each ciphertext number from its own stream."""
    return np.concatenate([sample(parameters, seed, purpose, number) for number in numbers])


def _uniform(parameters: ParameterSet, seed: Seed, purpose: bytes, index: int) -> Polynomials:
    count = parameters.degree + UNIFORM_SPARE_WORDS
    primes = len(parameters.primes)
    words = expand_words(seed, purpose, index=index, count=primes * count)
    return transform(parameters).uniform(words.reshape(1, primes, count), length=parameters.degree)


def _ternary(parameters: ParameterSet, seed: Seed, purpose: bytes, index: int) -> NDArray[np.int64]:
    size = parameters.degree + TERNARY_SPARE_BYTES
    stream = expand(seed, purpose, index=index, size=size)
    return kernel.ternary(stream.reshape(1, size), length=parameters.degree)


def _gaussian(parameters: ParameterSet, seed: Seed, purpose: bytes, index: int) -> NDArray[np.int64]:
    words = expand_words(seed, purpose, index=index, count=parameters.degree)
    return kernel.gaussian(words.reshape(1, -1), gaussian_thresholds())


def _transformed(parameters: ParameterSet, small: NDArray[np.int64]) -> Polynomials:
    tables = transform(parameters)
    lifted = tables.lift(small)
    tables.forward(lifted)
    return lifted


def _numbered(blocks: Sequence[bytes], ranges: Sequence[range]) -> Iterator[tuple[bytes, range]]:
    if len(blocks) != len(ranges):
        raise MalformedMessageError(f"{len(blocks)} blocks came where {len(ranges)} were expected")
    return zip(blocks, ranges, strict=True)


def _pieces(numbers: range) -> Iterator[range]:
    """Cut a block's ciphertext numbers into what is worked on together."""
    return (numbers[start : start + PIECE] for start in range(0, len(numbers), PIECE))


def _coefficients(data: bytes | memoryview, degree: int, size: int, count: int) -> NDArray[np.uint8]:
    """View cut polynomials as bytes, (count, degree, size)."""
    if len(data) != count * degree * size:
        raise MalformedMessageError(
            f"a block of {len(data)} bytes came where {count} polynomials of {degree * size} bytes were "
            "expected"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(count, degree, size)


def _unpack(parameters: ParameterSet, packed: bytes | memoryview, count: int) -> Polynomials:
    if len(packed) != count * parameters.polynomial_bytes:
        raise MalformedMessageError(
            f"a block of {len(packed)} bytes came where {count} polynomials of "
            f"{parameters.polynomial_bytes} bytes were expected"
        )
    shape = (count, len(parameters.primes), parameters.degree, parameters.residue_bytes)
    try:
        return transform(parameters).unpack(np.frombuffer(packed, dtype=np.uint8).reshape(shape))
    except ValueError as error:
        raise MalformedMessageError("a ciphertext has a residue out of range") from error
