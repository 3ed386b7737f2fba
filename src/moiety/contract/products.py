"""The products that a protocol computes under encryption: their shapes, and whose key they are under.

    product          computes      blind, joint: P, M                acml: P, M
    FORWARD          z             x, W_label            (label key)   W_label^T, x^T       (data key)
    UPDATE           W's gradient  x^T, dz'              (label key)   dz'^T, x             (data key)
    INPUT_GRADIENT   da            dz'', W_data^T        (data key)    dz'', W_data^T       (data key)
    INITIAL          W_0           L, R     (`joint`: label key)       L, R                 (data key)
    CHOICE           W_data        limbs, selector       (label key)   -

P is the evaluator's plain matrix, M the key holder's encrypted one; `acml` computes the transposes of z and
of the weight gradient. CHOICE takes one epoch's share out of all (`protocol.choice`), in `blind` only.
Imported by the contract. Reference: section 5 of docs/design.md.
"""

from enum import Enum, IntEnum, auto
from typing import Final

from moiety.config import ProtocolName
from moiety.crypto.parameters import DITHERED_SPARE_BITS, EXACT_SPARE_BITS
from moiety.crypto.ring import (
    ACTIVATION_BITS,
    ACTIVATION_MULTIPLIER_BITS,
    GRADIENT_MULTIPLIER_BITS,
    INPUT_GRADIENT_MULTIPLIER_BITS,
    SHARE_MULTIPLIER_BITS,
    WORD_BITS,
)
from moiety.crypto.scheme import ProductShape

SESSION_BYTES: Final = 16


class Role(IntEnum):
    """Who sent a frame."""

    DATA_OWNER = 1
    LABEL_OWNER = 2


class Product(Enum):
    """What a product under encryption gives."""

    FORWARD = auto()
    UPDATE = auto()
    INPUT_GRADIENT = auto()
    INITIAL = auto()
    CHOICE = auto()


SPARE_BITS: Final = {
    Product.FORWARD: DITHERED_SPARE_BITS,
    Product.UPDATE: DITHERED_SPARE_BITS,
    Product.INPUT_GRADIENT: EXACT_SPARE_BITS,
    Product.INITIAL: DITHERED_SPARE_BITS,
    Product.CHOICE: DITHERED_SPARE_BITS,
}
"""z is dithered and shares of W are never opened; da is opened exactly, at the data owner."""


REVEALS_GRADIENTS: Final = (
    "this run shows the data owner one gradient for each training row: whoever keeps them can tell the labels"
)
"""What reveals = "gradients" means, for both sides' output."""


LIMBS: Final = WORD_BITS // (ACTIVATION_MULTIPLIER_BITS + 1)
"""Signed pieces of a ring integer that are no wider than an activation."""


def products_of(
    protocol: ProtocolName, *, training: bool, trains_bottom: bool, hides_choice: bool = False
) -> tuple[Product, ...]:
    """Return the products of a session that trains, or predicts, with or without a bottom model.

    Args:
        protocol: the message flow.
        training: otherwise the session predicts.
        trains_bottom: da is computed.
        hides_choice: the best epoch's weights are chosen without naming the epoch.
    """
    products = [Product.FORWARD, Product.UPDATE]
    if trains_bottom:
        products.append(Product.INPUT_GRADIENT)
    if training and protocol != "blind":
        products.append(Product.INITIAL)
    if hides_choice:
        products.append(Product.CHOICE)
    return tuple(products)


def key_holder_of(protocol: ProtocolName, product: Product) -> Role:
    """Return whose key a product is under."""
    if protocol == "acml" or product is Product.INPUT_GRADIENT:
        return Role.DATA_OWNER
    return Role.LABEL_OWNER


def shape_of(
    protocol: ProtocolName,
    product: Product,
    *,
    rows: int,
    in_features: int,
    out_features: int,
    epochs: int = 1,
) -> ProductShape:
    """Return the shape of a product over a batch of `rows`."""
    if product is Product.CHOICE:
        sizes, bits = (in_features * out_features, LIMBS * epochs, 1), ACTIVATION_MULTIPLIER_BITS
    elif product is Product.INITIAL:
        sizes, bits = (in_features, in_features, out_features), ACTIVATION_BITS
    elif product is Product.INPUT_GRADIENT:
        sizes, bits = (rows, out_features, in_features), INPUT_GRADIENT_MULTIPLIER_BITS
    elif protocol == "acml" and product is Product.FORWARD:
        sizes, bits = (out_features, in_features, rows), SHARE_MULTIPLIER_BITS
    elif protocol == "acml":
        sizes, bits = (out_features, rows, in_features), GRADIENT_MULTIPLIER_BITS
    elif product is Product.FORWARD:
        sizes, bits = (rows, in_features, out_features), ACTIVATION_MULTIPLIER_BITS
    else:
        sizes, bits = (in_features, rows, out_features), ACTIVATION_MULTIPLIER_BITS
    n, d, k = sizes
    return ProductShape(rows=n, contraction=d, kept=k, multiplier_bits=bits)
