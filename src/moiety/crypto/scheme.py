"""The interface of a matrix encryption scheme: what protocols see, whatever lies behind it.

One operation, `product`: the key holder encrypts M, the evaluator multiplies from the left by a plain
matrix P of its own, and both end with additive shares of P M modulo 2^64. A product from the right is the
transpose of one from the left. Whoever holds the key is an argument of the protocol, not of the scheme.

Everything crosses as byte blocks that can be computed, sent and checked one by one. Shapes: N rows of P,
D contracted, K kept columns of M.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed

BLOCK_BYTES: Final = 4 * 2**20
"""No block is larger: the unit of computing, sending, storing and acknowledging."""

MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""How block work is spread: the built-in `map`, a thread pool's, later a cluster's; keeps the order."""


@dataclass(frozen=True, kw_only=True)
class ProductShape:
    """The shape of one product P M, and how large the entries of P are.

    Args:
        rows: N, rows of P and of the result.
        contraction: D, columns of P and rows of M.
        kept: K, columns of M and of the result.
        multiplier_bits: every entry of P is at most 2**multiplier_bits in magnitude; 63 holds any share.
    """

    rows: int
    contraction: int
    kept: int
    multiplier_bits: int


@dataclass(frozen=True, kw_only=True)
class ProductNeed:
    """A product that a run will compute, and how rarely it may be off by one unit.

    Args:
        shape: of the largest such product.
        spare_bits: a value may be off with probability 2**-spare_bits at most.
    """

    shape: ProductShape
    spare_bits: int


class ProductPlan(Protocol):
    """How one product is cut into blocks; both parties compute the same one from public shapes."""

    @property
    def shape(self) -> ProductShape:
        """The product planned for."""
        ...

    @property
    def request_sizes(self) -> Sequence[int]:
        """Bytes of each block from the key holder."""
        ...

    @property
    def response_sizes(self) -> Sequence[int]:
        """Bytes of each block from the evaluator."""
        ...

    @property
    def request_layout(self) -> tuple[int, ...]:
        """What the key holder's blocks depend on but M: plans that share it can share their requests."""
        ...

    @property
    def spare_bits(self) -> float:
        """An opened value is off by one unit with probability 2^-spare; infinite where it is exact."""
        ...


class KeyHolder(Protocol):
    """Encrypts its matrix and learns its share of the product."""

    def public_key(self) -> bytes:
        """Return what the evaluator needs to re-randomise; sent once a session."""
        ...

    def prepare(self, *, plan: Any, randomness: Randomness) -> None:
        """Compute ahead what the next request of this plan needs and does not depend on M."""
        ...

    def encrypt(self, matrix_DK: RingArray, *, plan: Any, randomness: Randomness) -> Iterator[bytes]:
        """Encrypt M, block by block.

        Leaks:
            Nothing to the evaluator but the shape (RLWE).
        """
        ...

    def decrypt(self, blocks: Sequence[bytes], *, plan: Any) -> RingArray:
        """Decrypt all response blocks to this side's share of P M, uint64 (rows, kept).

        Raises:
            MalformedMessageError: a block is not a ciphertext of the expected size.
        """
        ...


class Evaluator(Protocol):
    """Multiplies under encryption by its own matrix and learns its share of the product."""

    def prepare(self, *, plan: Any, randomness: Randomness) -> None:
        """Compute ahead what the next response of this plan needs and does not depend on P and M."""
        ...

    def respond(
        self,
        plain_ND: NDArray[np.int64] | NDArray[np.int16],
        blocks: Sequence[bytes],
        *,
        plan: Any,
        randomness: Randomness,
    ) -> Iterator[tuple[bytes, RingArray]]:
        """Yield each response block with the rows of this side's share that it covers.

        Raises:
            MalformedMessageError: a block is not a ciphertext of the expected size.

        Leaks:
            To the key holder, nothing but the shape: each response is re-randomised, and what would open
            it is kept as this side's share.
        """
        ...


class Scheme(Protocol):
    """A cryptosystem with its parameters: makes plans and both roles under a key."""

    @property
    def name(self) -> str:
        """What both parties agree on; stands for every parameter."""
        ...

    @property
    def description(self) -> str:
        """Name and sizes, for people."""
        ...

    @property
    def public_key_bytes(self) -> int:
        """Size of the public key's message."""
        ...

    def require_secure(self) -> None:
        """Refuse parameters that are not secure.

        Raises:
            InsecureParameterError: with the bits required and the bits estimated.
        """
        ...

    def plan(self, shape: ProductShape, *, required_spare_bits: int) -> ProductPlan:
        """Cut one product into blocks.

        Raises:
            ParameterError: the product does not fit these parameters.
        """
        ...

    def key_holder(self, *, public_seed: Seed, randomness: Randomness, threads: int = 1) -> KeyHolder:
        """Make a key for one session."""
        ...

    def evaluator(self, *, public_key: bytes, public_seed: Seed, threads: int = 1) -> Evaluator:
        """Take the key holder's public key.

        Raises:
            MalformedMessageError: it is not a public key of these parameters.
        """
        ...
