"""The key holder: encrypts its matrix with the factors at hand, decrypts its share."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import gmpy2
from gmpy2 import mpz

from moiety.crypto.paillier.keys import PrivateKey
from moiety.crypto.paillier.packing import PaillierPlan, pack, random_integer, rows_of, slots_of
from moiety.crypto.paillier.powers import fixed_power, join, split, windows_of
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.secret import Secret


class PaillierKeyHolder(Secret):
    """Holds the private key of one session; it is never written anywhere.

    Args:
        key_bits: size of n.
        randomiser_bits: size of the exponents of fresh encryptions.
        randomness: where the key's seed comes from.
        threads: threads that share the decryption of a message.
    """

    def __init__(
        self, key_bits: int, *, randomiser_bits: int, randomness: Randomness, threads: int = 1
    ) -> None:
        self._private = PrivateKey.generate(key_bits, randomness)
        self._threads = threads
        # With the factors, powers are taken modulo p^2 and q^2, and joined: three quarters of the time.
        self._windows = [
            windows_of(split(self._residue % (prime * prime), prime), bits=randomiser_bits, modulus=prime)
            for prime in self._primes
        ]
        p_squared, q_squared = (prime * prime for prime in self._primes)
        self._join = (q_squared, gmpy2.invert(q_squared, p_squared), p_squared)

    @property
    def _primes(self) -> tuple[mpz, mpz]:
        return self._private.p, self._private.q

    @property
    def _residue(self) -> mpz:
        return self._private.public.residue

    def public_key(self) -> bytes:
        """Return n and h_s.

        Leaks:
            Nothing about the factors (factoring).
        """
        return self._private.public.write()

    def prepare(self, *, plan: PaillierPlan, randomness: Randomness) -> None:
        """Compute nothing ahead: a slow scheme is for comparison, and simple."""

    def encrypt(self, matrix_DK: RingArray, *, plan: PaillierPlan, randomness: Randomness) -> Iterator[bytes]:
        """Encrypt M block by block.

        Leaks:
            Nothing to the evaluator but the shape (composite residuosity with short exponents).
        """
        seed = randomness.seed()
        work = partial(self._encrypt, matrix_DK, plan, seed)
        for numbers in plan.request_ranges:
            yield b"".join(map(work, numbers))

    def _encrypt(self, matrix_DK: RingArray, plan: PaillierPlan, seed: Seed, number: int) -> bytes:
        public = self._private.public
        alpha = random_integer(seed, b"alpha", index=number, bits=plan.randomiser_bits)
        message = pack(plan, matrix_DK, number)
        ciphertext = (1 + public.modulus * message) * self._randomiser(alpha) % public.modulus_squared
        return public.write_ciphertext(ciphertext)

    def _randomiser(self, alpha: mpz) -> mpz:
        """Return h_s^alpha modulo n^2."""
        modulo_p, modulo_q = (
            join(fixed_power(windows, alpha, modulus=prime), prime)
            for windows, prime in zip(self._windows, self._primes, strict=True)
        )
        q_squared, inverse, p_squared = self._join
        return modulo_q + q_squared * ((modulo_p - modulo_q) * inverse % p_squared)

    def decrypt(self, blocks: Sequence[bytes], *, plan: PaillierPlan) -> RingArray:
        """Decrypt all response blocks to this side's share, uint64 (rows, kept).

        Raises:
            MalformedMessageError: a block is missing or too many or of another size, or holds no ciphertexts.
        """
        ciphertexts = self._private.public.read_ciphertexts(blocks, plan.response_ranges)
        return rows_of(plan, [slots_of(plan, each) for each in self._decrypt(ciphertexts)])

    def _decrypt(self, ciphertexts: Sequence[mpz]) -> list[mpz]:
        """Decrypt in the order given, whatever the number of threads.

        Two threads on two cores took 0.6 of the time of one. Other work here is in operations of
        microseconds, for which two threads were slower than one.
        """
        if self._threads == 1:
            return [self._private.decrypt(each) for each in ciphertexts]
        with ThreadPoolExecutor(self._threads, initializer=_release_interpreter) as pool:
            return list(pool.map(self._private.decrypt, ciphertexts))


def _release_interpreter() -> None:
    """Let other threads run during GMP's operations: gmpy2 allows it thread by thread."""
    gmpy2.get_context().allow_release_gil = True
