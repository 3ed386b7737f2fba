"""The protocol `acml`: the paper's message flow, every product under the data owner's key.

One step for a batch x of N rows, with W = W_data + W_label:

    label owner -> data owner   REQUEST
    data owner -> label owner   TRANSPOSED_ACTIVATIONS, Enc(x^T), contracted over features;
                                ACTIVATIONS             Enc(x), contracted over rows
                                DATA_WEIGHTS            Enc(W_data^T), where the bottom model is trained
    label owner -> data owner   MASKED_Z                masked W_label^T x^T
    data owner -> label owner   SHARE_OF_Z              its share + x W_data + rho
        the label owner adds up and has z, dithered by rho
    label owner -> data owner   MASKED_INPUT_GRADIENT, SHARE_OF_INPUT_GRADIENT    as in `joint`
                                MASKED_UPDATE           masked dz'^T x
        both subtract their shares from W

Activations that never change cross once a session: the label owner keeps them encrypted, and rows stay
together in the same batches. What the paper calls accumulated noise is the data owner's share of W: here
it starts as a random share, lives modulo 2^64 and never drifts; responses are re-randomised and masks are
uniform, or 60 bits wider than what they hide. Nobody knows W_0, see `initial`.

Leaks: to the data owner, da where the bottom model is trained: labels can be read from it. Also, the data
owner decrypts what the label owner made: one that deviates from the protocol can use the data owner's
reaction as an oracle for its key. To the label owner, z, as in `blind`.

Reference: arXiv:2007.06849, algorithms 1 and 2; what differs and why is in section 2 of docs/design.md.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product
from moiety.contract.schedule import Split
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Seed
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.initial import encrypted_factor, factor_due, masked_due, masked_weights
from moiety.protocol.input_gradient import (
    encrypted_weights,
    gradient_due,
    masked_gradient,
    read_gradient,
    weights_due,
)
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.messages import Block, Kind, Request
from moiety.protocol.product import Collector, Messages, blocks_of, masked_blocks, read_matrix

Part = tuple[Product, Split, int]
"""Names encrypted activations that serve the whole session: for which product, of which rows."""

Store = MutableMapping[Part, list[bytes]]

_KINDS: Final = {Product.FORWARD: Kind.TRANSPOSED_ACTIVATIONS, Product.UPDATE: Kind.ACTIVATIONS}


def _part(contract: Contract, product: Product, request: Request) -> Part:
    return (product, request.handle.split, contract.schedule.part_of(request.handle))


def _products(request: Request) -> tuple[Product, ...]:
    return (Product.FORWARD, Product.UPDATE) if request.training else (Product.FORWARD,)


class AcmlDataOwner(DataOwner):
    """The key holder: encrypts its activations, and decrypts shares of z and of the update."""

    def __init__(self, contract: Contract, **arguments: Any) -> None:
        super().__init__(contract, **arguments)
        self._sent: set[Part] = set()

    def _start(self, weight_seed: Seed) -> Iterator[Block]:
        self._due = [masked_due(self._contract)]
        return encrypted_factor(self._contract, self._keys, weight_seed, randomness=self._randomness)

    def _started(self, messages: Messages) -> Iterator[Block]:
        self._share = self._keys.decrypt(messages[0], plan=self._contract.plan(Product.INITIAL, 0))
        yield from ()

    def _begin(self, request: Request) -> Iterator[Block]:
        for product in _products(request):
            part = _part(self._contract, product, request)
            if part not in self._sent:
                yield from self._encrypted(product)
                if self._contract.reuses_activations:
                    self._sent.add(part)
        if request.training and self._contract.trains_bottom:
            yield from encrypted_weights(
                self._contract,
                self._keys,
                self._share,
                rows=len(self._rows),
                step=self._step,
                randomness=self._randomness,
            )

    def _encrypted(self, product: Product) -> Iterator[Block]:
        plan = self._contract.plan(product, len(self._rows))
        matrix = self._activation_ND.T if product is Product.FORWARD else self._activation_ND
        message = np.ascontiguousarray(matrix, dtype=np.int64).view(np.uint64)
        payloads = self._keys.encrypt(message, plan=plan, randomness=self._randomness)
        return blocks_of(_KINDS[product], payloads, step=self._step, count=len(plan.request_sizes))

    def _forward_due(self, rows: int) -> list[Collector]:
        plan = self._contract.plan(Product.FORWARD, rows)
        return [Collector(Kind.MASKED_Z, step=self._step, sizes=plan.response_sizes)]

    def _forward(self, messages: Messages) -> Iterator[Block]:
        plan = self._contract.plan(Product.FORWARD, len(self._rows))
        yield from self._share_of_z(self._keys.decrypt(messages[0], plan=plan).T)

    def _update_due(self, rows: int) -> list[Collector]:
        plan = self._contract.plan(Product.UPDATE, rows)
        due = [Collector(Kind.MASKED_UPDATE, step=self._step, sizes=plan.response_sizes)]
        if self._contract.trains_bottom:
            due = [*gradient_due(self._contract, rows=rows, step=self._step), *due]
        return due

    def _update(self, messages: Messages) -> Iterator[Block]:
        rows = len(self._rows)
        update_KD = self._keys.decrypt(messages[-1], plan=self._contract.plan(Product.UPDATE, rows))
        # Both are read before the share moves: an unacceptable one leaves it as it was.
        gradient_ND = None
        if self._contract.trains_bottom:
            gradient_ND = read_gradient(self._contract, self._keys, messages[:2], rows=rows)
        self._share = self._share - update_KD.T
        if gradient_ND is not None:
            self._features.backward(gradient_ND)
        yield from ()


class AcmlLabelOwner(LabelOwner):
    """The evaluator: multiplies the data owner's encrypted activations by its share and by dz'.

    Args:
        contract: what was agreed.
        store: keeps encrypted activations that serve the whole session; memory if left out.
        arguments: as `LabelOwner`.
    """

    draws_weights = True

    def __init__(self, contract: Contract, *, store: Store | None = None, **arguments: Any) -> None:
        super().__init__(contract, **arguments)
        self._store: Store = {} if store is None else store
        self._current: dict[Product, list[bytes]] = {}
        self._data_weights: Messages = []
        self._z_shares: list[RingArray] = []

    def _initial_due(self) -> Collector:
        return factor_due(self._contract)

    def _started(self, messages: Messages) -> Iterable[Block]:
        return self._guarded(self._answer_factor(messages[0]))

    def _answer_factor(self, payloads: list[bytes]) -> Iterator[Block]:
        shares: list[RingArray] = []
        yield from masked_weights(
            self._contract,
            self._evaluator,
            self._own_weight_seed,
            payloads,
            randomness=self._randomness,
            shares=shares,
        )
        self._share = np.concatenate(shares)

    def _forward_due(self, rows: int) -> list[Collector]:
        assert self._request is not None
        due = [
            Collector(
                _KINDS[product],
                step=self._step,
                sizes=self._contract.plan(product, rows).request_sizes,
            )
            for product in self._missing(self._request)
        ]
        if self._request.training and self._contract.trains_bottom:
            due.append(weights_due(self._contract, rows=rows, step=self._step))
        return due

    def _missing(self, request: Request) -> list[Product]:
        return [
            each for each in _products(request) if _part(self._contract, each, request) not in self._store
        ]

    def _ask(self, rows: int) -> Iterable[Block]:
        return () if self._due else self._multiply([], rows)

    def _forward(self, messages: Messages, rows: int) -> Iterable[Block]:
        if not self._z_shares:
            return self._guarded(self._multiply(messages, rows))
        share_NK = np.concatenate(self._z_shares).T
        self._z_shares = []
        self._release(share_NK + read_matrix(messages[0], self._contract.out_features))
        return ()

    def _multiply(self, messages: Messages, rows: int) -> Iterator[Block]:
        """Answer the activations with masked W_label^T x^T."""
        self._due = [self._share_of_z_due(rows)]
        self._take_activations(messages)
        yield from masked_blocks(
            Kind.MASKED_Z,
            self._evaluator,
            np.ascontiguousarray(self._share.T).view(np.int64),
            self._current[Product.FORWARD],
            plan=self._contract.plan(Product.FORWARD, rows),
            step=self._step,
            randomness=self._randomness,
            shares=self._z_shares,
        )

    def _take_activations(self, messages: Messages) -> None:
        assert self._request is not None
        missing = self._missing(self._request)
        came = dict(zip(missing, messages, strict=False))
        self._data_weights = messages[len(missing) :]
        for product in _products(self._request):
            part = _part(self._contract, product, self._request)
            self._current[product] = came[product] if product in came else self._store[part]
            if self._contract.reuses_activations and product in came:
                self._store[part] = came[product]

    def _send_update(self, scaled_NK: RingArray, input_NK: NDArray[np.int64] | None) -> Iterator[Block]:
        if input_NK is not None:
            yield from masked_gradient(
                self._contract,
                self._evaluator,
                self._share,
                input_NK,
                self._data_weights[0],
                step=self._step,
                randomness=self._randomness,
            )
        shares: list[RingArray] = []
        yield from masked_blocks(
            Kind.MASKED_UPDATE,
            self._evaluator,
            np.ascontiguousarray(scaled_NK.T).view(np.int64),
            self._current[Product.UPDATE],
            plan=self._contract.plan(Product.UPDATE, len(scaled_NK)),
            step=self._step,
            randomness=self._randomness,
            shares=shares,
        )
        self._share = self._share - np.concatenate(shares).T

    def _update(self, messages: Messages, rows: int) -> None:
        del messages, rows
        raise AssertionError("nothing is due after an update")
