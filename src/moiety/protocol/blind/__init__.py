"""The protocol `blind`: the key is the label owner's, and the data owner learns nothing.

One step for a batch x of N rows, with W = W_data + W_label:

    label owner -> data owner   REQUEST, WEIGHTS         Enc(W_label)
    data owner -> label owner   MASKED_Z, SHARE_OF_Z     masked x W_label; mask share + x W_data + rho
        the label owner adds up and has z, dithered by rho
    label owner -> data owner   GRADIENTS                Enc(dz')
    data owner -> label owner   MASKED_UPDATE            masked x^T dz'
        both subtract their shares from W

Forward only is the first half. Before the first step the data owner draws W_0 and sends W_0 minus a
uniform mask: the label owner must not know W_0, and the data owner may.

What the data owner sees are ciphertexts and requests that follow a schedule: simulatable from what is
public. What the label owner sees is z, and that leaks features: see `policy` and SECURITY.md. Pure state
machines, one class per role; randomness is an argument. Shapes: N rows, D in_features, K out_features.
"""

from moiety.protocol.blind.data_owner import BlindDataOwner
from moiety.protocol.blind.label_owner import BlindLabelOwner
from moiety.protocol.blind.state import DataOwnerState, Features, State, initial_weights

__all__ = [
    "BlindDataOwner",
    "BlindLabelOwner",
    "DataOwnerState",
    "Features",
    "State",
    "initial_weights",
]
