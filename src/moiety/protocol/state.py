"""What the machines of all protocols share: states, activations, the data owner's kept share, W_0."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from moiety.contract.schedule import RowIndices
from moiety.crypto.ring import WEIGHT_BITS, RingArray, encode
from moiety.crypto.sampling import Seed, expand_words
from moiety.crypto.secret import Secret
from moiety.errors import LocalProtocolError
from moiety.protocol.dither import RowDigests


class State(Enum):
    """Where a machine stands; every message is acceptable in one state only."""

    INITIAL = auto()
    START = auto()
    IDLE = auto()
    FORWARD = auto()
    OPEN = auto()
    UPDATE = auto()
    CHOICE = auto()
    CLOSED = auto()


class Activations(Protocol):
    """Where the data owner's activations come from: a table, or a bottom model over one."""

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[NDArray[np.int16], RowDigests]:
        """Return activations of 12 fractional bits, (rows, in_features), and the rows' digests."""
        ...

    def backward(self, gradient_ND: NDArray[np.float64]) -> None:
        """Take da of the last training batch, and train by it."""
        ...

    def go_back(self, epoch: int) -> None:
        """Return to what they were at the end of an epoch, where they change at all."""
        ...


@dataclass(frozen=True, kw_only=True)
class Features:
    """The data owner's prepared table: activations that never change.

    Args:
        activation_ND: int16 activations of 12 fractional bits, (rows, in_features).
        digest_N: content digests of the rows, from `dither.row_digests`.
    """

    activation_ND: NDArray[np.int16]
    digest_N: RowDigests

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[NDArray[np.int16], RowDigests]:  # noqa: ARG002
        """Return these rows' activations, (rows, in_features), and digests."""
        return self.activation_ND[rows], self.digest_N[rows]

    def backward(self, gradient_ND: NDArray[np.float64]) -> NoReturn:
        """Refuse: no contract asks for it."""
        del gradient_ND
        raise LocalProtocolError("a table cannot be trained")

    def go_back(self, epoch: int) -> None:
        """Do nothing: the activations never change."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DataOwnerState(Secret):
    """What the data owner keeps of the interactive layer between sessions.

    Args:
        share_DK: W_data.
        dither_key: keys rho; as long-lived as the share.
        updates: steps made.
    """

    share_DK: RingArray
    dither_key: Seed
    updates: int


def initial_weights(seed: Seed, *, in_features: int, out_features: int) -> RingArray:
    """Draw W_0 uniform in +-1 / sqrt(in_features), as `torch.nn.Linear` does, in ring integers."""
    words = expand_words(seed, b"initial weights", index=0, count=in_features * out_features)
    uniform = np.ldexp((words >> np.uint64(11)).astype(np.float64), -52) - 1.0
    scaled = uniform.reshape(in_features, out_features) / np.sqrt(in_features)
    return encode(scaled, scale_bits=WEIGHT_BITS)


def require_usable(state: State) -> None:
    """Refuse a machine that an error has closed.

    Raises:
        LocalProtocolError: it stopped earlier.
    """
    if state is State.CLOSED:
        raise LocalProtocolError("the protocol stopped at an earlier error", hint="start a new run")
