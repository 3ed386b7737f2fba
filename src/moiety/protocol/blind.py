"""The protocol `blind`: the key is the label owner's, and the data owner learns nothing.

`OPENING`, `FORWARD` and `UPDATE` below are its messages for a batch x of N rows, with W = W_data + W_label.
After the forward part the label owner adds up and has z, dithered by rho; after the update both subtract
their shares from W. Before the first step the data owner draws W_0 and sends W_0 minus a uniform mask: the
label owner must not know W_0, and the data owner may.

What the data owner sees are ciphertexts and requests that follow a schedule: simulatable from what is
public. What the label owner sees is z, and that leaks features: see `policy` and SECURITY.md. Pure state
machines, one class per role; randomness is an argument. Shapes: N rows, D in_features, K out_features.
"""

from typing import Final

import numpy as np

from moiety.contract.flow import Flow, Multiplication, Opened, Serves, request, response, words
from moiety.contract.products import Product, Role
from moiety.crypto.ring import ACTIVATION_MULTIPLIER_BITS, RingArray
from moiety.crypto.sampling import expand_words
from moiety.protocol.choice import HIDDEN_CHOICE
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.machine import Matrices
from moiety.protocol.messages import Kind
from moiety.protocol.state import State, initial_weights

Z: Final = Multiplication(
    product=Product.FORWARD,
    plain=("N", "D"),
    encrypted=("D", "K"),
    multiplier_bits=ACTIVATION_MULTIPLIER_BITS,
    key_holder=Role.LABEL_OWNER,
)
WEIGHT_GRADIENT: Final = Multiplication(
    product=Product.UPDATE,
    plain=("D", "N"),
    encrypted=("N", "K"),
    multiplier_bits=ACTIVATION_MULTIPLIER_BITS,
    key_holder=Role.LABEL_OWNER,
)

OPENING: Final = (
    words(Kind.INITIAL_SHARE, Role.DATA_OWNER, ("D", "K")),  # W_0 - mask
)
FORWARD: Final = (
    request(Kind.WEIGHTS, Z, serves=Serves.WEIGHTS, says="share of W"),  # Enc(W_label)
    response(Kind.MASKED_Z, Z),  # x W_label, masked
    words(Kind.SHARE_OF_Z, Role.DATA_OWNER, ("N", "K"), opens=Opened.Z),  # mask share + x W_data + rho
)
UPDATE: Final = (
    request(Kind.GRADIENTS, WEIGHT_GRADIENT, says="scaled gradients"),  # Enc(dz')
    response(Kind.MASKED_UPDATE, WEIGHT_GRADIENT),  # x^T dz', masked
)


class BlindDataOwner(DataOwner):
    """The evaluator: multiplies ciphertexts by its features, and never decrypts anything."""

    def _matrices(self) -> Matrices:
        return super()._matrices() | {
            Kind.INITIAL_SHARE: self._masked_initial,
            Kind.MASKED_Z: lambda: self._activation_ND,
            Kind.SHARE_OF_Z: lambda: self._share_of_z(self._product(Product.FORWARD)),
            Kind.MASKED_UPDATE: lambda: np.ascontiguousarray(self._activation_ND.T),
        }

    def _masked_initial(self) -> RingArray:
        """Draw W_0, keep a uniform mask as own share and return the difference."""
        shape = (self._contract.in_features, self._contract.out_features)
        weights_DK = initial_weights(self._own_weight_seed, in_features=shape[0], out_features=shape[1])
        drawn = expand_words(self._randomness.seed(), b"initial mask", index=0, count=shape[0] * shape[1])
        self._mask_DK = drawn.reshape(shape)
        return weights_DK - self._mask_DK

    def _initial(self) -> RingArray:
        return self._mask_DK

    def _moved(self) -> RingArray:
        return self._share - self._product(Product.UPDATE)

    def prepare(self) -> None:
        """Prepare the answer to the gradients that are expected, else to a next batch of as many rows."""
        product = Product.UPDATE if self._state is State.UPDATE else Product.FORWARD
        if self._state is not State.CLOSED and self._request is not None:
            self._evaluator.prepare(plan=self._plan(product), randomness=self._randomness)

    _mask_DK: RingArray


class BlindLabelOwner(LabelOwner):
    """The key holder: asks for z, and encrypts its share of W and the scaled gradients."""

    def _matrices(self) -> Matrices:
        return super()._matrices() | {
            Kind.WEIGHTS: lambda: self._share,
            Kind.GRADIENTS: lambda: self._scaled_NK,
        }

    def _initial(self) -> RingArray:
        return self._words(Kind.INITIAL_SHARE, self._contract.out_features)

    def _opened_z(self) -> RingArray:
        share_NK = self._product(Product.FORWARD)
        return share_NK + self._words(Kind.SHARE_OF_Z, self._contract.out_features)

    def _moved(self) -> RingArray:
        return self._share - self._product(Product.UPDATE)

    def prepare(self) -> None:
        """Prepare the gradients while z is awaited, and the next batch's weights while the update is."""
        if self._request is None or not self._request.training:
            return
        product = {State.FORWARD: Product.UPDATE, State.UPDATE: Product.FORWARD}.get(self._state)
        if product is not None:
            self._keys.prepare(plan=self._plan(product), randomness=self._randomness)


FLOW: Final = Flow(
    opening=OPENING,
    forward=FORWARD,
    update=UPDATE,
    choice=HIDDEN_CHOICE,
    label_owner=BlindLabelOwner,
    data_owner=BlindDataOwner,
)
