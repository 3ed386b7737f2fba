"""What crosses between the parties and what they hold, in bytes, from what they agreed on alone.

The messages are those of `protocol/blind.py`, `joint.py` and `acml.py` in their order, each with the exact
sizes of its blocks; a frame adds its header. What TLS and the transport add is not counted, nor does the
session count it; nor are the marks of checkpoints, two short frames each, the acknowledgements inside a
message of many megabytes, one header for each 8 MiB, and what a replaced connection carries again. Imported
by the forecast. Reference: docs/design.md, section 6.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from moiety.config import SplitBy
from moiety.contract.assignment import payload_sizes
from moiety.contract.contract import Contract
from moiety.contract.products import Product, Role, key_holder_of
from moiety.contract.schedule import RowHandle, Split
from moiety.contract.terms import encode_terms
from moiety.crypto.packing import PackingPlan
from moiety.crypto.scheme import ProductPlan
from moiety.net.frame import HEADER_BYTES
from moiety.protocol.blind import WeightsKey, weights_key
from moiety.protocol.choice import EPOCH_BYTES
from moiety.protocol.messages import Kind, Request, encode_request
from moiety.protocol.product import WORD_BYTES, matrix_sizes

_ANY_REQUEST: Final = Request(
    handle=RowHandle(split=Split.TRAIN, epoch=0, batch=0, rows=0), training=True, updates=0
)
_KEPT: Final = {Kind.WEIGHTS, Kind.DATA_WEIGHTS, Kind.TRANSPOSED_ACTIVATIONS, Kind.ACTIVATIONS}
PEER: Final = {Role.LABEL_OWNER: Role.DATA_OWNER, Role.DATA_OWNER: Role.LABEL_OWNER}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message.

    Args:
        kind: what it is.
        sender: who sends it.
        sizes: payload bytes of each of its blocks.
    """

    kind: Kind
    sender: Role
    sizes: tuple[int, ...]

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
    return [*hellos, *keys, *_initial(contract)]


def going_back(contract: Contract) -> list[Message]:
    """Return what the choice of the best epoch takes, before the test: nothing where the last is kept."""
    if not contract.keeps_best:
        return []
    if not contract.hides_choice:
        return [_message(Kind.CHOICE, Role.LABEL_OWNER, [EPOCH_BYTES])]
    plan = contract.plan(Product.CHOICE, 0)
    return [
        _message(Kind.CHOICE, Role.LABEL_OWNER, plan.request_sizes),
        _message(Kind.MASKED_CHOICE, Role.DATA_OWNER, plan.response_sizes),
    ]


def finish() -> list[Message]:
    """Return what ends a run: three empty messages."""
    return [
        _message(Kind.FINISH, Role.LABEL_OWNER, [0]),
        _message(Kind.FINISH, Role.DATA_OWNER, [0]),
        _message(Kind.ACKNOWLEDGE, Role.LABEL_OWNER, [0]),
    ]


class Course:
    """Follows a run from batch to batch, and with it what the evaluator has and need not be sent again.

    In `blind` and `joint` that is Enc(W_label) until the next update; in `acml`, activations that never
    change.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._updates = 0
        self._weights: WeightsKey | None = None
        self._passed: set[Split] = set()

    def one_pass(self, split: Split) -> Iterator[tuple[int, bool]]:
        """Yield the batches of the next pass over a split: rows, and whether the evaluator has its matrix."""
        # Later epochs have batches of the same sizes; in another order only where the order does not matter.
        for handle in self._contract.schedule.batches(split, epoch=0):
            yield handle.rows, self._has_matrix(handle.rows, split)
            self._updates += split is Split.TRAIN
        self._passed.add(split)

    def go_back(self) -> None:
        """Note that W is another epoch's now, where the best one is kept."""
        if self._contract.keeps_best:
            self._weights = None

    def _has_matrix(self, rows: int, split: Split) -> bool:
        if self._contract.label_owner.protocol == "acml":
            return self._contract.reuses_activations and split in self._passed
        held, self._weights = self._weights, weights_key(self._contract, rows, updates=self._updates)
        return held == self._weights


def exchange(contract: Contract, rows: int, *, training: bool, kept: bool = False) -> list[Message]:
    """Return what crosses for one batch.

    Args:
        contract: what was agreed.
        rows: of the batch.
        training: an update follows; otherwise forward only.
        kept: the evaluator has the encrypted matrix of z, and in `acml` that of the update, from before.
    """
    request = _message(Kind.REQUEST, Role.LABEL_OWNER, [len(encode_request(_ANY_REQUEST))])
    if contract.label_owner.protocol == "acml":
        return [request, *_acml(contract, rows, training=training, kept=kept)]
    return [request, *_blind_or_joint(contract, rows, training=training, kept=kept)]


def held(contract: Contract, role: Role, messages: Sequence[Message], *, rows: int) -> int:
    """Bytes of ciphertexts and shares that a party holds at once, at most, in one exchange.

    What it keeps for the evaluation, what else waits for its last block, what is prepared for the next
    message, and at the evaluator one request expanded to words, with the multipliers and the sums of one
    response block.
    """
    received = [(sender, turn) for sender, turn in _turns(messages) if sender is not role]
    kept = sum(sum(each.sizes) for _, turn in received for each in turn if each.kind in _KEPT)
    waiting = max(
        (sum(sum(each.sizes) for each in turn if each.kind not in _KEPT) for _, turn in received), default=0
    )
    plans: dict[bool, list[ProductPlan]] = {True: [], False: []}
    for product in contract.products:
        holds_key = key_holder_of(contract.label_owner.protocol, product) is role
        plans[holds_key].append(contract.plan(product, rows))
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


def _assignment(contract: Contract, owner: SplitBy, sender: Role) -> list[Message]:
    if contract.assignment is None or contract.label_owner.split != owner:
        return []
    return [_message(Kind.ASSIGNMENT, sender, payload_sizes(contract.label_owner.rows))]


def _key_bytes(contract: Contract, role: Role) -> int:
    scheme = contract.schemes.get(role)
    return 0 if scheme is None else scheme.public_key_bytes


def _initial(contract: Contract) -> list[Message]:
    protocol = contract.label_owner.protocol
    if protocol == "blind":
        sizes = matrix_sizes(contract.in_features, contract.out_features)
        return [_message(Kind.INITIAL_SHARE, Role.DATA_OWNER, sizes)]
    plan = contract.plan(Product.INITIAL, 0)
    holder = key_holder_of(protocol, Product.INITIAL)
    return [
        _message(Kind.INITIAL_FACTOR, holder, plan.request_sizes),
        _message(Kind.MASKED_INITIAL, PEER[holder], plan.response_sizes),
    ]


def _blind_or_joint(contract: Contract, rows: int, *, training: bool, kept: bool) -> list[Message]:
    forward, update = (contract.plan(each, rows) for each in (Product.FORWARD, Product.UPDATE))
    messages = [
        *([] if kept else [_message(Kind.WEIGHTS, Role.LABEL_OWNER, forward.request_sizes)]),
        _message(Kind.MASKED_Z, Role.DATA_OWNER, forward.response_sizes),
        _share_of_z(contract, rows),
    ]
    if not training:
        return messages
    return [
        *messages,
        *_data_weights(contract, rows),
        *_input_gradient(contract, rows),
        _message(Kind.GRADIENTS, Role.LABEL_OWNER, update.request_sizes),
        _message(Kind.MASKED_UPDATE, Role.DATA_OWNER, update.response_sizes),
    ]


def _acml(contract: Contract, rows: int, *, training: bool, kept: bool) -> list[Message]:
    forward, update = (contract.plan(each, rows) for each in (Product.FORWARD, Product.UPDATE))
    activations = [_message(Kind.TRANSPOSED_ACTIVATIONS, Role.DATA_OWNER, forward.request_sizes)]
    if training:
        activations.append(_message(Kind.ACTIVATIONS, Role.DATA_OWNER, update.request_sizes))
    messages = [
        *([] if kept else activations),
        *(_data_weights(contract, rows) if training else []),
        _message(Kind.MASKED_Z, Role.LABEL_OWNER, forward.response_sizes),
        _share_of_z(contract, rows),
    ]
    if not training:
        return messages
    return [
        *messages,
        *_input_gradient(contract, rows),
        _message(Kind.MASKED_UPDATE, Role.LABEL_OWNER, update.response_sizes),
    ]


def _share_of_z(contract: Contract, rows: int) -> Message:
    return _message(Kind.SHARE_OF_Z, Role.DATA_OWNER, matrix_sizes(rows, contract.out_features))


def _data_weights(contract: Contract, rows: int) -> list[Message]:
    if not contract.trains_bottom:
        return []
    sizes = contract.plan(Product.INPUT_GRADIENT, rows).request_sizes
    return [_message(Kind.DATA_WEIGHTS, Role.DATA_OWNER, sizes)]


def _input_gradient(contract: Contract, rows: int) -> list[Message]:
    if not contract.trains_bottom:
        return []
    masked = contract.plan(Product.INPUT_GRADIENT, rows).response_sizes
    share = matrix_sizes(rows, contract.in_features)
    return [
        _message(Kind.MASKED_INPUT_GRADIENT, Role.LABEL_OWNER, masked),
        _message(Kind.SHARE_OF_INPUT_GRADIENT, Role.LABEL_OWNER, share),
    ]
