"""The cryptosystem: BFV over Z_q[X] / (X^N + 1) kept to additions and plaintext multiplications.

A message m in Z_2^64 is carried as round(m q / 2^64). A fresh ciphertext is (c0, c1) with c1 = a uniform,
expanded from a public seed, and c0 = e - a s + round(m q / 2^64); it crosses in transformed form, c0 only.

The response to the key holder is the rule that everything hangs on:

    c0' = sum + pk0 u + e0 - r        c1' = sum + pk1 u + e1

with fresh ternary u, fresh errors and r uniform in Z_q on all N coefficients, every time. c0' is perfectly
hidden by r and c1' by RLWE; the key holder's share is round(phase 2^64 / q), the evaluator's
round(r 2^64 / q), and their sum is the product, off by one unit with probability 2 |noise| 2^64 / q.

Of c0' only the coefficients that carry rows of the product cross, so r and e0 are drawn for these alone. What
crosses is cut to fewer bits: a public function of c0' and c1', its error part of the noise bound (ADR 0013).

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
from moiety.crypto.packing import PackingPlan, pack_multipliers, pack_request, read_sent
from moiety.crypto.parameters import ParameterSet, transform
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
from moiety.ring import RingArray

PIECE: Final = 2
"""Ciphertexts that one thread works on together; more would leave its caches between two steps."""

Polynomials = NDArray[np.uint64]
Number = TypeVar("Number", bound=np.generic)


class RlweKeyHolder(Secret):
    """Holds the secret key of one session; it is never written anywhere.

    Args:
        parameters: the ring; `parameters.require_secure` is the caller's duty.
        public_seed: what pk1 is expanded from; derived from both parties' nonces, so that the key holder
            cannot choose it (with pk1 = 0 the re-randomisation would hide nothing).
        randomness: where the secret key's seed comes from.
        threads: threads inside the kernel.
    """

    def __init__(
        self,
        parameters: ParameterSet,
        *,
        public_seed: Seed,
        randomness: Randomness,
        threads: int = 1,
    ) -> None:
        self._parameters = parameters
        self._transform = transform(parameters)
        self._threads = threads
        seed = randomness.seed()
        self._secret = _transformed(parameters, _ternary(parameters, seed, b"secret key", 0))[0]
        modulus = np.array(parameters.primes, dtype=np.uint64)[:, None]
        self._negated_secret = np.where(self._secret == 0, self._secret, modulus - self._secret)
        key = _transformed(parameters, _gaussian(parameters, seed, b"public key error", 0))
        pk1 = _uniform(parameters, public_seed, b"pk1", 0)
        self._transform.multiply_accumulate(key, pk1, self._negated_secret)
        self._public_key = self._transform.pack(key).tobytes()

    def public_key(self) -> bytes:
        """Return pk0 in transformed form; pk1 is known to both sides.

        Leaks:
            Nothing about the secret key (RLWE).
        """
        return self._public_key

    def encrypt(self, matrix_DK: RingArray, *, plan: PackingPlan, randomness: Randomness) -> Iterator[bytes]:
        """Encrypt M block by block: the seed of the uniform part, then c0 of each ciphertext.

        Noise: 19 units at most, half a unit more from rounding.

        Leaks:
            Nothing to the evaluator but the shape (RLWE).
        """
        public, secret = randomness.seed(), randomness.seed()
        for numbers in plan.request_ranges:
            pieces = (
                self._encrypt_piece(pack_request(plan, matrix_DK, each), public, secret, each)
                for each in _pieces(numbers, self._threads)
            )
            yield b"".join([public, *pieces])

    def _encrypt_piece(self, messages: RingArray, public: Seed, secret: Seed, numbers: range) -> memoryview:
        c0 = self._transform.encode(messages, threads=self._threads)
        errors = _each(_gaussian, self._parameters, secret, b"error", numbers)
        self._transform.add_small(c0, errors, threads=self._threads)
        self._transform.forward(c0, threads=self._threads)
        for place, number in enumerate(numbers):
            uniform = _uniform(self._parameters, public, b"uniform part", number)
            self._transform.multiply_accumulate(c0[place : place + 1], uniform, self._negated_secret)
        return self._transform.pack(c0, threads=self._threads).data

    def decrypt(self, blocks: Sequence[bytes], *, plan: PackingPlan) -> RingArray:
        """Decrypt all response blocks to this side's share, uint64 (rows, kept).

        Raises:
            MalformedMessageError: a block is missing or too many, or not of its size.
        """
        parts = _numbered(blocks, plan.response_ranges)
        return np.concatenate([self._decrypt_block(block, plan, each) for block, each in parts])

    def _decrypt_block(self, block: bytes, plan: PackingPlan, numbers: range) -> RingArray:
        c0, c1 = _split_response(block, plan, numbers)
        phase = np.concatenate(
            [self._product_piece(c1, plan, each, numbers.start) for each in _pieces(numbers, self._threads)],
            axis=-1,
        )
        self._transform.add(phase, self._transform.restore(c0, threads=self._threads))
        return self._transform.round_to_share(phase, threads=self._threads).reshape(-1, plan.shape.kept)

    def _product_piece(
        self, c1: NDArray[np.uint8], plan: PackingPlan, numbers: range, first: int
    ) -> Polynomials:
        """Return c1' s of ciphertexts `numbers` where c0' was sent; `first` is the block's first number."""
        piece = self._transform.restore(
            c1[numbers.start - first : numbers.stop - first], threads=self._threads
        )
        self._transform.forward(piece, threads=self._threads)
        product = np.zeros_like(piece)
        self._transform.multiply_accumulate(product, piece, self._secret, threads=self._threads)
        self._transform.inverse(product, threads=self._threads)
        return read_sent(plan, product, numbers)


class RlweEvaluator:
    """Multiplies ciphertexts by its own plain matrix, and answers re-randomised and masked.

    Args:
        parameters: the ring.
        public_key: pk0 as the key holder sent it.
        public_seed: what pk1 is expanded from.
        map_function: spreads the work of response blocks.
        threads: threads inside the kernel.

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
        threads: int = 1,
    ) -> None:
        self._parameters = parameters
        self._transform = transform(parameters)
        self._threads = threads
        self._map = map_function
        pk0 = _unpack(parameters, _residues(parameters, public_key, 1), threads)[0]
        self._public_key = (pk0, _uniform(parameters, public_seed, b"pk1", 0)[0])
        # Memory of an earlier product, used again: to the system, fresh memory is a fault every 4 KiB.
        self._memory: list[RingArray] = []

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
        memory = self._take_memory(plan)
        ciphertexts = self._columns(blocks, plan, memory)
        secret, mask = randomness.seed(), randomness.seed()
        work = partial(
            respond_block,
            plan,
            plain_ND,
            ciphertexts,
            self._public_key,
            secret,
            mask,
            self._threads,
        )
        yield from self._map(work, plan.response_ranges)
        self._memory = [memory]

    def _take_memory(self, plan: PackingPlan) -> RingArray:
        """Return words for the ciphertexts of a product; nobody else has them until they are put back."""
        words = plan.requests * 2 * len(self._parameters.primes) * self._parameters.degree
        memory = self._memory.pop() if self._memory else np.empty(0, dtype=np.uint64)
        return memory if len(memory) >= words else np.empty(words, dtype=np.uint64)

    def _columns(self, blocks: Sequence[bytes], plan: PackingPlan, memory: RingArray) -> Polynomials:
        """Expand, and undo the transform's levels inside a column: (requests, 2, primes, degree)."""
        parameters = self._parameters
        shape = (plan.requests, 2, len(parameters.primes), parameters.degree)
        ciphertexts = memory[: prod(shape)].reshape(shape)
        for block, numbers in _numbered(blocks, plan.request_ranges):
            public = Seed(block[:SEED_BYTES])
            packed = _residues(parameters, memoryview(block)[SEED_BYTES:], len(numbers))
            for each in _pieces(numbers, self._threads):
                rows = slice(each.start - numbers.start, each.stop - numbers.start)
                piece = ciphertexts[each.start : each.stop]
                piece[:, 0] = _unpack(parameters, packed[rows], self._threads)
                for place, number in enumerate(each):
                    piece[place, 1] = _uniform(parameters, public, b"uniform part", number)[0]
                flat = piece.reshape(-1, *shape[2:])
                self._transform.inverse(flat, first=plan.column_levels, threads=self._threads)
        return ciphertexts


def respond_block(
    plan: PackingPlan,
    plain_ND: NDArray[np.int64] | NDArray[np.int16],
    ciphertexts: Polynomials,
    public_key: tuple[Polynomials, Polynomials],
    secret: Seed,
    mask: Seed,
    threads: int,
    numbers: range,
) -> tuple[bytes, RingArray]:
    """Compute response ciphertexts `numbers`: a function of arrays and bytes, in any order or place."""
    tables = transform(plan.parameters)
    multipliers = pack_multipliers(plan, plain_ND, numbers).reshape(-1, plan.column_length)
    lifted = tables.lift(multipliers, threads=threads)
    tables.forward(lifted, threads=threads)
    shape = (len(numbers), plan.requests, len(plan.parameters.primes), plan.column_length)
    sums = tables.subring_product(lifted.reshape(shape), ciphertexts, threads=threads)
    parts = []
    for each in _pieces(numbers, threads):
        piece = sums[each.start - numbers.start : each.stop - numbers.start]
        parts.append(_respond_piece(plan, piece, public_key, secret, mask, each, threads))
    packed_c0, packed_c1, shares = zip(*parts, strict=True)
    return b"".join(packed_c0 + packed_c1), np.concatenate(shares)


def _respond_piece(
    plan: PackingPlan,
    sums: Polynomials,
    public_key: tuple[Polynomials, Polynomials],
    secret: Seed,
    mask: Seed,
    numbers: range,
    threads: int,
) -> tuple[memoryview, memoryview, RingArray]:
    """Re-randomise and mask response ciphertexts `numbers`: c0' and c1' as they cross, and own share."""
    tables, parameters = transform(plan.parameters), plan.parameters
    u = _transformed(parameters, _each(_ternary, parameters, secret, b"u", numbers), threads)
    c1 = _rerandomised(plan, sums[:, 1], u, public_key[1], threads)
    tables.add_small(c1, _each(_gaussian, parameters, secret, b"e1", numbers), threads=threads)
    c0 = read_sent(plan, _rerandomised(plan, sums[:, 0], u, public_key[0], threads), numbers)
    tables.add_small(c0, _each_sent(_gaussian, plan, secret, b"e0", numbers), threads=threads)
    r = _each_sent(_uniform, plan, mask, b"mask", numbers)
    tables.subtract(c0, r)
    share = tables.round_to_share(r, threads=threads).reshape(-1, plan.shape.kept)
    cut_c0 = tables.cut(c0, width=plan.response_bytes - 1, threads=threads)
    cut_c1 = tables.cut(c1, width=plan.response_bytes, threads=threads)
    return cut_c0.data, cut_c1.data, share


def _rerandomised(
    plan: PackingPlan, sums: Polynomials, u: Polynomials, key: Polynomials, threads: int
) -> Polynomials:
    """Return sum + key u in coefficient form; `sums` is transformed along Y only."""
    tables = transform(plan.parameters)
    out = np.zeros_like(u)
    tables.multiply_accumulate(out, u, key, threads=threads)
    tables.inverse(out, first=plan.column_levels, threads=threads)
    tables.add(out, np.ascontiguousarray(sums))
    tables.inverse(out, last=plan.column_levels, threads=threads)
    return out


def _each(
    sample: Callable[[ParameterSet, Seed, bytes, int], NDArray[Number]],
    parameters: ParameterSet,
    seed: Seed,
    purpose: bytes,
    numbers: range,
) -> NDArray[Number]:
    """Sample a polynomial for each ciphertext number from its own stream."""
    return np.concatenate([sample(parameters, seed, purpose, number) for number in numbers])


def _each_sent(
    sample: Callable[[ParameterSet, Seed, bytes, int, int], NDArray[Number]],
    plan: PackingPlan,
    seed: Seed,
    purpose: bytes,
    numbers: range,
) -> NDArray[Number]:
    """Sample for the coefficients of c0' that cross, those of each ciphertext from its own stream."""
    lengths = [plan.sent_coefficients(range(number, number + 1)) for number in numbers]
    drawn = zip(numbers, lengths, strict=True)
    parts = [sample(plan.parameters, seed, purpose, number, length) for number, length in drawn]
    return np.concatenate(parts, axis=-1)


def _uniform(
    parameters: ParameterSet, seed: Seed, purpose: bytes, index: int, length: int = 0
) -> Polynomials:
    """Draw uniform residues, as many as the degree where no length is given."""
    wanted = length or parameters.degree
    count = wanted + UNIFORM_SPARE_WORDS
    primes = len(parameters.primes)
    words = expand_words(seed, purpose, index=index, count=primes * count)
    return transform(parameters).uniform(words.reshape(1, primes, count), length=wanted)


def _ternary(parameters: ParameterSet, seed: Seed, purpose: bytes, index: int) -> NDArray[np.int64]:
    size = parameters.degree + TERNARY_SPARE_BYTES
    stream = expand(seed, purpose, index=index, size=size)
    return kernel.ternary(stream.reshape(1, size), length=parameters.degree)


def _gaussian(
    parameters: ParameterSet, seed: Seed, purpose: bytes, index: int, length: int = 0
) -> NDArray[np.int64]:
    """Draw errors, as many as the degree where no length is given."""
    words = expand_words(seed, purpose, index=index, count=length or parameters.degree)
    return kernel.gaussian(words.reshape(1, -1), gaussian_thresholds())


def _transformed(parameters: ParameterSet, small: NDArray[np.int64], threads: int = 1) -> Polynomials:
    tables = transform(parameters)
    lifted = tables.lift(small, threads=threads)
    tables.forward(lifted, threads=threads)
    return lifted


def _numbered(blocks: Sequence[bytes], ranges: Sequence[range]) -> Iterator[tuple[bytes, range]]:
    if len(blocks) != len(ranges):
        raise MalformedMessageError(f"{len(blocks)} blocks came where {len(ranges)} were due")
    return zip(blocks, ranges, strict=True)


def _pieces(numbers: range, threads: int) -> Iterator[range]:
    """Cut a block's ciphertext numbers into what the threads work on together."""
    step = PIECE * threads
    return (numbers[start : start + step] for start in range(0, len(numbers), step))


def _split_response(
    block: bytes, plan: PackingPlan, numbers: range
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """View a response block as what was sent of c0', (1, coefficients, width), and c1', (count, N, width)."""
    degree, size = plan.parameters.degree, plan.response_bytes
    due = plan.masked_bytes(numbers) + len(numbers) * degree * size
    if len(block) != due:
        raise MalformedMessageError(f"a response block of {len(block)} bytes came where {due} were due")
    data = np.frombuffer(block, dtype=np.uint8)
    c0, c1 = np.split(data, [plan.masked_bytes(numbers)])
    return c0.reshape(1, -1, size - 1), c1.reshape(len(numbers), degree, size)


def _residues(parameters: ParameterSet, packed: bytes | memoryview, count: int) -> NDArray[np.uint8]:
    """View packed polynomials as bytes of residues, (count, primes, degree, residue bytes)."""
    if len(packed) != count * parameters.polynomial_bytes:
        raise MalformedMessageError(
            f"a block of {len(packed)} bytes came where {count} polynomials of "
            f"{parameters.polynomial_bytes} bytes were due"
        )
    shape = (count, len(parameters.primes), parameters.degree, parameters.residue_bytes)
    return np.frombuffer(packed, dtype=np.uint8).reshape(shape)


def _unpack(parameters: ParameterSet, residues: NDArray[np.uint8], threads: int) -> Polynomials:
    try:
        return transform(parameters).unpack(residues, threads=threads)
    except ValueError as error:
        raise MalformedMessageError("a ciphertext has a residue out of range") from error
