"""Going back to the best epoch of a training, without naming it where that is possible.

Both parties keep their shares of W at the end of every epoch, whatever the metric: the data owner all of
them, the label owner that of the best epoch so far. In `blind`, under the label owner's key:

    label owner -> data owner   CHOICE          Enc(s), s = 2^(16 i) at the limbs i of the best epoch, else 0
    data owner -> label owner   MASKED_CHOICE   masked P s, which is its share of W at that epoch

P holds the data owner's shares of all epochs, each cut into four signed limbs of 16 bits so that the product
fits the parameters of a training step. Both end with shares of that epoch's W_data: the data owner's is its
new share of W, the label owner adds its own to the share of W_label it kept. The data owner learns that the
training is over, and not which epoch was best. In `joint` and `acml` the label owner holds no key for it, or
a bottom model goes back as well: there CHOICE names the epoch, and nothing answers.

Reference: docs/adr/0018-splits-and-stopping.md. Shapes: D in_features, K out_features, E epochs, L limbs.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from moiety.contract.flow import Multiplication, octets, request, response
from moiety.contract.products import LIMBS, Product, Role
from moiety.crypto.ring import ACTIVATION_MULTIPLIER_BITS, WORD_BITS, RingArray
from moiety.crypto.secret import Secret
from moiety.errors import RemoteProtocolError
from moiety.protocol.messages import Kind

LIMB_BITS: Final = WORD_BITS // LIMBS
EPOCH_BYTES: Final = 4

SELECTION: Final = Multiplication(
    product=Product.CHOICE,
    plain=("DK", "LE"),
    encrypted=("LE", ""),
    multiplier_bits=ACTIVATION_MULTIPLIER_BITS,
    key_holder=Role.LABEL_OWNER,
)
HIDDEN_CHOICE: Final = (request(Kind.CHOICE, SELECTION), response(Kind.MASKED_CHOICE, SELECTION))
NAMED_CHOICE: Final = (octets(Kind.CHOICE, Role.LABEL_OWNER, EPOCH_BYTES),)


class Candidates(Secret):
    """The data owner's shares of W at the end of each epoch, until one is chosen."""

    def __init__(self) -> None:
        self._shares: list[RingArray] = []

    def keep(self, share_DK: RingArray) -> None:
        """Keep the share of the epoch that has just ended."""
        self._shares.append(share_DK)

    def __len__(self) -> int:
        """Return how many epochs have ended."""
        return len(self._shares)

    def __getitem__(self, epoch: int) -> RingArray:
        """Return the share of an epoch."""
        return self._shares[epoch]

    def matrix(self, *, epochs: int) -> NDArray[np.int16]:
        """Return P, int16 (D K, L E); epochs that never came are 0."""
        # Epochs that never came are 0 and not left out: the width of P would say how many there were.
        size = self._shares[0].size
        matrix = np.zeros((size, epochs, LIMBS), dtype=np.int16)
        for epoch, share_DK in enumerate(self._shares):
            matrix[:, epoch] = limbs_of(share_DK.reshape(-1))
        return matrix.reshape(size, epochs * LIMBS)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what a saved run needs to be resumed: the shares, (epochs ended, D, K)."""
        return {"candidates": np.stack(self._shares)} if self._shares else {}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take what `state` returned."""
        self._shares = [np.array(share_DK) for share_DK in state.get("candidates", ())]


def limbs_of(words_N: RingArray) -> NDArray[np.int16]:
    """Cut ring integers into signed limbs: word = sum over i of limb_i 2^(16 i) modulo 2^64.

    Returns:
        int16, shape (N, L).

    >>> limbs_of(np.array([2**64 - 1, 0x8000], dtype=np.uint64)).tolist()
    [[-1, 0, 0, 0], [-32768, 1, 0, 0]]
    """
    rest, limbs = words_N, []
    for _ in range(LIMBS):
        limb = rest.astype(np.uint16).view(np.int16)
        limbs.append(limb)
        rest = (rest - limb.astype(np.int64).view(np.uint64)) >> np.uint64(LIMB_BITS)
    return np.stack(limbs, axis=1)


def selector(epoch: int, *, epochs: int) -> RingArray:
    """Return s, uint64 (L E, 1), so that P s is the share of `epoch`."""
    chosen = np.zeros((epochs, LIMBS), dtype=np.uint64)
    chosen[epoch] = np.uint64(1) << (np.arange(LIMBS, dtype=np.uint64) * np.uint64(LIMB_BITS))
    return chosen.reshape(-1, 1)


def encode_epoch(epoch: int) -> bytes:
    """Encode the name of an epoch."""
    return epoch.to_bytes(EPOCH_BYTES, "little")


def decode_epoch(payload: bytes, *, ended: int) -> int:
    """Decode the name of one of the epochs that have ended.

    Raises:
        RemoteProtocolError: there is no such epoch.
    """
    epoch = int.from_bytes(payload, "little")
    if epoch >= ended:
        raise RemoteProtocolError(f"epoch {epoch} was chosen, and {ended} have ended")
    return epoch
