"""The protocol `joint`: `blind` for z and the update, and da for a bottom model that is trained.

To the messages of `blind` it adds those of da (`input_gradient`): Enc(W_data^T) follows the data owner's
share of z, and both parts of da come before Enc(dz').

Nobody knows W_0: it is a product of a matrix of each party's, see `initial`. The data owner sees da, and with
W it could solve for dz exactly; the label owner sees z, and with W for the features.

Leaks: to the data owner, da of every training row, from which labels can be read (AUC 1.0 measured). To the
label owner, z, as in `blind`.
"""

from typing import Final

from moiety.contract.flow import Flow
from moiety.contract.products import Role
from moiety.protocol import blind
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner
from moiety.protocol.choice import NAMED_CHOICE
from moiety.protocol.initial import DrawsFactor, initial_product
from moiety.protocol.input_gradient import DATA_WEIGHTS, INPUT_GRADIENT, ShowsGradient, TakesGradient


class JointDataOwner(DrawsFactor, TakesGradient, BlindDataOwner):
    """`blind`'s evaluator, with a key of its own for da."""


class JointLabelOwner(DrawsFactor, ShowsGradient, BlindLabelOwner):
    """`blind`'s key holder, and the evaluator of da."""


FLOW: Final = Flow(
    opening=initial_product(Role.LABEL_OWNER),
    forward=(*blind.FORWARD, DATA_WEIGHTS),
    update=(*INPUT_GRADIENT, *blind.UPDATE),
    choice=NAMED_CHOICE,
    label_owner=JointLabelOwner,
    data_owner=JointDataOwner,
)
