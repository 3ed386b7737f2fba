"""How matrices lie in Paillier plaintexts: slots, masks, ciphertext numbers and blocks.

A ciphertext carries one row of M in one group of columns, a signed 64-bit entry in each slot of w bits:

    m_d = sum_k M[d, k] 2^(w k)        so that        sum_d P[d] m_d = sum_k S_k 2^(w k)

Entries and sums are signed and the integers may be negative; nothing is lost by that, since only the answer
is read, and there each slot holds S_k + 2^B + r_k with |S_k| <= 2^B and a mask r_k in [0, 2^(B + 1 + 60)):
never negative and always below 2^w, w = B + 62, so that no slot carries into its neighbour.

Ciphertexts are numbered row by row, and by group within a row. Shapes: N rows of P, D contracted, K kept.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Final

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Seed, expand
from moiety.crypto.scheme import BLOCK_BYTES, ProductShape
from moiety.errors import ParameterError

STATISTICAL_BITS: Final = 60
"""Masks are this much wider than the range they hide: for any two inputs, what is seen differs by 2^-60."""
WORD: Final = 2**64


def product_bits(shape: ProductShape) -> int:
    """Bound an entry of P M with signed 64-bit M, over the integers: |S| <= D 2^multiplier_bits 2^63 <= 2^B.

    >>> shape = ProductShape(rows=1, contraction=91, kept=1, multiplier_bits=15)
    >>> product_bits(shape)
    85
    >>> 2**84 < 91 * 2**15 * 2**63 <= 2**85
    True
    """
    return 63 + shape.multiplier_bits + (shape.contraction - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class PaillierPlan:
    """One product under keys of one size, cut into ciphertexts and blocks.

    Args:
        key_bits: size of n.
        randomiser_bits: size of alpha, the exponent of a fresh encryption.

    Raises:
        ParameterError: entries of P do not fit 64 bits, or one row of the answer does not fit a block.
    """

    shape: ProductShape
    key_bits: int
    randomiser_bits: int

    def __post_init__(self) -> None:
        if self.shape.multiplier_bits > 63:  # noqa: PLR2004 - a signed word has 63 bits and a sign
            raise ParameterError(
                f"multipliers of {self.shape.multiplier_bits} bits do not fit a 64-bit word",
                hint="split the multipliers into limbs of 63 bits at most",
            )
        if self.groups * self.ciphertext_bytes > BLOCK_BYTES:
            raise ParameterError(
                f"a row of {self.shape.kept} columns does not fit one block of {BLOCK_BYTES} bytes",
                hint="use smaller batches or fewer units",
            )

    @property
    def spare_bits(self) -> float:
        """Infinite: the product is exact."""
        return inf

    @property
    def request_layout(self) -> tuple[int, ...]:
        """What the requests depend on but M: how many slots share a ciphertext, and how wide they are."""
        return (self.slots, self.slot_bits)

    @property
    def mask_bits(self) -> int:
        """Bits of a slot's mask: 60 more than the range [-2^B, 2^B] needs.

        >>> shape = ProductShape(rows=1, contraction=91, kept=1, multiplier_bits=15)
        >>> plan = PaillierPlan(shape=shape, key_bits=3072, randomiser_bits=512)
        >>> bound = 91 * 2**15 * 2**63
        >>> 2**plan.mask_bits >= 2 * bound * 2**60
        True
        """
        return product_bits(self.shape) + 1 + STATISTICAL_BITS

    @property
    def slot_bits(self) -> int:
        """The width w of a slot.

        >>> shape = ProductShape(rows=1, contraction=91, kept=1, multiplier_bits=15)
        >>> plan = PaillierPlan(shape=shape, key_bits=3072, randomiser_bits=512)
        >>> bound = 2 ** product_bits(shape)
        >>> bound - bound >= 0 and bound + bound + (2**plan.mask_bits - 1) < 2**plan.slot_bits
        True
        """
        return self.mask_bits + 1

    @property
    def slots(self) -> int:
        """Slots of a ciphertext; what they hold together stays below 2^(key_bits - 1) <= n."""
        return (self.key_bits - 1) // self.slot_bits

    @property
    def groups(self) -> int:
        """Ciphertexts of one row."""
        return -(-self.shape.kept // self.slots)

    @property
    def rerandomiser_bits(self) -> int:
        """Bits of beta: 60 more than the range of sum_d P[d] alpha_d needs, which is signed.

        >>> shape = ProductShape(rows=1, contraction=91, kept=1, multiplier_bits=15)
        >>> plan = PaillierPlan(shape=shape, key_bits=3072, randomiser_bits=512)
        >>> 2**plan.rerandomiser_bits >= 2 * (91 * 2**15 * 2**512) * 2**60
        True
        """
        combination_bits = self.randomiser_bits + self.shape.multiplier_bits
        return combination_bits + (self.shape.contraction - 1).bit_length() + 1 + STATISTICAL_BITS

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of a residue modulo n^2."""
        return self.key_bits // 4

    @cached_property
    def request_ranges(self) -> tuple[range, ...]:
        """Ciphertext numbers of each request block."""
        return _ranges(self.shape.contraction * self.groups, BLOCK_BYTES // self.ciphertext_bytes)

    @cached_property
    def response_ranges(self) -> tuple[range, ...]:
        """Ciphertext numbers of each response block: whole rows."""
        row_bytes = self.groups * self.ciphertext_bytes
        return _ranges(self.shape.rows * self.groups, BLOCK_BYTES // row_bytes * self.groups)

    @property
    def request_sizes(self) -> tuple[int, ...]:
        """Bytes of each request block."""
        return tuple(len(numbers) * self.ciphertext_bytes for numbers in self.request_ranges)

    @property
    def response_sizes(self) -> tuple[int, ...]:
        """Bytes of each response block."""
        return tuple(len(numbers) * self.ciphertext_bytes for numbers in self.response_ranges)

    def output_rows(self, numbers: range) -> slice:
        """Return the rows of the product that response ciphertexts `numbers` carry."""
        return slice(numbers.start // self.groups, numbers.stop // self.groups)

    @cached_property
    def offset(self) -> mpz:
        """2^B in every slot: what keeps the sums from being negative."""
        return self._in_every_slot(mpz(1) << product_bits(self.shape))

    @cached_property
    def mask_pattern(self) -> mpz:
        """The bits that masks may set: the low ones of every slot."""
        return self._in_every_slot((mpz(1) << self.mask_bits) - 1)

    def _in_every_slot(self, value: mpz) -> mpz:
        return sum((value << self.slot_bits * k for k in range(self.slots)), mpz(0))


def pack(plan: PaillierPlan, matrix_DK: RingArray, number: int) -> mpz:
    """Lay what request ciphertext `number` carries into slots; the integer is signed."""
    row, group = divmod(number, plan.groups)
    entries = matrix_DK[row, group * plan.slots : (group + 1) * plan.slots].view(np.int64)
    return sum((mpz(entry) << plan.slot_bits * k for k, entry in enumerate(entries.tolist())), mpz(0))


def slots_of(plan: PaillierPlan, plaintext: mpz) -> list[int]:
    """Read every slot modulo 2^64."""
    return [int((plaintext >> plan.slot_bits * k) % WORD) for k in range(plan.slots)]


def rows_of(plan: PaillierPlan, slots: list[list[int]]) -> RingArray:
    """Join the slots of consecutive ciphertexts to rows of the product, uint64 (rows, kept)."""
    words = np.array(slots, dtype=np.uint64).reshape(-1, plan.groups * plan.slots)
    return np.ascontiguousarray(words[:, : plan.shape.kept])


def draw_mask(plan: PaillierPlan, seed: Seed, number: int) -> mpz:
    """Draw what response ciphertext `number` adds: 2^B and a uniform mask in every slot."""
    drawn = random_integer(seed, b"mask", index=number, bits=plan.slots * plan.slot_bits)
    return (drawn & plan.mask_pattern) + plan.offset


def random_integer(seed: Seed, purpose: bytes, *, index: int, bits: int) -> mpz:
    """Expand a seed to an integer uniform in [0, 2^bits)."""
    stream: NDArray[np.uint8] = expand(seed, purpose, index=index, size=-(-bits // 8))
    return mpz(int.from_bytes(stream.tobytes(), "little")) % (mpz(1) << bits)


def _ranges(count: int, size: int) -> tuple[range, ...]:
    return tuple(range(start, min(start + size, count)) for start in range(0, count, size))
