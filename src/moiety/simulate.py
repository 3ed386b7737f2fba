"""Both roles of `blind` in one process: the specification, the test oracle, and the first file to read.

    handshake      the label owner proposes, the data owner answers, both have one contract
    initial share  the data owner draws W_0 and sends W_0 minus a uniform mask
    step           z goes to the label owner, dz' comes back encrypted, both shares move

Nothing here is network, disk or clock; every block passes through the functions below.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from moiety.contract import Contract, DataOwnerTerms, LabelOwnerTerms
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Randomness
from moiety.messages import Block
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner, Features
from moiety.protocol.handshake import DataOwnerHandshake, LabelOwnerHandshake
from moiety.ring import Z_BITS, RingArray, decode
from moiety.schedule import RowHandle, RowIndices

Observer = Callable[[Block], None]


def _unobserved(block: Block) -> None:
    """See nothing."""


def handshake(label_terms: LabelOwnerTerms, data_terms: DataOwnerTerms) -> Contract:
    """Let both sides state their terms; each comes to the same contract."""
    label_owner, data_owner = LabelOwnerHandshake(label_terms), DataOwnerHandshake()
    data_owner.receive(label_owner.hello())
    contract = label_owner.receive(data_owner.answer(data_terms))
    assert contract == data_owner.agree(data_terms)
    return contract


class Pair:
    """A label owner and a data owner, joined by nothing but the blocks they exchange.

    Args:
        contract: what they agreed on.
        features: the data owner's prepared table.
        randomness: both parties' source of seeds.
        charge: the data owner's counting of released z.
        observe: sees every block in either direction.
    """

    def __init__(
        self,
        contract: Contract,
        features: Features,
        *,
        randomness: Randomness,
        charge: Callable[[RowIndices], None] = lambda _: None,
        observe: Observer = _unobserved,
    ) -> None:
        self._observe = observe
        keys = RlweKeyHolder(contract.parameters, public_seed=contract.public_seed, randomness=randomness)
        evaluator = RlweEvaluator(
            contract.parameters, public_key=keys.public_key(), public_seed=contract.public_seed
        )
        self.label_owner = BlindLabelOwner(contract, keys=keys, randomness=randomness)
        self.data_owner = BlindDataOwner(
            contract,
            evaluator=evaluator,
            features=features,
            state=None,
            charge=charge,
            randomness=randomness,
        )
        self.weight_seed = randomness.seed()
        self._to_label_owner(self.data_owner.open(self.weight_seed))

    def forward(self, handle: RowHandle, *, training: bool) -> NDArray[np.float64]:
        """Release z of a batch to the label owner: float64 (rows, out_features)."""
        self._to_data_owner(self.label_owner.request(handle, training=training))
        return decode(self.label_owner.z(), scale_bits=Z_BITS)

    def update(self, scaled_NK: RingArray) -> None:
        """Move both shares of W by -x^T dz'."""
        self._to_data_owner(self.label_owner.update(scaled_NK))

    def weights(self) -> RingArray:
        """Add the shares up, which neither party can: uint64 (in_features, out_features)."""
        return self.label_owner.share + self.data_owner.state().share_DK

    def _to_data_owner(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._observe(block)
            self._to_label_owner(self.data_owner.receive(block))

    def _to_label_owner(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._observe(block)
            self.label_owner.receive(block)
