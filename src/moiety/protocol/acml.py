"""The protocol `acml`: the paper's message flow, every product under the data owner's key.

`FORWARD` and `UPDATE` below are its messages for a batch x of N rows, with W = W_data + W_label. After the
forward part the label owner adds up and has z, dithered by rho; after the update both subtract their shares
from W. Both products are the transposes of those of `blind`.

Activations that never change cross once a session: the label owner keeps them encrypted, and rows stay
together in the same batches. What the paper calls accumulated noise is the data owner's share of W: here
it starts as a random share, lives modulo 2^64 and never drifts; responses are re-randomised and masks are
uniform, or 60 bits wider than what they hide. Nobody knows W_0, see `initial`.

Leaks: to the data owner, da where the bottom model is trained: labels can be read from it. Also, the data
owner decrypts what the label owner made: one that deviates from the protocol can use the data owner's
reaction as an oracle for its key. To the label owner, z, as in `blind`.

Reference: arXiv:2007.06849, algorithms 1 and 2; what differs and why is in section 2 of docs/design.md.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.contract.flow import Flow, Multiplication, Opened, Serves, When, request, response, words
from moiety.contract.products import Product, Role
from moiety.crypto.ring import GRADIENT_MULTIPLIER_BITS, SHARE_MULTIPLIER_BITS, RingArray
from moiety.protocol.choice import NAMED_CHOICE
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.initial import DrawsFactor, initial_product
from moiety.protocol.input_gradient import DATA_WEIGHTS, INPUT_GRADIENT, ShowsGradient, TakesGradient
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.machine import Matrices
from moiety.protocol.messages import Kind

Z: Final = Multiplication(
    product=Product.FORWARD,
    plain=("K", "D"),
    encrypted=("D", "N"),
    multiplier_bits=SHARE_MULTIPLIER_BITS,
    key_holder=Role.DATA_OWNER,
)
WEIGHT_GRADIENT: Final = Multiplication(
    product=Product.UPDATE,
    plain=("K", "N"),
    encrypted=("N", "D"),
    multiplier_bits=GRADIENT_MULTIPLIER_BITS,
    key_holder=Role.DATA_OWNER,
)

FORWARD: Final = (
    request(  # Enc(x^T), contracted over features
        Kind.TRANSPOSED_ACTIVATIONS, Z, serves=Serves.ACTIVATIONS, says="activations"
    ),
    request(  # Enc(x), contracted over rows
        Kind.ACTIVATIONS,
        WEIGHT_GRADIENT,
        when=When.TRAINING,
        serves=Serves.ACTIVATIONS,
        says="activations",
    ),
    DATA_WEIGHTS,
    response(Kind.MASKED_Z, Z),  # W_label^T x^T, masked
    words(Kind.SHARE_OF_Z, Role.DATA_OWNER, ("N", "K"), opens=Opened.Z),  # its share + x W_data + rho
)
UPDATE: Final = (
    *INPUT_GRADIENT,
    response(Kind.MASKED_UPDATE, WEIGHT_GRADIENT),  # dz'^T x, masked
)


class AcmlDataOwner(DrawsFactor, TakesGradient, DataOwner):
    """The key holder: encrypts its activations, and decrypts shares of z and of the update."""

    def _matrices(self) -> Matrices:
        return super()._matrices() | {
            Kind.TRANSPOSED_ACTIVATIONS: lambda: _message(self._activation_ND.T),
            Kind.ACTIVATIONS: lambda: _message(self._activation_ND),
            Kind.SHARE_OF_Z: lambda: self._share_of_z(self._product(Product.FORWARD).T),
        }

    def _moved(self) -> RingArray:
        return self._share - self._product(Product.UPDATE).T


class AcmlLabelOwner(DrawsFactor, ShowsGradient, LabelOwner):
    """The evaluator: multiplies the data owner's encrypted activations by its share and by dz'."""

    def _matrices(self) -> Matrices:
        return super()._matrices() | {
            Kind.MASKED_Z: lambda: _multiplier(self._share.T),
            Kind.MASKED_UPDATE: lambda: _multiplier(self._scaled_NK.T),
        }

    def _opened_z(self) -> RingArray:
        share_NK = self._product(Product.FORWARD).T
        return share_NK + self._words(Kind.SHARE_OF_Z, self._contract.out_features)

    def _moved(self) -> RingArray:
        return self._share - self._product(Product.UPDATE).T


def _message(activation_ND: NDArray[np.int16]) -> RingArray:
    """Return activations as ring integers."""
    return np.ascontiguousarray(activation_ND, dtype=np.int64).view(np.uint64)


def _multiplier(words_KN: RingArray) -> NDArray[np.int64]:
    """Return ring integers as signed multipliers."""
    # A share is uniform, so its multiplier has 63 bits and a sign, whatever W is (ADR 0011).
    return np.ascontiguousarray(words_KN).view(np.int64)


FLOW: Final = Flow(
    opening=initial_product(Role.DATA_OWNER),
    forward=FORWARD,
    update=UPDATE,
    choice=NAMED_CHOICE,
    label_owner=AcmlLabelOwner,
    data_owner=AcmlDataOwner,
)
