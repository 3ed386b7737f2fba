"""The cryptosystems by name: which parameters a run's products need, and who computes under them.

Imported by the contract. `paillier` is an extra and imported only when it is chosen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from moiety.config import SchemeName
from moiety.crypto.packing import PackingPlan, choose, plan
from moiety.crypto.parameters import ParameterSet, require_secure
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import ProductNeed, ProductShape, Scheme
from moiety.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RlweScheme:
    """BFV kept to additions and plaintext multiplications, under one parameter set."""

    parameters: ParameterSet

    @property
    def name(self) -> str:
        """The parameter set's name."""
        return self.parameters.name

    @property
    def description(self) -> str:
        """Name, modulus and degree."""
        bits = self.parameters.modulus.bit_length()
        return f"{self.name}, log2 q = {bits}, N = {self.parameters.degree}"

    @property
    def public_key_bytes(self) -> int:
        """One polynomial: pk1 is expanded from a seed that both know."""
        return self.parameters.polynomial_bytes

    def require_secure(self) -> None:
        """Refuse parameters under 128 bits of security.

        Raises:
            InsecureParameterError: with the bits required and the bits estimated.
        """
        require_secure(self.parameters)

    def plan(self, shape: ProductShape, *, required_spare_bits: int) -> PackingPlan:
        """Choose how the product lies in ciphertexts.

        Raises:
            ParameterError: the noise does not fit, or the kept dimension exceeds the degree.
        """
        return plan(self.parameters, shape, required_spare_bits=required_spare_bits)

    def key_holder(self, *, public_seed: Seed, randomness: Randomness, threads: int = 1) -> RlweKeyHolder:
        """Make a key for one session.

        One thread does all its work: a ciphertext takes a fraction of a millisecond, and two threads that
        met after each step of it took longer than one.
        """
        del threads
        return RlweKeyHolder(self.parameters, public_seed=public_seed, randomness=randomness)

    def evaluator(self, *, public_key: bytes, public_seed: Seed, threads: int = 1) -> RlweEvaluator:
        """Take the key holder's public key.

        Raises:
            MalformedMessageError: it is not one polynomial with residues in range.
        """
        return RlweEvaluator(
            self.parameters,
            public_key=public_key,
            public_seed=public_seed,
            map_function=partial(_map_in_threads, threads) if threads > 1 else map,
        )


def _map_in_threads(threads: int, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Compute several response blocks at once, in order: the kernel runs without the interpreter's lock."""
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, items)


def scheme_for(name: SchemeName, needs: Sequence[ProductNeed]) -> Scheme:
    """Return the scheme of that name with the cheapest parameters that hold every product.

    Raises:
        ParameterError: a product fits no listed parameters.
        ConfigError: the scheme's extra is not installed.
    """
    if name == "rlwe":
        return RlweScheme(parameters=choose(needs))
    return _paillier(legacy=name == "paillier-legacy")


def _paillier(*, legacy: bool) -> Scheme:
    try:
        from moiety.crypto.paillier import LEGACY, STANDARD  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            'scheme = "paillier" needs the library gmpy2',
            hint='install it with `pip install "moiety[paillier]"`',
        ) from error
    return LEGACY if legacy else STANDARD
