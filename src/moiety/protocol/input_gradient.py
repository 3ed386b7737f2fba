"""da = dz W^T for the data owner's bottom model: the product that both `joint` and `acml` add.

    data owner -> label owner   DATA_WEIGHTS                Enc(W_data^T), the data owner's key
    label owner -> data owner   MASKED_INPUT_GRADIENT,      masked dz'' W_data^T
                                SHARE_OF_INPUT_GRADIENT     mask share + dz'' W_label^T

The data owner adds up and has da x rows: one gradient for each row. From it the labels can be read
(measured: AUC 1.0), which is why a contract that computes it says `reveals = "gradients"`.
Shapes: N rows, D in_features, K out_features.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.contract.flow import Multiplication, Opened, Serves, When, request, response, words
from moiety.contract.products import Product, Role
from moiety.crypto.parameters import EXACT_SPARE_BITS
from moiety.crypto.ring import INPUT_GRADIENT_MULTIPLIER_BITS, RingArray, decode_input_gradient
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.machine import Matrices
from moiety.protocol.messages import Kind

DA: Final = Multiplication(
    product=Product.INPUT_GRADIENT,
    plain=("N", "K"),
    encrypted=("K", "D"),
    multiplier_bits=INPUT_GRADIENT_MULTIPLIER_BITS,
    key_holder=Role.DATA_OWNER,
    spare_bits=EXACT_SPARE_BITS,  # opened without dither: no entry may be off by one
)
DATA_WEIGHTS: Final = request(
    Kind.DATA_WEIGHTS, DA, when=When.BOTTOM, serves=Serves.EXCHANGE, says="own share of W"
)
INPUT_GRADIENT: Final = (
    response(Kind.MASKED_INPUT_GRADIENT, DA, when=When.BOTTOM),
    words(
        Kind.SHARE_OF_INPUT_GRADIENT,
        Role.LABEL_OWNER,
        ("N", "D"),
        when=When.BOTTOM,
        opens=Opened.INPUT_GRADIENT,
    ),
)


class TakesGradient(DataOwner):
    """A data owner that is shown da, and trains its bottom model by it."""

    _gradient_ND: NDArray[np.float64] | None = None

    def _matrices(self) -> Matrices:
        return super()._matrices() | {Kind.DATA_WEIGHTS: lambda: np.ascontiguousarray(self._share.T)}

    def _came(self) -> None:
        """Read da before anything is answered: one out of its range leaves the share as it was."""
        super()._came()
        if Kind.SHARE_OF_INPUT_GRADIENT in self._plain:
            share_ND = self._product(Product.INPUT_GRADIENT)
            other_ND = self._words(Kind.SHARE_OF_INPUT_GRADIENT, self._contract.in_features)
            self._gradient_ND = decode_input_gradient(share_ND + other_ND)

    def _learn(self) -> None:
        gradient_ND, self._gradient_ND = self._gradient_ND, None
        if gradient_ND is not None:
            self._features.backward(gradient_ND)


class ShowsGradient(LabelOwner):
    """A label owner that shows the data owner da.

    Leaks:
        da of every row of a training batch to the data owner: labels can be read from it.
    """

    def _matrices(self) -> Matrices:
        return super()._matrices() | {
            Kind.MASKED_INPUT_GRADIENT: lambda: self._input_NK,
            Kind.SHARE_OF_INPUT_GRADIENT: self._share_of_gradient,
        }

    def _share_of_gradient(self) -> RingArray:
        """Return the mask share + dz'' W_label^T: with the peer's share, that is da x rows."""
        return self._product(Product.INPUT_GRADIENT) + self._input_NK.view(np.uint64) @ self._share.T
