"""The handshake: terms, contract, public key.

    label owner -> data owner   HELLO       terms and nonce
    data owner -> label owner   HELLO       terms and nonce, the width of its table, its policy
    either side, if its column splits the rows: ASSIGNMENT after its HELLO
    label owner -> data owner   PUBLIC_KEY  its public key; empty where it holds none
    data owner -> label owner   PUBLIC_KEY  its public key, where it holds one

The label owner sends its nonce first. pk1 comes from a hash over both nonces, so that no key holder can
choose it (the data owner, who answers, can at most try many: none of them is special).
The data owner answers even where the terms differ: then both sides name the difference. Pure state
machines; preparing the table between the two HELLOs is the caller's.
"""

from collections.abc import Iterator

from moiety.config import SplitBy
from moiety.contract.assignment import Assignment, payload_sizes
from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.terms import (
    Assigned,
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
from moiety.protocol.messages import Block, Kind
from moiety.protocol.product import Collector, blocks_of


class ExpectedAssignment:
    """Takes the assignment that the peer stated.

    Args:
        stated: its digest and counts, from the peer's terms.
        rows: of both tables.

    Raises:
        RemoteProtocolError: the peer stated none.
    """

    def __init__(self, stated: Assigned | None, *, rows: int) -> None:
        if stated is None:
            raise RemoteProtocolError("the peer's column decides the split, and it states no assignment")
        self._stated = stated
        self._rows = rows
        self._blocks = Collector(Kind.ASSIGNMENT, step=0, sizes=payload_sizes(rows))

    def receive(self, block: Block) -> Assignment | None:
        """Take a block; return the assignment once it is complete.

        Raises:
            RemoteProtocolError: the block is not expected, or the whole is not what was stated.
            MalformedMessageError: a size or a row's split is not possible.
        """
        if not self._blocks.receive(block):
            return None
        assignment = Assignment.from_payloads(self._blocks.payloads, rows=self._rows)
        if Assigned.of(assignment) != self._stated:
            raise RemoteProtocolError("the assignment of rows to splits is not the one that was stated")
        if not self._stated.training:
            raise RemoteProtocolError("the assignment of rows to splits leaves no training rows")
        return assignment


def assignment_blocks(assignment: Assignment) -> Iterator[Block]:
    """Send an assignment.

    Leaks:
        Which rows lie in which period of the own column: what reveals = "periods" says.
    """
    payloads = assignment.payloads()
    return blocks_of(Kind.ASSIGNMENT, payloads, step=0, count=len(payloads))


class LabelOwnerHandshake:
    """Opens a session: proposes terms and checks the answer.

    Args:
        terms: the proposal.
        assignment: of rows to splits, where a column of the label owner's decides it.
    """

    def __init__(self, terms: LabelOwnerTerms, *, assignment: Assignment | None = None) -> None:
        self._terms = terms
        self._assignment = assignment
        self._answer: DataOwnerTerms | None = None
        self._expected: ExpectedAssignment | None = None

    def opening(self) -> Iterator[Block]:
        """Return everything that opens a session: HELLO, and the assignment where this side has one.

        Leaks:
            As `hello`; which rows are in which split, where a column of the label owner's decides it.
        """
        yield self.hello()
        if self._assignment is not None:
            yield from assignment_blocks(self._assignment)

    def hello(self) -> Block:
        """Return the opening message.

        Leaks:
            Row count, order digest and the proposed training: public by design.
        """
        return Block(kind=Kind.HELLO, step=0, payload=encode_terms(self._terms))

    def receive(self, block: Block) -> Contract | None:
        """Take a block of the data owner's answer; return the contract once nothing more is expected.

        Raises:
            ContractMismatchError: the parties differ in a field.
            PolicyError: the data owner's policy does not cover the run.
            RemoteProtocolError: the block is not expected.
        """
        if self._expected is not None:
            return self._agreed(self._expected.receive(block))
        self._answer = decode_terms(_hello_payload(block), DataOwnerTerms)
        require_equal(self._terms, self._answer)
        if self._terms.split == "data-owner":
            self._expected = ExpectedAssignment(self._answer.assigned, rows=self._terms.rows)
            return None
        return self._agreed(self._assignment)

    def _agreed(self, assignment: Assignment | None) -> Contract | None:
        assert self._answer is not None
        if assignment is None and self._expected is not None:
            return None
        return _agree(self._terms, self._answer, own=self._terms, peer=self._answer, assignment=assignment)


class DataOwnerHandshake:
    """Answers a proposal with its own terms.

    Args:
        split: who says which rows are in which split in a training, by this side's run file.
        rows: of this side's table.
    """

    def __init__(self, *, split: SplitBy = "drawn", rows: int = 0) -> None:
        self._split = split
        self._rows = rows
        self._proposal: LabelOwnerTerms | None = None
        self._expected: ExpectedAssignment | None = None
        self.assignment: Assignment | None = None

    def receive(self, block: Block) -> LabelOwnerTerms | None:
        """Take a block of the label owner's proposal; return it once nothing more is expected.

        Nothing is compared yet, so that an answer can be sent; an assignment is waited for only where this
        side wants one, for a table as long as its own.

        Raises:
            RemoteProtocolError: the block is not expected.
        """
        if self._expected is not None:
            self.assignment = self._expected.receive(block)
            return None if self.assignment is None else self._proposal
        self._proposal = decode_terms(_hello_payload(block), LabelOwnerTerms)
        wanted = self._proposal.split == self._split == "label-owner"
        if wanted and self._proposal.rows == self._rows:
            self._expected = ExpectedAssignment(self._proposal.assigned, rows=self._rows)
            return None
        return self._proposal

    def answer(self, terms: DataOwnerTerms) -> Block:
        """Return the answering message.

        Leaks:
            Row count, order digest, the number of prepared columns and the policy: public by design.
        """
        return Block(kind=Kind.HELLO, step=0, payload=encode_terms(terms))

    def agree(self, terms: DataOwnerTerms, *, assignment: Assignment | None = None) -> Contract:
        """Compare both sides' terms, after the answer was sent.

        Raises:
            ContractMismatchError: the parties differ in a field.
            PolicyError: the policy does not cover the run.
            LocalProtocolError: no proposal was received.
        """
        if self._proposal is None:
            raise LocalProtocolError("the handshake has not begun")
        known = self.assignment if assignment is None else assignment
        return _agree(self._proposal, terms, own=terms, peer=self._proposal, assignment=known)


def make_keys(
    contract: Contract, role: Role, *, randomness: Randomness, threads: int = 1
) -> KeyHolder | None:
    """Make a party's key for this session; None where the protocol gives it none."""
    if role not in contract.schemes:
        return None
    seed = contract.public_seed(role)
    return contract.schemes[role].key_holder(public_seed=seed, randomness=randomness, threads=threads)


def public_key(keys: KeyHolder | None) -> Block:
    """Return the message that shows the public part of a key, empty where there is none."""
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
        raise RemoteProtocolError(f"{block.kind.name} came where PUBLIC_KEY was expected")
    scheme = contract.schemes.get(key_holder)
    size = 0 if scheme is None else scheme.public_key_bytes
    # Measured before it is read: the scheme's own checks cost a transform, and a peer may send anything.
    if len(block.payload) != size:
        raise MalformedMessageError(f"a public key of {len(block.payload)} bytes came instead of {size}")
    if scheme is None:
        return None
    # From both nonces, the data owner's drawn last: the key holder cannot choose pk1 (ADR 0014).
    seed = contract.public_seed(key_holder)
    return scheme.evaluator(public_key=block.payload, public_seed=seed, threads=threads)


def _hello_payload(block: Block) -> bytes:
    if (block.kind, block.step, block.index, block.count) != (Kind.HELLO, 0, 0, 1):
        raise RemoteProtocolError(
            f"{block.kind.name} of step {block.step}, block {block.index} of {block.count}, came where "
            "HELLO of step 0, block 0 of 1, was expected"
        )
    return block.payload


def _agree(
    label_owner: LabelOwnerTerms,
    data_owner: DataOwnerTerms,
    *,
    own: LabelOwnerTerms | DataOwnerTerms,
    peer: LabelOwnerTerms | DataOwnerTerms,
    assignment: Assignment | None,
) -> Contract:
    require_equal(own, peer)
    contract = Contract(label_owner=label_owner, data_owner=data_owner, assignment=assignment)
    contract.check()
    for scheme in contract.schemes.values():
        scheme.require_secure()
    if data_owner.parameters != contract.parameters:
        values = (contract.parameters, data_owner.parameters)
        left, right = values if own is label_owner else values[::-1]
        raise ContractMismatchError(field="parameters", own=left, peer=right)
    return contract
