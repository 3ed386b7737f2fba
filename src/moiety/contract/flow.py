"""What a protocol is, as a table: its messages in their order, their sizes, and under whose key they are.

A protocol's module holds its `FLOW`. The machines walk along it and accept what comes next in it, the
contract takes its products and plans from it, the forecast adds up its bytes, and the check of a run file
says what crosses. Nothing of a protocol is said twice, and its name is compared nowhere: see
docs/adr/0025-flow-tables.md.

Axes of matrices are letters: N rows of the batch, D in_features, K out_features, E epochs, L limbs of a
ring integer; several letters are multiplied, none is 1.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Final, cast

from moiety.config.protocols import PROTOCOLS
from moiety.contract.products import Product, Role
from moiety.crypto.parameters import DITHERED_SPARE_BITS
from moiety.crypto.scheme import BLOCK_BYTES, ProductNeed, ProductShape
from moiety.errors import LocalProtocolError

if TYPE_CHECKING:  # a flow names what lies above it; only `flow_of` loads it
    from moiety.contract.contract import Contract
    from moiety.protocol.data_owner import DataOwner
    from moiety.protocol.label_owner import LabelOwner
    from moiety.protocol.messages import Kind

WORD_BYTES: Final = 8

Axes = tuple[str, str]
"""Rows and columns of a matrix, in the letters above."""
Sizes = Mapping[str, int]
"""What each letter stands for."""


class Form(Enum):
    """What a message carries."""

    REQUEST = auto()
    """An encrypted matrix M, from the holder of the key."""
    RESPONSE = auto()
    """P M, masked, from the evaluator."""
    WORDS = auto()
    """A matrix of ring integers: a share."""
    BYTES = auto()
    """A few plain bytes."""


class When(Enum):
    """Which exchanges a message belongs to."""

    ALWAYS = auto()
    TRAINING = auto()
    """Those that an update follows."""
    BOTTOM = auto()
    """Those of them that train a bottom model."""


class Serves(Enum):
    """How long the receiver has use for an encrypted matrix, and need not be sent it again."""

    ANSWER = auto()
    """It is answered at once."""
    EXCHANGE = auto()
    """It is answered later in the exchange."""
    WEIGHTS = auto()
    """Until W moves, for batches of the same layout."""
    ACTIVATIONS = auto()
    """The whole session, where activations never change."""


class Opened(Enum):
    """What a share opens to its receiver, who has the other one."""

    Z = auto()
    INPUT_GRADIENT = auto()


@dataclass(frozen=True, kw_only=True)
class Multiplication:
    """A product P M that a protocol computes under encryption.

    Args:
        product: what it gives.
        plain: axes of P, the evaluator's.
        encrypted: axes of M, the key holder's.
        multiplier_bits: every entry of P is at most 2**multiplier_bits in magnitude.
        key_holder: who can decrypt.
        spare_bits: a value may be off by one with probability 2**-spare_bits at most. What is opened without
            dither needs more than what is dithered or never opened.
    """

    product: Product
    plain: Axes
    encrypted: Axes
    multiplier_bits: int
    key_holder: Role
    spare_bits: int = DITHERED_SPARE_BITS

    @property
    def depends_on_rows(self) -> bool:
        """Whether it is another product for a batch of another size."""
        return "N" in "".join((*self.plain, *self.encrypted))

    def need(self, sizes: Sizes) -> ProductNeed:
        """Return the shape, and how rarely it may be off by one unit."""
        shape = ProductShape(
            rows=_size(self.plain[0], sizes),
            contraction=_size(self.plain[1], sizes),
            kept=_size(self.encrypted[1], sizes),
            multiplier_bits=self.multiplier_bits,
        )
        return ProductNeed(shape=shape, spare_bits=self.spare_bits)


@dataclass(frozen=True, kw_only=True)
class Send:
    """One message of a protocol. Made by `request`, `response`, `words` and `octets`.

    Args:
        kind: its name on the wire.
        sender: who sends it.
        form: what it carries.
        of: the product that a request or a response belongs to.
        axes: of a matrix of ring integers.
        size: of plain bytes.
        when: the exchanges it belongs to.
        serves: how long a request is of use to its receiver.
        opens: what a share opens to its receiver.
        says: what is encrypted, in words, where the peer should be told that it crosses.
    """

    kind: "Kind"
    sender: Role
    form: Form
    of: Multiplication | None = None
    axes: Axes = ("", "")
    size: int = 0
    when: When = When.ALWAYS
    serves: Serves = Serves.ANSWER
    opens: Opened | None = None
    says: str = ""

    def sizes(self, contract: "Contract", rows: int) -> tuple[int, ...]:
        """Return the bytes of each of its blocks, for a batch of `rows`."""
        if self.form is Form.BYTES:
            return (self.size,)
        if self.of is None:
            height, width = (_size(axis, contract.sizes(rows)) for axis in self.axes)
            return matrix_sizes(height, width)
        plan = contract.plan(self.of.product, rows)
        return tuple(plan.request_sizes if self.form is Form.REQUEST else plan.response_sizes)


def request(
    kind: "Kind",
    of: Multiplication,
    *,
    when: When = When.ALWAYS,
    serves: Serves = Serves.ANSWER,
    says: str = "",
) -> Send:
    """Return the message that carries M, encrypted."""
    sender = of.key_holder
    return Send(kind=kind, sender=sender, form=Form.REQUEST, of=of, when=when, serves=serves, says=says)


def response(kind: "Kind", of: Multiplication, *, when: When = When.ALWAYS) -> Send:
    """Return the message that carries P M, masked."""
    return Send(kind=kind, sender=of.key_holder.peer, form=Form.RESPONSE, of=of, when=when)


def words(
    kind: "Kind", sender: Role, axes: Axes, *, when: When = When.ALWAYS, opens: Opened | None = None
) -> Send:
    """Return the message that carries a matrix of ring integers."""
    return Send(kind=kind, sender=sender, form=Form.WORDS, axes=axes, when=when, opens=opens)


def octets(kind: "Kind", sender: Role, size: int) -> Send:
    """Return the message that carries a few plain bytes."""
    return Send(kind=kind, sender=sender, form=Form.BYTES, size=size)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A protocol.

    Args:
        opening: before the first request of a training: W_0.
        forward: after a request, until the label owner has z.
        update: the rest of a training step; the label owner begins.
        choice: back to the best epoch. An encrypted choice hides the epoch from the data owner.
        label_owner: the machine of that role.
        data_owner: the machine of that role.
    """

    opening: tuple[Send, ...]
    forward: tuple[Send, ...]
    update: tuple[Send, ...]
    choice: tuple[Send, ...]
    label_owner: "type[LabelOwner]"
    data_owner: "type[DataOwner]"

    @property
    def steps(self) -> tuple[Send, ...]:
        """Every message of a training step."""
        return self.forward + self.update

    @property
    def initial(self) -> Multiplication | None:
        """The product that W_0 is, where both parties draw a part of it."""
        return next((send.of for send in self.opening if send.of is not None), None)

    @property
    def hides_choice(self) -> bool:
        """Whether the data owner is not told which epoch was best."""
        return any(send.of is not None for send in self.choice)

    @property
    def reuses_activations(self) -> bool:
        """Whether encrypted activations that never change serve the whole session, in whole batches."""
        return any(send.serves is Serves.ACTIVATIONS for send in self.steps)

    @property
    def trains_bottom(self) -> bool:
        """Whether it can train a bottom model: then the data owner is shown da."""
        return any(send.opens is Opened.INPUT_GRADIENT for send in self.steps)

    def exchange(self, *, training: bool, bottom: bool) -> Iterator[Send]:
        """Yield what may cross after a request, in order; what the receiver has already is left in."""
        yield from applying(self.forward, training=training, bottom=bottom)
        if training:
            yield from applying(self.update, training=training, bottom=bottom)

    def request_of(self, product: Product) -> Send:
        """Return the message that carries the encrypted matrix of a product."""
        sends = (*self.opening, *self.steps, *self.choice)
        return next(
            send
            for send in sends
            if send.form is Form.REQUEST and send.of is not None and send.of.product is product
        )


def applying(sends: Iterable[Send], *, training: bool, bottom: bool) -> list[Send]:
    """Return the messages of an exchange that trains or not, in a run with a bottom model or without."""
    applies = {When.ALWAYS: True, When.TRAINING: training, When.BOTTOM: training and bottom}
    return [send for send in sends if applies[send.when]]


def flow_of(protocol: str) -> Flow:
    """Load a protocol.

    Raises:
        LocalProtocolError: its table shows the data owner gradients and its entry says that it does not, or
            the other way round.
    """
    known = PROTOCOLS[protocol]
    flow = cast("Flow", import_module(known.module).FLOW)
    if flow.trains_bottom != (known.bottom != "never") or flow.trains_bottom > known.reveals_gradients:
        raise LocalProtocolError(
            f"protocol {protocol} shows the data owner gradients, or not, against what its entry says",
            hint="correct bottom and reveals_gradients of its entry in config/protocols.py",
        )
    return flow


def matrix_sizes(rows: int, columns: int) -> tuple[int, ...]:
    """Return the block sizes of a matrix of ring integers, cut between rows.

    >>> matrix_sizes(3, 2)
    (48,)
    """
    width = columns * WORD_BYTES
    rows_per_block = BLOCK_BYTES // width
    starts = range(0, rows, rows_per_block)
    return tuple(min(rows_per_block, rows - start) * width for start in starts)


def _size(axis: str, sizes: Sizes) -> int:
    """Multiply what the letters stand for.

    >>> _size("LE", {"L": 4, "E": 3}), _size("", {})
    (12, 1)
    """
    return prod(sizes[letter] for letter in axis)
