"""The handshake: terms, contract, public key.

    label owner -> data owner   HELLO       terms and nonce
    data owner -> label owner   HELLO       terms and nonce, the width of its table, its policy
    label owner -> data owner   PUBLIC_KEY  its public key; empty where it holds none
    data owner -> label owner   PUBLIC_KEY  its public key, where it holds one

The label owner sends its nonce first. pk1 comes from a hash over both nonces, so that no key holder can
choose it (the data owner, who answers, can at most try many: none of them is special).
The data owner answers even where the terms differ: then both sides name the difference. Pure state
machines; preparing the table between the two HELLOs is the caller's.
"""

from moiety.contract import (
    Contract,
    DataOwnerTerms,
    LabelOwnerTerms,
    decode_terms,
    encode_terms,
    require_equal,
)
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.errors import (
    ContractMismatchError,
    LocalProtocolError,
    MalformedMessageError,
    RemoteProtocolError,
)
from moiety.messages import Block, Kind, Role


class LabelOwnerHandshake:
    """Opens a session: proposes terms and checks the answer."""

    def __init__(self, terms: LabelOwnerTerms) -> None:
        self._terms = terms

    def hello(self) -> Block:
        """Return the opening message.

        Leaks:
            Row count, order digest and the proposed training: public by design.
        """
        return Block(kind=Kind.HELLO, step=0, payload=encode_terms(self._terms))

    def receive(self, block: Block) -> Contract:
        """Take the data owner's answer.

        Raises:
            ContractMismatchError: the parties differ in a field.
            PolicyError: the data owner's policy does not cover the run.
        """
        answer = decode_terms(_hello_payload(block), DataOwnerTerms)
        return _agree(self._terms, answer, own=self._terms, peer=answer)


class DataOwnerHandshake:
    """Answers a proposal with its own terms."""

    def __init__(self) -> None:
        self._proposal: LabelOwnerTerms | None = None

    def receive(self, block: Block) -> LabelOwnerTerms:
        """Take the label owner's proposal; nothing is compared yet, so that an answer can be sent."""
        self._proposal = decode_terms(_hello_payload(block), LabelOwnerTerms)
        return self._proposal

    def answer(self, terms: DataOwnerTerms) -> Block:
        """Return the answering message.

        Leaks:
            Row count, order digest, the number of prepared columns and the policy: public by design.
        """
        return Block(kind=Kind.HELLO, step=0, payload=encode_terms(terms))

    def agree(self, terms: DataOwnerTerms) -> Contract:
        """Compare both sides' terms, after the answer was sent.

        Raises:
            ContractMismatchError: the parties differ in a field.
            PolicyError: the policy does not cover the run.
            LocalProtocolError: no proposal was received.
        """
        if self._proposal is None:
            raise LocalProtocolError("the handshake has not begun")
        return _agree(self._proposal, terms, own=terms, peer=self._proposal)


def make_keys(
    contract: Contract, role: Role, *, randomness: Randomness, threads: int = 1
) -> KeyHolder | None:
    """Make a party's key for this session; None where the protocol gives it none."""
    if role not in contract.schemes:
        return None
    seed = contract.public_seed(role)
    return contract.schemes[role].key_holder(public_seed=seed, randomness=randomness, threads=threads)


def public_key(keys: KeyHolder | None) -> Block:
    """Return the message that shows the public half of a key, empty where there is none."""
    return Block(kind=Kind.PUBLIC_KEY, step=0, payload=b"" if keys is None else keys.public_key())


def read_public_key(
    contract: Contract, key_holder: Role, block: Block, *, threads: int = 1
) -> Evaluator | None:
    """Take the peer's public key; None where the protocol gives it none.

    Raises:
        RemoteProtocolError: another message came.
        MalformedMessageError: it is not a public key of the agreed parameters.
    """
    if (block.kind, block.step, block.index, block.count) != (Kind.PUBLIC_KEY, 0, 0, 1):
        raise RemoteProtocolError(f"{block.kind.name} came where PUBLIC_KEY was due")
    scheme = contract.schemes.get(key_holder)
    size = 0 if scheme is None else scheme.public_key_bytes
    if len(block.payload) != size:
        raise MalformedMessageError(f"a public key of {len(block.payload)} bytes came instead of {size}")
    if scheme is None:
        return None
    seed = contract.public_seed(key_holder)
    return scheme.evaluator(public_key=block.payload, public_seed=seed, threads=threads)


def _hello_payload(block: Block) -> bytes:
    if (block.kind, block.step, block.index, block.count) != (Kind.HELLO, 0, 0, 1):
        raise RemoteProtocolError(
            f"{block.kind.name} of step {block.step}, block {block.index} of {block.count}, came where "
            "HELLO of step 0, block 0 of 1, was due"
        )
    return block.payload


def _agree(
    label_owner: LabelOwnerTerms,
    data_owner: DataOwnerTerms,
    *,
    own: LabelOwnerTerms | DataOwnerTerms,
    peer: LabelOwnerTerms | DataOwnerTerms,
) -> Contract:
    require_equal(own, peer)
    contract = Contract(label_owner=label_owner, data_owner=data_owner)
    contract.check()
    for scheme in contract.schemes.values():
        scheme.require_secure()
    if data_owner.parameters != contract.parameters:
        values = (contract.parameters, data_owner.parameters)
        left, right = values if own is label_owner else values[::-1]
        raise ContractMismatchError(field="parameters", own=left, peer=right)
    return contract
