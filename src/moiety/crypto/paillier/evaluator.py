"""The evaluator: raises ciphertexts to its own entries, re-randomises and masks what it answers."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from moiety.crypto.paillier.keys import PublicKey
from moiety.crypto.paillier.packing import PaillierPlan, draw_mask, random_integer, rows_of, slots_of
from moiety.crypto.paillier.powers import (
    Digits,
    fixed_power,
    join,
    multiply,
    power_products,
    split,
    windows_of,
)
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed
from moiety.errors import RingOverflowError


class PaillierEvaluator:
    """Multiplies ciphertexts by its own plain matrix, and answers re-randomised and masked.

    Args:
        key_bits: size of n.
        rerandomiser_bits: the largest size of an exponent that re-randomises.
        public_key: n and h_s as the key holder sent them.

    Raises:
        MalformedMessageError: the public key is not one of `key_bits` bits.
    """

    def __init__(self, key_bits: int, *, rerandomiser_bits: int, public_key: bytes) -> None:
        self._public = PublicKey.read(public_key, key_bits=key_bits)
        modulus = self._public.modulus
        residue = split(self._public.residue, modulus)
        self._windows = windows_of(residue, bits=rerandomiser_bits, modulus=modulus)

    def prepare(self, *, plan: PaillierPlan, randomness: Randomness) -> None:
        """Compute nothing ahead: a slow scheme is for comparison, and simple."""

    def respond(
        self,
        plain_ND: NDArray[np.int64] | NDArray[np.int16],
        blocks: Sequence[bytes],
        *,
        plan: PaillierPlan,
        randomness: Randomness,
    ) -> Iterator[tuple[bytes, RingArray]]:
        """Yield each response block with the rows of this side's share that it covers.

        Raises:
            MalformedMessageError: a block is missing or too many or of another size, or holds no ciphertexts.
            RingOverflowError: an entry of P is above 2^multiplier_bits: masks would be too narrow for it.

        Leaks:
            To the key holder, nothing but the shape, up to 2^-60 for each slot and each ciphertext: a mask
            hides the sum, an exponent of its own hides how the ciphertexts were combined.
        """
        # Before anything is computed: a mask is as wide as the plan's bound, and a larger sum would show (ADR
        # 0012).
        _require_range(plain_ND, plan.shape.multiplier_bits)
        sums = self._sums(plain_ND.astype(np.int64), blocks, plan)
        # One for what re-randomises and one for what masks: both hide the same sums, so neither may follow
        # from the other.
        exponents, masks = randomness.seed(), randomness.seed()
        work = partial(self._answer, sums, plan, exponents, masks)
        for numbers in plan.response_ranges:
            answers = [work(number) for number in numbers]
            mask_NK = rows_of(plan, [slots for _, slots in answers])
            yield b"".join(block for block, _ in answers), -mask_NK

    def _sums(
        self, plain_ND: NDArray[np.int64], blocks: Sequence[bytes], plan: PaillierPlan
    ) -> list[list[Digits]]:
        """Return bare encryptions of the sums, group by group: they must not leave this object."""
        ciphertexts = self._public.read_ciphertexts(blocks, plan.request_ranges)
        return [
            power_products(
                plain_ND,
                ciphertexts[group :: plan.groups],
                multiplier_bits=plan.shape.multiplier_bits,
                modulus=self._public.modulus,
            )
            for group in range(plan.groups)
        ]

    def _answer(
        self, sums: list[list[Digits]], plan: PaillierPlan, exponents: Seed, masks: Seed, number: int
    ) -> tuple[bytes, list[int]]:
        """Re-randomise and mask response ciphertext `number`; return it and the mask in its slots."""
        modulus = self._public.modulus
        row, group = divmod(number, plan.groups)
        # Wider than any sum of the key holder's exponents by 60 bits: it knows p and q, so only width hides P
        # (ADR 0012).
        beta = random_integer(exponents, b"beta", index=number, bits=plan.rerandomiser_bits)
        randomiser = fixed_power(self._windows, beta, modulus=modulus)
        mask = draw_mask(plan, masks, number)
        answer = _add(multiply(sums[group][row], randomiser, modulus), mask, modulus)
        return self._public.write_ciphertext(join(answer, modulus)), slots_of(plan, mask)


def _add(digits: Digits, message: mpz, modulus: mpz) -> Digits:
    """Multiply by 1 + n m, which adds m to what is encrypted."""
    low, high = digits
    return low, (high + low * message) % modulus


def _require_range(plain_ND: NDArray[np.int64] | NDArray[np.int16], multiplier_bits: int) -> None:
    largest = max(int(plain_ND.max()), -int(plain_ND.min()))
    if largest > 2**multiplier_bits:
        raise RingOverflowError(
            f"a multiplier does not fit the {multiplier_bits} bits that were planned for",
            largest_magnitude_bits=largest.bit_length(),
            limit_bits=multiplier_bits,
            hint="plan the product with as many multiplier bits as the matrix has",
        )
