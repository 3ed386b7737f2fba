"""Paillier without packing: one number to a ciphertext, one power to a multiplication.

The arithmetic of the all-layers baseline, with the care that its authors could take: g = n + 1, fixed-base
randomisers made ahead of time, exponents as short as the weights, one inverse for all negative weights of a
sum, decryption by Chinese remainders. `Clear` does the same in the clear: it is what results are compared
with, and it counts what a network costs without doing it.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import gmpy2
from gmpy2 import mpz

from moiety.crypto.paillier.keys import PrivateKey
from moiety.crypto.paillier.packing import random_integer
from moiety.crypto.paillier.powers import fixed_power, join, split, windows_of
from moiety.crypto.sampling import Randomness

Connection = tuple[int, int, int]
"""Index of the ciphertext, index of the sum, weight."""

ENCRYPTION: Final = "encryptions"
MULTIPLICATION: Final = "multiplications"
INVERSE: Final = "inverses"
DECRYPTION: Final = "decryptions"
RANDOMISER: Final = "randomisers"
OPERATIONS: Final = (ENCRYPTION, MULTIPLICATION, INVERSE, DECRYPTION)
"""What a step waits for; randomisers are made ahead of time."""


class Arithmetic(Protocol):
    """Sums of weighted numbers that their owner encrypts and decrypts.

    Attributes:
        counts: operations so far.
        seconds: CPU time so far, by operation.
    """

    counts: Counter[str]
    seconds: defaultdict[str, float]

    def encrypt(self, values: Iterable[int]) -> list[mpz]:
        """Encrypt each value on its own."""
        ...

    def sums(self, ciphertexts: Sequence[mpz], connections: Iterable[Connection], count: int) -> list[mpz]:
        """Return `count` encrypted sums of weighted ciphertexts."""
        ...

    def decrypt(self, ciphertexts: Sequence[mpz]) -> list[int]:
        """Return the signed values."""
        ...


class Clear:
    """Counts the operations and computes in the clear."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def encrypt(self, values: Iterable[int]) -> list[mpz]:
        """Return the values."""
        numbers = [mpz(value) for value in values]
        self.counts[ENCRYPTION] += len(numbers)
        self.counts[RANDOMISER] += len(numbers)
        return numbers

    def sums(self, ciphertexts: Sequence[mpz], connections: Iterable[Connection], count: int) -> list[mpz]:
        """Return the sums."""
        results, negative = [mpz(0)] * count, set()
        for source, target, weight in connections:
            if weight:
                results[target] += ciphertexts[source] * weight
                self.counts[MULTIPLICATION] += 1
                if weight < 0:
                    negative.add(target)
        self.counts[INVERSE] += len(negative)
        return results

    def decrypt(self, ciphertexts: Sequence[mpz]) -> list[int]:
        """Return the values."""
        self.counts[DECRYPTION] += len(ciphertexts)
        return [int(number) for number in ciphertexts]


class Elementwise:
    """Encrypts with a key and times every operation.

    Args:
        key: the key holder's.
        randomness: of the encryptions.
    """

    def __init__(self, key: PrivateKey, *, randomness: Randomness) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._key, self._seed = key, randomness.seed()
        self._modulus, self._square = key.public.modulus, key.public.modulus_squared
        self._exponent_bits = int(self._modulus.bit_length()) // 2  # Damgard, Jurik and Nielsen
        base = split(key.public.residue, self._modulus)
        self._windows = windows_of(base, bits=self._exponent_bits, modulus=self._modulus)

    def encrypt(self, values: Iterable[int]) -> list[mpz]:
        """Encrypt each value on its own, (1 + value n) r with r made ahead of time."""
        numbers = [mpz(value) for value in values]
        randomisers = self._randomisers(len(numbers))
        start = time.process_time()
        ciphertexts = [
            (1 + value * self._modulus) * randomiser % self._square
            for value, randomiser in zip(numbers, randomisers, strict=True)
        ]
        self._count(ENCRYPTION, len(numbers), start)
        return ciphertexts

    def sums(self, ciphertexts: Sequence[mpz], connections: Iterable[Connection], count: int) -> list[mpz]:
        """Multiply powers: those of negative weights apart, inverted once per sum."""
        listed, square = list(connections), self._square
        start, products = time.process_time(), 0
        positive, negative = [mpz(1)] * count, [mpz(1)] * count
        for source, target, weight in listed:
            if weight > 0:
                power = gmpy2.powmod(ciphertexts[source], weight, square)
                positive[target] = positive[target] * power % square
                products += 1
            elif weight < 0:
                power = gmpy2.powmod(ciphertexts[source], -weight, square)
                negative[target] = negative[target] * power % square
                products += 1
        self._count(MULTIPLICATION, products, start)
        return self._quotients(positive, negative)

    def decrypt(self, ciphertexts: Sequence[mpz]) -> list[int]:
        """Decrypt each ciphertext; the upper half of [0, n) are negative values."""
        start = time.process_time()
        values = [self._key.decrypt(each) for each in ciphertexts]
        half = self._modulus // 2
        signed = [int(value - self._modulus if value > half else value) for value in values]
        self._count(DECRYPTION, len(signed), start)
        return signed

    def _quotients(self, positive: Sequence[mpz], negative: Sequence[mpz]) -> list[mpz]:
        start = time.process_time()
        inverses = sum(divisor != 1 for divisor in negative)
        results = [
            product if divisor == 1 else product * gmpy2.invert(divisor, self._square) % self._square
            for product, divisor in zip(positive, negative, strict=True)
        ]
        self._count(INVERSE, inverses, start)
        return results

    def _randomisers(self, count: int) -> list[mpz]:
        start, first = time.process_time(), self.counts[RANDOMISER]
        exponents = [
            random_integer(self._seed, b"randomiser", index=first + at, bits=self._exponent_bits)
            for at in range(count)
        ]
        powers = [fixed_power(self._windows, each, modulus=self._modulus) for each in exponents]
        residues = [join(power, self._modulus) for power in powers]
        self._count(RANDOMISER, count, start)
        return residues

    def _count(self, operation: str, count: int, start: float) -> None:
        self.counts[operation] += count
        self.seconds[operation] += time.process_time() - start
