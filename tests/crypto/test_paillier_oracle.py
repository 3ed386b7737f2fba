"""Paillier once more in Python's own integers, and the product's messages byte for byte against it.

Nothing of `moiety.crypto` is used by the oracle: no gmpy2, no digits to base n, no tables of powers, no
Chinese remainders. Streams of random bytes are those of `tests.support.oracle`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import gcd, lcm, prod

import numpy as np
import pytest

from moiety.crypto.paillier.scheme import TESTING_ONLY
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductShape
from tests.support import oracle
from tests.support.oracle import Matrix
from tests.support.randomness import ListedRandomness, words_of

SMALL_PRIMES = [each for each in range(3, 2000, 2) if all(each % d for d in range(3, each, 2))]
KEY_SEED, ALPHA_SEED, BETA_SEED, MASK_SEED = (bytes([each]) * 32 for each in (11, 22, 33, 44))
PUBLIC_SEED = Seed(bytes(32))


def integer(seed: bytes, purpose: bytes, *, index: int, bits: int) -> int:
    """The low bits of a stream, little-endian."""
    stream = oracle.expand(seed, purpose, index=index, size=-(-bits // 8))
    return int.from_bytes(stream, "little") & (1 << bits) - 1


def is_prime(number: int) -> bool:
    """Miller and Rabin to twelve bases, small factors first."""
    if any(number % each == 0 for each in SMALL_PRIMES):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in SMALL_PRIMES[:12]:
        value = pow(base, odd, number)
        if value != 1 and all(pow(value, 2**k, number) != number - 1 for k in range(twos)):
            return False
    return True


def primes(seed: bytes, bits: int) -> Iterator[int]:
    """The next prime from each uniform start with both top bits set, if it is 3 modulo 4."""
    for index in count():
        start = integer(seed, b"prime", index=index, bits=bits) | 0b11 << bits - 2
        prime = next(each for each in count(start + 1 + start % 2, 2) if is_prime(each))
        if prime % 4 == 3:
            yield prime


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A product of (rows x contraction) by (contraction x kept) under keys of `key_bits` bits."""

    key_bits: int
    rows: int
    contraction: int
    kept: int
    multiplier_bits: int

    @property
    def bound(self) -> int:
        """A power of two not below contraction x 2^multiplier_bits x 2^63."""
        return int(1 << (self.contraction * 2**self.multiplier_bits * 2**63 - 1).bit_length())

    @property
    def masks(self) -> int:
        """Masks are uniform below this: twice the bound, 60 bits wider."""
        return self.bound * 2 * 2**60

    @property
    def slot_bits(self) -> int:
        """The largest that a slot can hold: sum + bound + mask."""
        return (2 * self.bound + self.masks - 1).bit_length()

    @property
    def slots(self) -> int:
        return (self.key_bits - 1) // self.slot_bits

    @property
    def groups(self) -> int:
        return -(-self.kept // self.slots)


class KeyHolder:
    """Keys, encryption and decryption by definition."""

    def __init__(self, key_bits: int, seed: bytes) -> None:
        drawn = primes(seed, key_bits // 2)
        self.p = next(drawn)
        self.q = next(each for each in drawn if gcd(each - 1, self.p - 1) == 2)
        self.n = self.p * self.q
        x = integer(seed, b"residue", index=0, bits=key_bits + 128) % self.n
        self.h_s = pow(-x * x, self.n, self.n**2)
        self.key_bits = key_bits

    @cached_property
    def order(self) -> int:
        return lcm(self.p - 1, self.q - 1)

    def public_key(self) -> bytes:
        return self.n.to_bytes(self.key_bits // 8, "little") + self.write(self.h_s)

    def write(self, ciphertext: int) -> bytes:
        return ciphertext.to_bytes(self.key_bits // 4, "little")

    def encrypt(self, layout: Layout, matrix: Matrix, *, seed: bytes, alpha_bits: int) -> list[int]:
        """Row by row, group by group; entries above 2^63 are negative."""
        ciphertexts: list[int] = []
        for row in matrix:
            signed = [entry - 2**64 if entry >= 2**63 else entry for entry in row]
            for group in range(layout.groups):
                slots = signed[group * layout.slots : (group + 1) * layout.slots]
                message = sum(entry * 2 ** (layout.slot_bits * k) for k, entry in enumerate(slots))
                alpha = integer(seed, b"alpha", index=len(ciphertexts), bits=alpha_bits)
                c = pow(1 + self.n, message, self.n**2) * pow(self.h_s, alpha, self.n**2)
                ciphertexts.append(c % self.n**2)
        return ciphertexts

    def decrypt(self, ciphertext: int) -> int:
        """L(c^order) / order modulo n, in [0, n)."""
        logarithm = (pow(ciphertext, self.order, self.n**2) - 1) // self.n
        return logarithm * pow(self.order, -1, self.n) % self.n


def respond(
    holder: KeyHolder,
    layout: Layout,
    plain: Matrix,
    ciphertexts: list[int],
    *,
    beta_seed: bytes,
    beta_bits: int,
    mask_seed: bytes,
) -> tuple[list[int], Matrix]:
    """Answer ciphertexts and own shares, by the formula; only the public key is used."""
    n, square = holder.n, holder.n**2
    answers: list[int] = []
    shares: Matrix = []
    width = layout.slot_bits
    for row in plain:
        share: list[int] = []
        for group in range(layout.groups):
            number = len(answers)
            stream = integer(mask_seed, b"mask", index=number, bits=layout.slots * width)
            masks = [(stream >> width * k) % layout.masks + layout.bound for k in range(layout.slots)]
            mask = sum(each << width * k for k, each in enumerate(masks))
            beta = integer(beta_seed, b"beta", index=number, bits=beta_bits)
            powers = zip(ciphertexts[group :: layout.groups], row, strict=True)
            factors = [pow(c, exponent, square) for c, exponent in powers]
            answers.append(prod(factors) * pow(1 + n, mask, square) * pow(holder.h_s, beta, square) % square)
            share += [-each % 2**64 for each in masks]
        shares.append(share[: layout.kept])
    return answers, shares


def test_oracle_primes_are_primes() -> None:
    assert is_prime(2**127 - 1)
    assert is_prime(10**18 + 9)
    assert not is_prime((2**31 - 1) * (2**61 - 1))
    assert not is_prime(3215031751 * 3215031751)
    assert not is_prime(1009 * 1013)


@pytest.mark.parametrize(
    ("rows", "contraction", "kept", "bits"),
    [
        (3, 5, 4, 15),
        pytest.param(2, 3, 9, 15, marks=pytest.mark.slow),
        pytest.param(4, 2, 11, 63, marks=pytest.mark.slow),
        (1, 1, 1, 0),
        pytest.param(2, 9, 3, 62, marks=pytest.mark.slow),
    ],
)
def test_messages_known_answers(*, rows: int, contraction: int, kept: int, bits: int) -> None:
    """Every byte of the public key, request and response, and both shares."""
    layout = Layout(key_bits=1024, rows=rows, contraction=contraction, kept=kept, multiplier_bits=bits)
    shape = ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=bits)
    plan = TESTING_ONLY.plan(shape, required_spare_bits=64)
    assert (plan.slots, plan.slot_bits, plan.groups) == (layout.slots, layout.slot_bits, layout.groups)
    # 60 bits above every combination of four times 80 bits: 2 D 2^bits 2^320.
    beta_bits = (2 * contraction * 2**bits * 2**320 - 1).bit_length() + 60
    matrix_DK = words_of("known matrix", contraction * kept).reshape(contraction, kept)
    plain = words_of("known plain", rows * contraction).view(np.int64) >> np.int64(63 - bits)
    plain_ND = plain.reshape(rows, contraction)
    product = plain_ND.view(np.uint64) @ matrix_DK

    theirs = KeyHolder(1024, KEY_SEED)
    ours = TESTING_ONLY.key_holder(public_seed=PUBLIC_SEED, randomness=ListedRandomness([KEY_SEED]))
    assert ours.public_key() == theirs.public_key()

    ciphertexts = theirs.encrypt(layout, matrix_DK.tolist(), seed=ALPHA_SEED, alpha_bits=320)
    request = list(ours.encrypt(matrix_DK, plan=plan, randomness=ListedRandomness([ALPHA_SEED])))
    assert b"".join(request) == b"".join(map(theirs.write, ciphertexts))

    answers, evaluator_share = respond(
        theirs,
        layout,
        plain_ND.tolist(),
        ciphertexts,
        beta_seed=BETA_SEED,
        beta_bits=beta_bits,
        mask_seed=MASK_SEED,
    )
    evaluator = TESTING_ONLY.evaluator(public_key=ours.public_key(), public_seed=PUBLIC_SEED)
    seeds = ListedRandomness([BETA_SEED, MASK_SEED])
    ((block, share_NK),) = evaluator.respond(plain_ND, request, plan=plan, randomness=seeds)
    assert block == b"".join(map(theirs.write, answers))
    assert share_NK.tolist() == evaluator_share

    width = layout.slot_bits
    opened = [
        theirs.decrypt(answer) >> width * k & 2**64 - 1 for answer in answers for k in range(layout.slots)
    ]
    opened_NK = np.array(opened, dtype=np.uint64).reshape(rows, -1)[:, :kept]
    assert np.array_equal(ours.decrypt([block], plan=plan), opened_NK)
    assert np.array_equal(opened_NK + share_NK, product)
