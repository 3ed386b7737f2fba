"""What crosses between the parties and what they hold, in bytes, from what they agreed on alone.

The messages are those of the protocol's flow in their order, each with the exact sizes of its blocks; a
frame adds its header. What TLS and the transport add is not counted, nor does the session count it; nor are
the marks of checkpoints, two short frames each, the acknowledgements inside a message of many megabytes, one
header for each 8 MiB, and what a replaced connection carries again. Imported by the forecast. Reference:
docs/design.md, section 6.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from moiety.config import SplitBy
from moiety.contract.assignment import payload_sizes
from moiety.contract.contract import Contract
from moiety.contract.flow import WORD_BYTES, Send, Serves
from moiety.contract.products import Role
from moiety.contract.schedule import RowHandle, Split
from moiety.contract.terms import encode_terms
from moiety.crypto.packing import PackingPlan
from moiety.crypto.scheme import ProductPlan
from moiety.net.frame import HEADER_BYTES
from moiety.protocol.messages import Kind, Request, encode_request
from moiety.protocol.reuse import Reuse

_ANY_REQUEST: Final = Request(
    handle=RowHandle(split=Split.TRAIN, epoch=0, batch=0, rows=0), training=True, updates=0
)
Held = frozenset[Kind]
"""Messages of an exchange that its receiver has from an earlier one."""
NOTHING: Final[Held] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message.

    Args:
        kind: what it is.
        sender: who sends it.
        sizes: payload bytes of each of its blocks.
        kept: it is of use to its receiver beyond the answer to it.
    """

    kind: Kind
    sender: Role
    sizes: tuple[int, ...]
    kept: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of its frames, headers included."""
        return sum(self.sizes) + HEADER_BYTES * len(self.sizes)


def sent_by(role: Role, messages: Iterable[Message]) -> int:
    """Add up the bytes of a party's frames."""
    return sum(each.bytes for each in messages if each.sender is role)


def round_trips(messages: Iterable[Message]) -> int:
    """Count how often the label owner waits for the data owner: runs of messages that it sends."""
    return sum(sender is Role.DATA_OWNER for sender, _ in _turns(messages))


def opening(contract: Contract) -> list[Message]:
    """Return what crosses before the first request: the terms, the public keys, W_0."""
    label_owner, data_owner = Role.LABEL_OWNER, Role.DATA_OWNER
    hellos = [
        _message(Kind.HELLO, label_owner, [len(encode_terms(contract.label_owner))]),
        *_assignment(contract, "label-owner", label_owner),
        _message(Kind.HELLO, data_owner, [len(encode_terms(contract.data_owner))]),
        *_assignment(contract, "data-owner", data_owner),
    ]
    keys = [_message(Kind.PUBLIC_KEY, label_owner, [_key_bytes(contract, label_owner)])]
    if data_owner in contract.schemes:
        keys.append(_message(Kind.PUBLIC_KEY, data_owner, [_key_bytes(contract, data_owner)]))
    return [*hellos, *keys, *_messages(contract, contract.flow.opening)]


def going_back(contract: Contract) -> list[Message]:
    """Return what the choice of the best epoch takes, before the test: nothing where the last is kept."""
    return _messages(contract, contract.flow.choice) if contract.keeps_best else []


def finish() -> list[Message]:
    """Return what ends a run: three empty messages."""
    return [
        _message(Kind.FINISH, Role.LABEL_OWNER, [0]),
        _message(Kind.FINISH, Role.DATA_OWNER, [0]),
        _message(Kind.ACKNOWLEDGE, Role.LABEL_OWNER, [0]),
    ]


class Course:
    """Follows a run from batch to batch, and with it what a receiver has and need not be sent again."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._updates = 0
        self._reuse = Reuse(contract)

    def one_pass(self, split: Split) -> Iterator[tuple[int, Held]]:
        """Yield the batches of the next pass over a split: rows, and which messages do not cross again."""
        # Later epochs have batches of the same sizes; in another order only where the order does not matter.
        for handle in self._contract.schedule.batches(split, epoch=0):
            training = split is Split.TRAIN
            sends = _exchange(self._contract, training=training)
            yield handle.rows, frozenset(send.kind for send in sends if self._has(send, handle))
            self._updates += training

    def go_back(self) -> None:
        """Note that W is another epoch's now, where the best one is kept."""
        if self._contract.keeps_best:
            self._reuse.weights_replaced()

    def _has(self, send: Send, handle: RowHandle) -> bool:
        part = (handle.split, handle.batch)
        return self._reuse.has(send, part, rows=handle.rows, updates=self._updates)


def exchange(
    contract: Contract, rows: int, *, training: bool, held: Collection[Kind] = NOTHING
) -> list[Message]:
    """Return what crosses for one batch.

    Args:
        contract: what was agreed.
        rows: of the batch.
        training: an update follows; otherwise forward only.
        held: messages that their receiver has from before.
    """
    asks = _message(Kind.REQUEST, Role.LABEL_OWNER, [len(encode_request(_ANY_REQUEST))])
    sends = [send for send in _exchange(contract, training=training) if send.kind not in held]
    return [asks, *_messages(contract, sends, rows=rows)]


def reusable(contract: Contract) -> Held:
    """Return the messages of a training step that cross once a session."""
    if not contract.reuses_activations:
        return NOTHING
    return frozenset(send.kind for send in contract.flow.steps if send.serves is Serves.ACTIVATIONS)


def memory(contract: Contract, role: Role, messages: Sequence[Message], *, rows: int) -> int:
    """Bytes of ciphertexts and shares that a party holds at once, at most, in one exchange.

    What it keeps for the evaluation, what else waits for its last block, what is prepared for the next
    message, and at the evaluator one request expanded to words, with the multipliers and the sums of one
    response block.
    """
    received = [turn for sender, turn in _turns(messages) if sender is not role]
    kept = sum(sum(each.sizes) for turn in received for each in turn if each.kept)
    waiting = max((sum(sum(each.sizes) for each in turn if not each.kept) for turn in received), default=0)
    plans: dict[bool, list[ProductPlan]] = {True: [], False: []}
    for product, of in contract.multiplications.items():
        plans[of.key_holder is role].append(contract.plan(product, rows))
    prepared = max((prepared_bytes(plan) for plan in plans[True]), default=0)
    evaluated = max((evaluator_bytes(plan) for plan in plans[False]), default=0)
    return kept + waiting + prepared + evaluated


def prepared_bytes(plan: ProductPlan) -> int:
    """Bytes of the encryptions of zero that a key holder prepares for its next request."""
    if not isinstance(plan, PackingPlan):
        return 0
    return WORD_BYTES * plan.requests * len(plan.parameters.primes) * plan.parameters.degree


def evaluator_bytes(plan: ProductPlan) -> int:
    """Bytes that an evaluator works in, beside the blocks that came.

    The ciphertexts as words; the multipliers of one response block as integers, twice while they are laid
    out, and as residues; its sums; its answer, in parts and joined; and the encryptions of zero prepared for
    all answers. What the threads have in hand, a few megabytes, is not counted.
    """
    answer = 2 * max(plan.response_sizes)
    if not isinstance(plan, PackingPlan):
        return answer
    primes, responses = len(plan.parameters.primes), len(plan.response_ranges[0])
    multipliers = responses * plan.requests * plan.column_length * (2 + primes)
    sums = responses * 2 * primes * plan.parameters.degree
    zeros = plan.responses * (2 * primes + 1) * plan.parameters.degree
    return answer + expanded_bytes(plan) + WORD_BYTES * (multipliers + sums + zeros)


def expanded_bytes(plan: PackingPlan) -> int:
    """Bytes of a request once both polynomials of each ciphertext are words."""
    return WORD_BYTES * plan.requests * 2 * len(plan.parameters.primes) * plan.parameters.degree


def _turns(messages: Iterable[Message]) -> list[tuple[Role, list[Message]]]:
    return [(sender, list(turn)) for sender, turn in groupby(messages, key=lambda each: each.sender)]


def _message(kind: Kind, sender: Role, sizes: Sequence[int]) -> Message:
    return Message(kind=kind, sender=sender, sizes=tuple(sizes))


def _exchange(contract: Contract, *, training: bool) -> Iterator[Send]:
    return contract.flow.exchange(training=training, bottom=contract.trains_bottom)


def _messages(contract: Contract, sends: Iterable[Send], *, rows: int = 0) -> list[Message]:
    return [
        Message(
            kind=send.kind,
            sender=send.sender,
            sizes=send.sizes(contract, rows),
            kept=send.serves is not Serves.ANSWER,
        )
        for send in sends
    ]


def _assignment(contract: Contract, owner: SplitBy, sender: Role) -> list[Message]:
    if contract.assignment is None or contract.label_owner.split != owner:
        return []
    return [_message(Kind.ASSIGNMENT, sender, payload_sizes(contract.label_owner.rows))]


def _key_bytes(contract: Contract, role: Role) -> int:
    scheme = contract.schemes.get(role)
    return 0 if scheme is None else scheme.public_key_bytes
