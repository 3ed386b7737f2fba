"""Both roles of a protocol in one process: the specification, the test oracle, and the first file to read.

    handshake      the label owner proposes, the data owner answers, both have one contract
    keys           each party that holds one shows the other its public part
    initial share  of weights that the data owner knows (`blind`), or nobody
    step           z goes to the label owner, dz' comes back encrypted, both shares move
    choice         back to the best epoch, where the contract says so

Which messages these are is said by the protocol's flow: `protocol.blind.FLOW` first.
Nothing here is network, disk or clock; every block passes through the functions below.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.schedule import RowHandle
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms
from moiety.crypto.ring import Z_BITS, RingArray, decode
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.protocol.data_owner import Charge
from moiety.protocol.handshake import (
    DataOwnerHandshake,
    LabelOwnerHandshake,
    make_keys,
    public_key,
    read_public_key,
)
from moiety.protocol.messages import Block
from moiety.protocol.state import Activations


def handshake(label_terms: LabelOwnerTerms, data_terms: DataOwnerTerms) -> Contract:
    """Let both sides state their terms; each comes to the same contract."""
    label_owner, data_owner = LabelOwnerHandshake(label_terms), DataOwnerHandshake()
    data_owner.receive(label_owner.hello())
    contract = label_owner.receive(data_owner.answer(data_terms))
    assert contract is not None
    assert contract == data_owner.agree(data_terms)
    return contract


def make_halves(
    contract: Contract, key_holder: Role, *, randomness: Randomness
) -> tuple[KeyHolder | None, Evaluator | None]:
    """Make a party's key and what its peer computes with; nothing where it holds none."""
    keys = make_keys(contract, key_holder, randomness=randomness)
    return keys, read_public_key(contract, key_holder, public_key(keys))


class Pair:
    """A label owner and a data owner, joined by nothing but the blocks they exchange.

    Args:
        contract: what they agreed on.
        features: where the data owner's activations come from.
        randomness: both parties' source of seeds.
        charge: the data owner's counting of released z.
        observe: sees every block in either direction.
    """

    def __init__(
        self,
        contract: Contract,
        features: Activations,
        *,
        randomness: Randomness,
        charge: Charge = lambda *_: None,
        observe: Callable[[Block], None] = lambda _: None,
    ) -> None:
        self._observe = observe
        flow = contract.flow
        label_keys, data_evaluator = self._halves(contract, Role.LABEL_OWNER, randomness=randomness)
        data_keys, label_evaluator = self._halves(contract, Role.DATA_OWNER, randomness=randomness)
        self.label_weight_seed = None if flow.initial is None else randomness.seed()
        self.label_owner = flow.label_owner(
            contract,
            keys=label_keys,
            evaluator=label_evaluator,
            weight_seed=self.label_weight_seed,
            randomness=randomness,
        )
        self.data_owner = flow.data_owner(
            contract,
            keys=data_keys,
            evaluator=data_evaluator,
            features=features,
            state=None,
            charge=charge,
            randomness=randomness,
        )
        self.weight_seed = randomness.seed()
        self._to_label_owner(self.data_owner.open(self.weight_seed))
        self._to_data_owner(self.label_owner.start())

    def forward(self, handle: RowHandle, *, training: bool) -> NDArray[np.float64]:
        """Release z of a batch to the label owner: float64 (rows, out_features)."""
        self._to_data_owner(self.label_owner.request(handle, training=training))
        return decode(self.label_owner.z(), scale_bits=Z_BITS)

    def update(self, scaled_NK: RingArray, input_NK: NDArray[np.int64] | None = None) -> None:
        """Move both shares of W by -x^T dz', and show the data owner da where the contract says so."""
        self._to_data_owner(self.label_owner.update(scaled_NK, input_NK))

    def choose(self, epoch: int, share_DK: RingArray) -> None:
        """Go back to the end of an epoch, of which the label owner has its share."""
        self._to_data_owner(self.label_owner.choose(epoch, share_DK))

    def weights(self) -> RingArray:
        """Add the shares up, which neither party can: uint64 (in_features, out_features)."""
        return self.label_owner.share + self.data_owner.state().share_DK

    def _halves(
        self, contract: Contract, key_holder: Role, *, randomness: Randomness
    ) -> tuple[KeyHolder | None, Evaluator | None]:
        return make_halves(contract, key_holder, randomness=randomness)

    def _to_data_owner(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._observe(block)
            self._to_label_owner(list(self.data_owner.receive(block)))

    def _to_label_owner(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._observe(block)
            self._to_data_owner(list(self.label_owner.receive(block)))
