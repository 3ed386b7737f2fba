"""Paillier as a scheme: sizes of keys, what they are worth, and who computes under them."""

from dataclasses import dataclass
from typing import Final

from moiety.crypto.paillier.evaluator import PaillierEvaluator
from moiety.crypto.paillier.key_holder import PaillierKeyHolder
from moiety.crypto.paillier.keys import public_key_bytes
from moiety.crypto.paillier.packing import STATISTICAL_BITS, PaillierPlan
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import ProductShape
from moiety.errors import InsecureParameterError, ParameterError

SECURITY_BITS: Final = {3072: 128, 2048: 112, 1024: 80}
"""What a modulus of so many bits is worth (NIST SP 800-57 part 1, table 2)."""
REQUIRED_SECURITY_BITS: Final = 112
"""2048 bits are refused by nobody yet; the name of such a key says that it is legacy."""
NAMES: Final = {3072: "paillier-3072", 2048: "paillier-2048-legacy", 1024: "testing-only-paillier-1024"}


@dataclass(frozen=True, kw_only=True)
class PaillierScheme:
    """Paillier with moduli of one size.

    Raises:
        ParameterError: a size that is not listed.
    """

    key_bits: int = 3072

    def __post_init__(self) -> None:
        if self.key_bits not in SECURITY_BITS:
            raise ParameterError(
                f"there are no Paillier keys of {self.key_bits} bits here", hint="use keys of 3072 bits"
            )

    @property
    def name(self) -> str:
        """What both parties agree on; stands for every parameter."""
        return NAMES[self.key_bits]

    @property
    def description(self) -> str:
        """Scheme, size and security."""
        return f"Paillier, {self.key_bits}-bit modulus, {self.security_bits}-bit security"

    @property
    def security_bits(self) -> int:
        """Security of the modulus."""
        return SECURITY_BITS[self.key_bits]

    @property
    def public_key_bytes(self) -> int:
        """Exact size of the public key's message."""
        return public_key_bytes(self.key_bits)

    @property
    def randomiser_bits(self) -> int:
        """Bits of the exponent of a fresh encryption, twice what square-root attacks on it need.

        >>> PaillierScheme().randomiser_bits
        512
        """
        return 4 * self.security_bits

    def require_secure(self) -> None:
        """Refuse keys under 112 bits of security.

        Raises:
            InsecureParameterError: with the bits required and the bits estimated.
        """
        if self.security_bits < REQUIRED_SECURITY_BITS:
            raise InsecureParameterError(
                f"{self.name} gives about {self.security_bits} bits of security",
                bits_required=REQUIRED_SECURITY_BITS,
                bits_estimated=self.security_bits,
            )

    def plan(self, shape: ProductShape, *, required_spare_bits: int) -> PaillierPlan:
        """Cut one product into ciphertexts and blocks; it is exact, whatever is required.

        Raises:
            ParameterError: entries of P do not fit 64 bits, or one row of the answer does not fit a block.
        """
        del required_spare_bits
        return PaillierPlan(shape=shape, key_bits=self.key_bits, randomiser_bits=self.randomiser_bits)

    def key_holder(self, *, public_seed: Seed, randomness: Randomness, threads: int = 1) -> PaillierKeyHolder:
        """Make a key for one session.

        The public seed is not used: n can be made by its owner only, and whoever could choose h_s badly
        could choose n badly, which no seed prevents. Both are outside the semi-honest model.
        """
        del public_seed
        return PaillierKeyHolder(
            self.key_bits, randomiser_bits=self.randomiser_bits, randomness=randomness, threads=threads
        )

    def evaluator(self, *, public_key: bytes, public_seed: Seed, threads: int = 1) -> PaillierEvaluator:
        """Take the key holder's public key; for the public seed see `key_holder`.

        One thread does all the work: a product modulo n^2 takes microseconds, and two threads that took
        turns at the interpreter between them were slower than one.

        Raises:
            MalformedMessageError: it is not a public key of this size.
        """
        del public_seed, threads
        # Exponents for the widest multipliers and 2^32 rows of M: any product's fit.
        widest = self.randomiser_bits + 63 + 32 + 1 + STATISTICAL_BITS
        return PaillierEvaluator(self.key_bits, rerandomiser_bits=widest, public_key=public_key)


STANDARD: Final = PaillierScheme()
LEGACY: Final = PaillierScheme(key_bits=2048)
TESTING_ONLY: Final = PaillierScheme(key_bits=1024)
"""Factored by anybody with patience: small enough for tests; refused by every connection."""
