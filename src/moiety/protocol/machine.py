"""What the machines of both roles have in common: they walk along the protocol's flow.

A flow says which message is next. A machine yields its own, takes the peer's, and refuses whatever is not
next or has another size. A protocol adds what its messages carry, and what own share of W is after a part of
the flow that is over. Pure: no connection, no clock, and the randomness is an argument. Shapes: N rows, D
in_features, K out_features.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, ClassVar

import numpy as np

from moiety.contract.contract import Contract
from moiety.contract.flow import Form, Send, Serves, applying
from moiety.contract.products import Product, Role
from moiety.contract.schedule import Split
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import Evaluator, KeyHolder, ProductPlan
from moiety.crypto.secret import Secret
from moiety.errors import RemoteProtocolError
from moiety.protocol.messages import Block, Kind, Request
from moiety.protocol.product import Collector, blocks_of, matrix_blocks, read_matrix
from moiety.protocol.reuse import Part, Reuse
from moiety.protocol.state import State

Store = MutableMapping[Part, list[bytes]]
Matrices = dict[Kind, Callable[[], Any]]
"""What a machine sends: for each message, what it carries, in plain."""


class Machine(Secret, ABC):
    """One party's machine in one session.

    Args:
        contract: what was agreed.
        keys: the part of the scheme that decrypts, where this party holds a key.
        evaluator: the part of the scheme that computes, where the peer holds one.
        store: keeps encrypted activations that serve the whole session; memory if left out.
        randomness: where seeds come from.
    """

    role: ClassVar[Role]

    def __init__(
        self,
        contract: Contract,
        *,
        keys: KeyHolder | None,
        evaluator: Evaluator | None,
        store: Store | None = None,
        randomness: Randomness,
    ) -> None:
        contract.plan_ahead()
        self._contract = contract
        self._own_keys = keys
        self._own_evaluator = evaluator
        self._randomness = randomness
        self._weight_seed: Seed | None = None
        self._state = State.INITIAL
        self._share: RingArray = np.zeros((0, 0), dtype=np.uint64)
        self._step = 0
        self._updates = 0
        self._request: Request | None = None
        self._chosen = False
        self._reuse = Reuse(contract)
        self._store: Store = {} if store is None else store
        self._ahead: deque[Send] = deque()
        self._expected: list[tuple[Send, Collector]] = []
        self._requests: dict[Product, list[bytes]] = {}
        self._responses: dict[Product, list[bytes]] = {}
        self._plain: dict[Kind, list[bytes]] = {}
        self._shares: dict[Product, list[RingArray]] = {}

    # --- along the flow

    def _begin(self, state: State, sends: Iterable[Send]) -> None:
        """Set out on a part of the flow, and expect its first messages where they are the peer's."""
        self._state, self._ahead = state, deque(sends)
        self._expect()

    def _begin_exchange(self, request: Request) -> None:
        """Set out on the part that ends with z; what the receiver has already does not cross."""
        self._request = request
        handle, schedule = request.handle, self._contract.schedule
        # The number of a batch's rows matters only where they stay together: it takes a permutation.
        number = schedule.part_of(handle) if self._contract.reuses_activations else handle.batch
        self._part = (handle.split, number)
        sends = [
            send
            for send in self._applying(self._contract.flow.forward)
            if not self._reuse.has(send, self._part, rows=handle.rows, updates=self._updates)
        ]
        self._begin(State.FORWARD, sends)

    def _begin_update(self) -> None:
        """Set out on the rest of a training step."""
        self._begin(State.UPDATE, self._applying(self._contract.flow.update))

    def _applying(self, sends: Iterable[Send]) -> list[Send]:
        return applying(sends, training=self._asked.training, bottom=self._contract.trains_bottom)

    @property
    def _asked(self) -> Request:
        """The request of the exchange under way."""
        assert self._request is not None
        return self._request

    @property
    def _speaks(self) -> bool:
        """Whether the next message is own."""
        return bool(self._ahead) and not self._expected

    def _expect(self) -> None:
        self._expected = [
            (send, Collector(send.kind, step=self._step, sizes=send.sizes(self._contract, self._batch_rows)))
            for send in self._next_of(self.role.peer)
        ]

    def _next_of(self, sender: Role) -> list[Send]:
        """Take the messages of one party up to the other's next."""
        sends = []
        while self._ahead and self._ahead[0].sender is sender:
            sends.append(self._ahead.popleft())
        return sends

    def _speak(self) -> Iterator[Block]:
        """Yield own messages up to the peer's next. Without one the part is over."""
        own = self._next_of(self.role)
        self._expect()  # before anything leaves: the answer can come while this is suspended
        last = not self._expected
        for send in own:
            yield from self._blocks(send)
        if last:
            self._over()

    def _take(self, block: Block) -> Iterable[Block]:
        """Take the peer's next block; return what answers it, once nothing of the peer's is missing."""
        waiting = next((each for each in self._expected if not each[1].complete), None)
        if waiting is None:
            # One state, one message: what comes early is not kept for later, so that a peer cannot fill
            # memory.
            raise RemoteProtocolError(f"{block.kind.name} came where nothing was expected")
        send, collector = waiting
        if collector.receive(block):
            self._keep(send, collector.payloads)
        if not all(each.complete for _, each in self._expected):
            return ()
        self._expected = []
        self._came()
        if self._ahead:
            return self._guarded(self._speak())
        self._over()
        return ()

    def _guarded(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Close the machine where what it sends fails or is not taken to its end."""
        try:
            yield from blocks
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self._state, self._expected = State.CLOSED, []
        self._ahead.clear()

    # --- what the messages carry

    def _blocks(self, send: Send) -> Iterator[Block]:
        """Make a message."""
        matrix = self._matrices()[send.kind]()
        if send.form is Form.BYTES:
            return blocks_of(send.kind, [matrix], step=self._step, count=1)
        if send.of is None:
            return matrix_blocks(send.kind, matrix, step=self._step)
        plan = self._plan(send.of.product)
        if send.form is Form.RESPONSE:
            return self._masked(send.kind, send.of.product, matrix)
        payloads = self._keys.encrypt(matrix, plan=plan, randomness=self._randomness)
        return blocks_of(send.kind, payloads, step=self._step, count=len(plan.request_sizes))

    def _masked(self, kind: Kind, product: Product, plain_ND: Any) -> Iterator[Block]:
        """Multiply under encryption, and yield the masked answer's blocks as they are computed.

        Leaks:
            Nothing to the key holder but the shape.
        """
        shares = self._shares[product] = []
        plan, payloads = self._plan(product), self._encrypted(product)
        answers = self._evaluator.respond(plain_ND, payloads, plan=plan, randomness=self._randomness)
        for index, (payload, share) in enumerate(answers):
            shares.append(share)
            count = len(plan.response_sizes)
            yield Block(kind=kind, step=self._step, payload=payload, index=index, count=count)

    def _keep(self, send: Send, payloads: list[bytes]) -> None:
        if send.of is None:
            self._plain[send.kind] = payloads
        elif send.form is Form.RESPONSE:
            self._responses[send.of.product] = payloads
        elif send.serves is Serves.ACTIVATIONS and self._contract.reuses_activations:
            self._store[(send.of.product, *self._part)] = payloads
        else:
            self._requests[send.of.product] = payloads

    def _encrypted(self, product: Product) -> list[bytes]:
        """Return the encrypted matrix of a product; what serves no longer than its answer is let go."""
        serves = self._contract.flow.request_of(product).serves
        if serves is Serves.ACTIVATIONS and self._contract.reuses_activations:
            return self._store[(product, *self._part)]
        return self._requests[product] if serves is Serves.WEIGHTS else self._requests.pop(product)

    def _product(self, product: Product) -> RingArray:
        """Return own share of a product of this exchange, once: the one computed with, or the decrypted one.

        Raises:
            MalformedMessageError: a block is not a ciphertext.
        """
        if product in self._shares:
            return np.concatenate(self._shares.pop(product))
        return self._keys.decrypt(self._responses.pop(product), plan=self._plan(product))

    def _words(self, kind: Kind, columns: int) -> RingArray:
        """Return a matrix of ring integers that came, uint64 (rows, columns), once."""
        return read_matrix(self._plain.pop(kind), columns)

    def _plan(self, product: Product) -> ProductPlan:
        return self._contract.plan(product, self._batch_rows)

    @property
    def _batch_rows(self) -> int:
        return 0 if self._request is None else self._request.handle.rows

    @property
    def _keys(self) -> KeyHolder:
        assert self._own_keys is not None
        return self._own_keys

    @property
    def _evaluator(self) -> Evaluator:
        assert self._own_evaluator is not None
        return self._own_evaluator

    @property
    def _own_weight_seed(self) -> Seed:
        assert self._weight_seed is not None
        return self._weight_seed

    _part: tuple[Split, int]

    # --- what a protocol adds

    def prepare(self) -> None:
        """Compute ahead, while the peer works, what the next message needs; nothing that is sent changes."""

    def _matrices(self) -> Matrices:
        """Return what this party's messages carry: M, P, a share, or bytes."""
        return {}

    @abstractmethod
    def _initial(self) -> RingArray:
        """Return own share of W_0, once the opening is over."""

    @abstractmethod
    def _moved(self) -> RingArray:
        """Return own share of W after the update."""

    def _came(self) -> None:
        """Read what has to be acceptable before anything answers it."""

    @abstractmethod
    def _over(self) -> None:
        """Note that a part of the flow is over."""
