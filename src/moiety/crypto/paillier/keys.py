"""Paillier keys: how they are made, what of them crosses, and how what crosses is checked.

Primes p = q = 3 modulo 4 with gcd(p - 1, q - 1) = 2; h_s = (-x^2)^n mod n^2 (Damgard, Jurik and Nielsen).
Integers cross little-endian in a fixed number of bytes, so that lengths tell nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Self

import gmpy2
from gmpy2 import mpz

from moiety.crypto.paillier.packing import random_integer
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.secret import Secret
from moiety.errors import MalformedMessageError


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """What the evaluator needs.

    Args:
        modulus: n.
        residue: h_s, an n-th power modulo n^2, whose powers randomise.
    """

    modulus: mpz
    residue: mpz

    @cached_property
    def modulus_squared(self) -> mpz:
        """n^2, the modulus of ciphertexts."""
        return self.modulus * self.modulus

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of a residue modulo n^2."""
        return int(self.modulus.bit_length()) // 4

    @classmethod
    def read(cls, message: bytes, *, key_bits: int) -> Self:
        """Read n and h_s from the key holder's message.

        Raises:
            MalformedMessageError: a wrong size, n not odd of exactly key_bits bits, h_s no unit modulo n^2.
        """
        if len(message) != public_key_bytes(key_bits):
            raise MalformedMessageError(
                f"a public key of {len(message)} bytes came where {public_key_bytes(key_bits)} were expected"
            )
        modulus, residue = _read(message[: key_bits // 8]), _read(message[key_bits // 8 :])
        if modulus.bit_length() != key_bits or modulus % 2 == 0:
            raise MalformedMessageError(f"the public key is not an odd number of {key_bits} bits")
        key = cls(modulus=modulus, residue=residue)
        key.require_units([residue])
        return key

    def write(self) -> bytes:
        """Return n and h_s as they cross."""
        return _write(self.modulus, self.ciphertext_bytes // 2) + self.write_ciphertext(self.residue)

    def require_units(self, residues: Sequence[mpz]) -> None:
        """Refuse what is not below n^2 or has a factor in common with n, as 0 has.

        Raises:
            MalformedMessageError: one of the residues is no ciphertext.
        """
        product = mpz(1)  # One gcd for all: a common factor of one of them is one of the product.
        for residue in residues:
            if residue >= self.modulus_squared:
                raise MalformedMessageError("a ciphertext is out of range")
            product = product * residue % self.modulus
        if gmpy2.gcd(product, self.modulus) != 1:
            raise MalformedMessageError("a ciphertext is not prime to the modulus")

    def read_ciphertexts(self, blocks: Sequence[bytes], ranges: Sequence[range]) -> list[mpz]:
        """Read the ciphertexts of a message.

        Raises:
            MalformedMessageError: a block is missing or too many or of another size, or holds no ciphertexts.
        """
        size = self.ciphertext_bytes
        sizes = [len(numbers) * size for numbers in ranges]
        if [len(block) for block in blocks] != sizes:
            raise MalformedMessageError(
                f"blocks of {[len(block) for block in blocks]} bytes came where {sizes} were expected"
            )
        data = b"".join(blocks)
        ciphertexts = [_read(data[at : at + size]) for at in range(0, len(data), size)]
        self.require_units(ciphertexts)
        return ciphertexts

    def write_ciphertext(self, ciphertext: mpz) -> bytes:
        """Return a ciphertext as it crosses."""
        return _write(ciphertext, self.ciphertext_bytes)


@dataclass(frozen=True, kw_only=True, repr=False)
class PrivateKey(Secret):
    """The factors p and q of n, and what follows from them."""

    p: mpz
    q: mpz
    public: PublicKey

    @classmethod
    def generate(cls, key_bits: int, randomness: Randomness) -> Self:
        """Draw a key of exactly `key_bits` bits."""
        seed = randomness.seed()
        primes = _primes(seed, key_bits // 2)
        p = next(primes)
        # With primes 3 modulo 4 and this gcd, the elements of Jacobi symbol 1 form a cyclic group, and -x^2
        # is one that is no square (Damgard, Jurik and Nielsen).
        q = next(each for each in primes if gmpy2.gcd(p - 1, each - 1) == 2)  # noqa: PLR2004 - as in the paper
        n = p * q
        # 128 bits more than n has: the remainder is uniform but for 2^-128.
        x = random_integer(seed, b"residue", index=0, bits=key_bits + 128) % n
        residue = gmpy2.powmod(-x * x % n, n, n * n)
        return cls(p=p, q=q, public=PublicKey(modulus=n, residue=residue))

    @cached_property
    def _inverses(self) -> tuple[mpz, mpz, mpz]:
        """L(g^(p-1)) = (p - 1) q = -q modulo p, its inverse; the same modulo q; and 1 / q modulo p."""
        inverse = gmpy2.invert(self.q, self.p)
        return self.p - inverse, gmpy2.invert(-self.p, self.q), inverse

    def decrypt(self, ciphertext: mpz) -> mpz:
        """Return the message in [0, n): modulo p and q on their own, joined by Chinese remainders."""
        scale_p, scale_q, inverse = self._inverses
        modulo_p, modulo_q = (
            _logarithm(gmpy2.powmod(ciphertext, prime - 1, prime * prime), prime) * scale % prime
            for prime, scale in ((self.p, scale_p), (self.q, scale_q))
        )
        return modulo_q + self.q * ((modulo_p - modulo_q) * inverse % self.p)


def public_key_bytes(key_bits: int) -> int:
    """Return the size of the message: n, and h_s modulo n^2.

    >>> public_key_bytes(3072)
    1152
    """
    return 3 * key_bits // 8


def _primes(seed: Seed, bits: int) -> Iterator[mpz]:
    """Yield primes, 3 modulo 4, with both top bits set: a product of two has exactly twice the bits."""
    for index in count():
        start = random_integer(seed, b"prime", index=index, bits=bits) | (mpz(3) << bits - 2)
        prime = gmpy2.next_prime(start)
        if prime % 4 == 3:  # noqa: PLR2004 - as it says
            yield prime


def _logarithm(residue: mpz, modulus: mpz) -> mpz:
    """Return L(u) = (u - 1) / modulus, for u = 1 modulo the modulus."""
    return (residue - 1) // modulus


def _read(data: bytes) -> mpz:
    return mpz(int.from_bytes(data, "little"))


def _write(number: mpz, size: int) -> bytes:
    return int(number).to_bytes(size, "little")
