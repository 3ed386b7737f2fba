"""The cryptosystem once more in plain Python integers: slow, short, and a specification to read.

Nothing of `moiety.crypto` is used here. A ring element is a list of N integers modulo q, lowest
power of X first; residues modulo the primes of q appear only where bytes are made or read. Products
are computed by Kronecker substitution, the transform by its definition, and what is rounded is
rounded exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from hashlib import blake2b
from math import factorial, prod

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Polynomial = list[int]
Values = list[list[int]]
Matrix = list[list[int]]

BLOCK_BYTES = 4 * 2**20
SEED_BYTES = 32
UNIFORM_SPARE_WORDS = 64
TERNARY_SPARE_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Z_q[X] / (X^N + 1), q a product of primes that are 1 modulo 2N."""

    degree: int
    primes: tuple[int, ...]

    @cached_property
    def modulus(self) -> int:
        return prod(self.primes)

    @cached_property
    def residue_bytes(self) -> int:
        return -(-max(self.primes).bit_length() // 8)

    @cached_property
    def polynomial_bytes(self) -> int:
        return self.degree * len(self.primes) * self.residue_bytes


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A product P M of (rows x contraction) by (contraction x kept), l = slots, c = contracted.

    A coefficient of c0 crosses in `request_bytes`, or as residues where that is None, one of c1' in
    `response_bytes`.
    """

    ring: Ring
    rows: int
    contraction: int
    kept: int
    slots: int
    contracted: int
    request_bytes: int | None
    response_bytes: int

    @property
    def rows_per_ciphertext(self) -> int:
        return self.ring.degree // (self.slots * self.contracted)

    @property
    def asked_bytes(self) -> int:
        whole = self.ring.polynomial_bytes
        return whole if self.request_bytes is None else self.ring.degree * self.request_bytes

    def request_blocks(self) -> list[range]:
        count = -(-self.contraction // self.contracted)
        return _blocks(count, (BLOCK_BYTES - SEED_BYTES) // self.asked_bytes)

    def response_blocks(self) -> list[range]:
        count = -(-self.rows // self.rows_per_ciphertext)
        return _blocks(count, BLOCK_BYTES // (self.ring.degree * self.response_bytes))

    def carrying(self, g: int) -> list[int]:
        """Which coefficients of response ciphertext g carry the product: Y^(t c + c - 1), row g r + t."""
        starts = [
            (t * self.contracted + self.contracted - 1) * self.slots
            for t in range(self.rows_per_ciphertext)
            if g * self.rows_per_ciphertext + t < self.rows
        ]
        return [start + column for start in starts for column in range(self.kept)]

    def response_size(self, block: range) -> int:
        return len(block) * self.ring.degree * self.response_bytes


def _blocks(count: int, size: int) -> list[range]:
    return [range(count)[start : start + size] for start in range(0, count, size)]


# --- from seeds to distributions


def expand(seed: bytes, purpose: bytes, *, index: int, size: int) -> bytes:
    """AES-256-CTR under BLAKE2b(key=seed; purpose, index), both prefixed with their length."""
    digest = blake2b(key=seed, digest_size=32)
    for part in (purpose, index.to_bytes(8, "little")):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return Cipher(algorithms.AES(digest.digest()), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def words(seed: bytes, purpose: bytes, *, index: int, count: int) -> list[int]:
    stream = expand(seed, purpose, index=index, size=8 * count)
    return [int.from_bytes(stream[at : at + 8], "little") for at in range(0, 8 * count, 8)]


def uniform(ring: Ring, seed: bytes, purpose: bytes, index: int) -> Values:
    """Uniform residues: each prime in turn reads N + 64 words and skips the rejected ones."""
    count = ring.degree + UNIFORM_SPARE_WORDS
    stream = words(seed, purpose, index=index, count=count * len(ring.primes))
    residues = []
    for place, prime in enumerate(ring.primes):
        own = stream[place * count : (place + 1) * count]
        residues.append(accept_uniform(own, prime=prime, length=ring.degree))
    return residues


def accept_uniform(stream: list[int], *, prime: int, length: int) -> list[int]:
    limit = prime * (2**64 // prime)
    return [word % prime for word in stream if word < limit][:length]


def ternary(ring: Ring, seed: bytes, purpose: bytes, index: int) -> Polynomial:
    """Uniform in -1, 0, 1: a byte modulo 3, byte 255 skipped."""
    stream = expand(seed, purpose, index=index, size=ring.degree + TERNARY_SPARE_BYTES)
    return [byte % 3 - 1 for byte in stream if byte != 255][: ring.degree]


def gaussian(ring: Ring, seed: bytes, purpose: bytes, index: int) -> Polynomial:
    """Discrete Gaussian, sigma 3.2, at most 19: the lowest bit is the sign, 63 the magnitude."""
    stream = words(seed, purpose, index=index, count=ring.degree)
    return [(-1) ** (word & 1) * _magnitude(word >> 1) for word in stream]


def _magnitude(word: int) -> int:
    return sum(threshold <= word for threshold in thresholds())


@cache
def thresholds() -> list[int]:
    """floor(2^63 P(|e| <= m)) for m in 0..18, with exp by its series in exact fractions."""
    weights = [_exp_minus(Fraction(m * m) / (2 * Fraction(16, 5) ** 2)) for m in range(20)]
    total = weights[0] + 2 * sum(weights[1:])
    return [int(2**63 * (weights[0] + 2 * sum(weights[1 : m + 1])) / total) for m in range(19)]


def _exp_minus(x: Fraction) -> Fraction:
    exact = 1 / sum((x**k / factorial(k) for k in range(160)), Fraction(0))
    return Fraction(int(exact * 2**400), 2**400)


# --- ring arithmetic


def add(ring: Ring, *terms: Polynomial) -> Polynomial:
    return [sum(column) % ring.modulus for column in zip(*terms, strict=True)]


def negate(polynomial: Polynomial) -> Polynomial:
    return [-coefficient for coefficient in polynomial]


def multiply(ring: Ring, left: Polynomial, right: Polynomial) -> Polynomial:
    """Both at X = 2^(8 slot), one product of big integers, then X^N = -1."""
    bound = ring.degree * max(map(abs, left)) * max(map(abs, right))
    slot = bound.bit_length() // 8 + 1  # bytes, with room for a sign
    product = _substitute(left, slot) * _substitute(right, slot)
    coefficients = _read_slots(product, slot, 2 * ring.degree)
    low, high = coefficients[: ring.degree], coefficients[ring.degree :]
    return add(ring, low, negate(high))


def _substitute(polynomial: Polynomial, slot: int) -> int:
    positive = b"".join(max(each, 0).to_bytes(slot, "little") for each in polynomial)
    negative = b"".join(max(-each, 0).to_bytes(slot, "little") for each in polynomial)
    return int.from_bytes(positive, "little") - int.from_bytes(negative, "little")


def _read_slots(number: int, slot: int, count: int) -> Polynomial:
    half = 1 << (8 * slot - 1)  # added to every slot, so that none is negative, and taken off again
    shifted = number + int.from_bytes(half.to_bytes(slot, "little") * count, "little")
    stream = shifted.to_bytes(slot * count, "little")
    slots = (stream[at : at + slot] for at in range(0, slot * count, slot))
    return [int.from_bytes(each, "little") - half for each in slots]


@cache
def primitive_root(prime: int, order: int) -> int:
    """The smallest root of unity of exactly this order, a power of two."""
    candidates = (pow(base, (prime - 1) // order, prime) for base in range(2, prime))
    root = next(each for each in candidates if pow(each, order // 2, prime) == prime - 1)
    square, smallest, power = root * root % prime, root, root
    for _ in range(order // 2 - 1):
        power = power * square % prime
        smallest = min(smallest, power)
    return smallest


def to_values(ring: Ring, polynomial: Polynomial) -> Values:
    """The transformed form: at place i, the value at psi^(2 bitreverse(i) + 1)."""
    return [_split(polynomial, prime, ring.degree, ring.degree) for prime in ring.primes]


def _split(polynomial: Polynomial, prime: int, exponent: int, degree: int) -> list[int]:
    """Values of a polynomial modulo X^n - psi^exponent = (X^(n/2) - w)(X^(n/2) + w)."""
    half = len(polynomial) // 2
    if half == 0:
        return [polynomial[0] % prime]
    w = pow(primitive_root(prime, 2 * degree), exponent // 2, prime)
    pairs = list(zip(polynomial[:half], polynomial[half:], strict=True))
    plus = [(low + w * high) % prime for low, high in pairs]
    minus = [(low - w * high) % prime for low, high in pairs]
    left = _split(plus, prime, exponent // 2, degree)
    return left + _split(minus, prime, exponent // 2 + degree, degree)


def from_values(ring: Ring, values: Values) -> Polynomial:
    parts = zip(values, ring.primes, strict=True)
    return from_residues(ring, [_join(each, p, ring.degree, ring.degree) for each, p in parts])


def _join(values: list[int], prime: int, exponent: int, degree: int) -> Polynomial:
    half = len(values) // 2
    if half == 0:
        return values
    plus = _join(values[:half], prime, exponent // 2, degree)
    minus = _join(values[half:], prime, exponent // 2 + degree, degree)
    w = pow(primitive_root(prime, 2 * degree), exponent // 2, prime)
    half_inverse, w_inverse = pow(2, -1, prime), pow(2 * w, -1, prime)
    pairs = list(zip(plus, minus, strict=True))
    low = [(a + b) * half_inverse % prime for a, b in pairs]
    return low + [(a - b) * w_inverse % prime for a, b in pairs]


def from_residues(ring: Ring, residues: Values) -> Polynomial:
    """Chinese remainder theorem, coefficient by coefficient."""
    q = ring.modulus
    units = [q // prime * pow(q // prime, -1, prime) for prime in ring.primes]
    columns = zip(*residues, strict=True)
    return [sum(x * y for x, y in zip(column, units, strict=True)) % q for column in columns]


def to_bytes(ring: Ring, residues: Values) -> bytes:
    """Prime after prime, each residue little-endian in the bytes that the largest prime needs."""
    return b"".join(each.to_bytes(ring.residue_bytes, "little") for row in residues for each in row)


def from_bytes(ring: Ring, data: bytes) -> Iterator[Values]:
    """Read polynomials one after the other; ValueError for a residue not below its prime."""
    width = ring.residue_bytes
    numbers = [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
    for start in range(0, len(numbers), ring.degree * len(ring.primes)):
        firsts = range(start, start + ring.degree * len(ring.primes), ring.degree)
        residues = [numbers[first : first + ring.degree] for first in firsts]
        for row, prime in zip(residues, ring.primes, strict=True):
            if max(row) >= prime:
                raise ValueError("a residue is not below its prime")
        yield residues


# --- rounding between Z_2^64 and Z_q


def scale_up(ring: Ring, message: int) -> int:
    """round(m q / 2^64), halves upwards."""
    return (2 * message * ring.modulus + 2**64) // 2**65


def scale_down(ring: Ring, value: int) -> int:
    """round(x 2^64 / q) modulo 2^64; a half cannot occur, q being odd."""
    return (value * 2**65 + ring.modulus) // (2 * ring.modulus) % 2**64


def cut(ring: Ring, values: Polynomial, width: int) -> bytes:
    """x 2^b / q rounded modulo 2^b, b = 8 width: sum y floor(2^208 / p) in place of x 2^208 / q."""
    dropped = 208 - 8 * width
    # y = x (q / p)^-1 modulo p: by the Chinese remainder theorem the sum of y / p is x / q, but for integers.
    steps = [(pow(ring.modulus // p, -1, p), p, 2**208 // p) for p in ring.primes]
    sums = [sum(value * inverse % p * step for inverse, p, step in steps) for value in values]
    rounded = [((each + 2 ** (dropped - 1)) >> dropped) % 2 ** (8 * width) for each in sums]
    return b"".join(each.to_bytes(width, "little") for each in rounded)


def restore(ring: Ring, data: bytes, width: int) -> Polynomial:
    """round(m q / 2^b), halves upwards."""
    numbers = [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
    return [(number * ring.modulus + 2 ** (8 * width - 1)) >> (8 * width) for number in numbers]


# --- where matrices lie


def pack_request(layout: Layout, matrix: Matrix, b: int) -> Polynomial:
    """Column i of ciphertext b is sum_j M[b c + j, i] Y^j, and Y = X^l."""
    message = [0] * layout.ring.degree
    for j in range(layout.contracted):
        row = b * layout.contracted + j
        for i in range(layout.kept if row < layout.contraction else 0):
            message[j * layout.slots + i] = matrix[row][i]
    return message


def pack_multiplier(layout: Layout, plain: Matrix, *, g: int, b: int) -> Polynomial:
    """sum_t sum_j P[g r + t, b c + j] Y^(t c + c - 1 - j)."""
    c, r = layout.contracted, layout.rows_per_ciphertext
    multiplier = [0] * layout.ring.degree
    for t in range(r):
        for j in range(c):
            row, column = g * r + t, b * c + j
            if row < layout.rows and column < layout.contraction:
                multiplier[(t * c + c - 1 - j) * layout.slots] = plain[row][column]
    return multiplier


def as_rows(layout: Layout, carried: list[int]) -> Matrix:
    return [carried[at : at + layout.kept] for at in range(0, len(carried), layout.kept)]


# --- the two sides


class KeyHolder:
    """Secret key s, public key (pk0, pk1) with pk0 = e - pk1 s."""

    def __init__(self, ring: Ring, *, public_seed: bytes, seed: bytes) -> None:
        self.ring = ring
        self.secret = ternary(ring, seed, b"secret key", 0)
        error = gaussian(ring, seed, b"public key error", 0)
        pk1 = from_values(ring, uniform(ring, public_seed, b"pk1", 0))
        self.pk0 = add(ring, error, negate(multiply(ring, pk1, self.secret)))

    def public_key(self) -> bytes:
        return to_bytes(self.ring, to_values(self.ring, self.pk0))

    def encrypt(self, layout: Layout, matrix: Matrix, *, public: bytes, secret: bytes) -> list[bytes]:
        """A block: the public seed, then c0 = e - a s + round(m q / 2^64) of each ciphertext."""
        return [
            public + b"".join(self._encrypt(layout, matrix, public, secret, b) for b in block)
            for block in layout.request_blocks()
        ]

    def _encrypt(self, layout: Layout, matrix: Matrix, public: bytes, secret: bytes, b: int) -> bytes:
        ring, message = self.ring, pack_request(layout, matrix, b)
        a = from_values(ring, uniform(ring, public, b"uniform part", b))
        error = gaussian(ring, secret, b"error", b)
        scaled = [scale_up(ring, each) for each in message]
        c0 = add(ring, error, negate(multiply(ring, a, self.secret)), scaled)
        if layout.request_bytes is None:
            return to_bytes(ring, to_values(ring, c0))
        return cut(ring, c0, layout.request_bytes)

    def decrypt(self, layout: Layout, blocks: list[bytes]) -> Matrix:
        """The key holder's share: c1' s where rows lie, rounded."""
        numbering = layout.response_blocks()
        _check_sizes(blocks, [layout.response_size(each) for each in numbering])
        parts = [
            part
            for block, numbers in zip(blocks, numbering, strict=True)
            for each in self.parts(layout, block, numbers)
            for part in each
        ]
        return as_rows(layout, [scale_down(self.ring, part) for part in parts])

    def parts(self, layout: Layout, block: bytes, numbers: range) -> Iterator[list[int]]:
        """A block holds its c1'; of each, c1' s where rows lie."""
        ring, size = self.ring, self.ring.degree * layout.response_bytes
        for place, g in enumerate(numbers):
            c1 = restore(ring, block[place * size : (place + 1) * size], layout.response_bytes)
            product = multiply(ring, c1, self.secret)
            yield [product[each] for each in layout.carrying(g)]


class Evaluator:
    """Holds the public key, as read from the wire and expanded."""

    def __init__(self, ring: Ring, *, public_key: bytes, public_seed: bytes) -> None:
        _check_sizes([public_key], [ring.polynomial_bytes])
        self.ring = ring
        self.pk0 = from_values(ring, next(from_bytes(ring, public_key)))
        self.pk1 = from_values(ring, uniform(ring, public_seed, b"pk1", 0))

    def respond(
        self, layout: Layout, plain: Matrix, blocks: list[bytes], *, secret: bytes
    ) -> list[tuple[bytes, Matrix]]:
        """Per block: all c1' = sum + pk1 u + e1, and the own share, of c0' = sum + pk0 u where rows lie."""
        ciphertexts = self.read_requests(layout, blocks)
        answers = []
        for numbers in layout.response_blocks():
            pairs = [self.phases(layout, plain, ciphertexts, secret=secret, g=g) for g in numbers]
            data = b"".join(cut(self.ring, c1, layout.response_bytes) for _, c1 in pairs)
            carried = [
                c0[each] for g, (c0, _) in zip(numbers, pairs, strict=True) for each in layout.carrying(g)
            ]
            answers.append((data, as_rows(layout, [scale_down(self.ring, each) for each in carried])))
        return answers

    def read_requests(self, layout: Layout, blocks: list[bytes]) -> list[tuple[Polynomial, Polynomial]]:
        ring, numbering = self.ring, layout.request_blocks()
        _check_sizes(blocks, [SEED_BYTES + len(each) * layout.asked_bytes for each in numbering])
        ciphertexts = []
        for block, numbers in zip(blocks, numbering, strict=True):
            seed = block[:SEED_BYTES]
            for b, c0 in zip(numbers, self._asked(layout, block[SEED_BYTES:]), strict=True):
                a = from_values(ring, uniform(ring, seed, b"uniform part", b))
                ciphertexts.append((c0, a))
        return ciphertexts

    def _asked(self, layout: Layout, data: bytes) -> Iterator[Polynomial]:
        if layout.request_bytes is None:
            return (from_values(self.ring, values) for values in from_bytes(self.ring, data))
        starts = range(0, len(data), layout.asked_bytes)
        parts = (data[start : start + layout.asked_bytes] for start in starts)
        return (restore(self.ring, part, layout.request_bytes) for part in parts)

    def phases(
        self,
        layout: Layout,
        plain: Matrix,
        ciphertexts: list[tuple[Polynomial, Polynomial]],
        *,
        secret: bytes,
        g: int,
    ) -> tuple[Polynomial, Polynomial]:
        """c0' and c1' of response ciphertext g."""
        ring = self.ring
        u = ternary(ring, secret, b"u", g)
        c0 = multiply(ring, self.pk0, u)
        c1 = add(ring, multiply(ring, self.pk1, u), gaussian(ring, secret, b"e1", g))
        for b, (first, second) in enumerate(ciphertexts):
            multiplier = pack_multiplier(layout, plain, g=g, b=b)
            c0 = add(ring, c0, multiply(ring, multiplier, first))
            c1 = add(ring, c1, multiply(ring, multiplier, second))
        return c0, c1


def _check_sizes(blocks: list[bytes], sizes: list[int]) -> None:
    if [len(block) for block in blocks] != sizes:
        raise ValueError("the blocks do not have the sizes of the layout")
