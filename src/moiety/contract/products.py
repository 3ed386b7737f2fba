"""What the parties are called, and the products that a protocol computes under encryption.

Which of them a protocol has, over which matrices and under whose key, is said in its flow. Imported by the
contract and the protocols. Reference: section 5 of docs/design.md.
"""

from enum import Enum, IntEnum, auto
from typing import Final

from moiety.crypto.ring import ACTIVATION_MULTIPLIER_BITS, WORD_BITS

SESSION_BYTES: Final = 16


class Role(IntEnum):
    """Who sent a frame."""

    DATA_OWNER = 1
    LABEL_OWNER = 2

    @property
    def peer(self) -> "Role":
        """The other party."""
        return Role.LABEL_OWNER if self is Role.DATA_OWNER else Role.DATA_OWNER


class Product(Enum):
    """What a product under encryption gives: z, W's gradient, da, W_0, or W of the best epoch."""

    FORWARD = auto()
    UPDATE = auto()
    INPUT_GRADIENT = auto()
    INITIAL = auto()
    CHOICE = auto()


REVEALS_GRADIENTS: Final = (
    "this run shows the data owner one gradient for each training row: whoever keeps them can tell the labels"
)
"""What reveals = "gradients" means, for both sides' output."""


LIMBS: Final = WORD_BITS // (ACTIVATION_MULTIPLIER_BITS + 1)
"""Signed pieces of a ring integer that are no wider than an activation."""
