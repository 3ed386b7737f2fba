"""The protocol `blind`: the key is the label owner's, and the data owner learns nothing.

One step for a batch x of N rows, with W = W_data + W_label:

    label owner -> data owner   REQUEST, WEIGHTS         Enc(W_label), if it moved since it was last sent
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

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Seed, expand_words
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.messages import Block, Kind
from moiety.protocol.product import (
    Collector,
    Messages,
    blocks_of,
    masked_blocks,
    matrix_blocks,
    matrix_sizes,
    read_matrix,
)
from moiety.protocol.state import State, initial_weights

WeightsKey = tuple[int, tuple[int, ...]]
"""Which Enc(W_label) the data owner holds: after how many updates, in which layout."""


def weights_key(contract: Contract, rows: int, *, updates: int) -> WeightsKey:
    """Name the encryption of W_label that a batch of `rows` needs; both parties know when it is there."""
    return updates, contract.plan(Product.FORWARD, rows).request_layout


class BlindDataOwner(DataOwner):
    """The evaluator: multiplies ciphertexts by its features, and never decrypts anything."""

    def _start(self, weight_seed: Seed) -> Iterator[Block]:
        """Draw W_0, keep a uniform mask as own share and send the difference."""
        shape = (self._contract.in_features, self._contract.out_features)
        weights_DK = initial_weights(weight_seed, in_features=shape[0], out_features=shape[1])
        words = expand_words(self._randomness.seed(), b"initial mask", index=0, count=shape[0] * shape[1])
        self._share = words.reshape(shape)
        self._state = State.IDLE
        return matrix_blocks(Kind.INITIAL_SHARE, weights_DK - self._share, step=0)

    _weights: list[bytes]
    _weights_are: WeightsKey | None = None

    def _replaced(self) -> None:
        self._weights_are = None

    def _forward_due(self, rows: int) -> list[Collector]:
        key = weights_key(self._contract, rows, updates=self._updates)
        if key == self._weights_are:
            return []
        self._weights_are = key
        plan = self._contract.plan(Product.FORWARD, rows)
        return [Collector(Kind.WEIGHTS, step=self._step, sizes=plan.request_sizes)]

    def _forward(self, messages: Messages) -> Iterator[Block]:
        self._weights = messages[0] if messages else self._weights
        shares: list[RingArray] = []
        yield from masked_blocks(
            Kind.MASKED_Z,
            self._evaluator,
            self._activation_ND,
            self._weights,
            plan=self._contract.plan(Product.FORWARD, len(self._rows)),
            step=self._step,
            randomness=self._randomness,
            shares=shares,
        )
        yield from self._share_of_z(np.concatenate(shares))

    def prepare(self) -> None:
        """Prepare the answer to the gradients that are due, else to a next batch of as many rows."""
        product = Product.UPDATE if self._state is State.UPDATE else Product.FORWARD
        if self._state is not State.CLOSED and len(self._rows):
            plan = self._contract.plan(product, len(self._rows))
            self._evaluator.prepare(plan=plan, randomness=self._randomness)

    def _update_due(self, rows: int) -> list[Collector]:
        plan = self._contract.plan(Product.UPDATE, rows)
        return [Collector(Kind.GRADIENTS, step=self._step, sizes=plan.request_sizes)]

    def _update(self, messages: Messages) -> Iterator[Block]:
        shares: list[RingArray] = []
        yield from masked_blocks(
            Kind.MASKED_UPDATE,
            self._evaluator,
            np.ascontiguousarray(self._activation_ND.T),
            messages[0],
            plan=self._contract.plan(Product.UPDATE, len(self._rows)),
            step=self._step,
            randomness=self._randomness,
            shares=shares,
        )
        self._share = self._share - np.concatenate(shares)


class BlindLabelOwner(LabelOwner):
    """The key holder: asks for z, and encrypts its share of W and the scaled gradients."""

    def _initial_due(self) -> Collector:
        sizes = matrix_sizes(self._contract.in_features, self._contract.out_features)
        return Collector(Kind.INITIAL_SHARE, step=0, sizes=sizes)

    def _started(self, messages: Messages) -> Iterable[Block]:
        self._share = read_matrix(messages[0], self._contract.out_features)
        return ()

    def _forward_due(self, rows: int) -> list[Collector]:
        plan = self._contract.plan(Product.FORWARD, rows)
        return [
            Collector(Kind.MASKED_Z, step=self._step, sizes=plan.response_sizes),
            self._share_of_z_due(rows),
        ]

    _weights_are: WeightsKey | None = None

    def _replaced(self) -> None:
        self._weights_are = None

    def _ask(self, rows: int) -> Iterable[Block]:
        key = weights_key(self._contract, rows, updates=self._updates)
        if key == self._weights_are:
            return ()
        self._weights_are = key
        plan = self._contract.plan(Product.FORWARD, rows)
        payloads = self._keys.encrypt(self._share, plan=plan, randomness=self._randomness)
        return blocks_of(Kind.WEIGHTS, payloads, step=self._step, count=len(plan.request_sizes))

    def prepare(self) -> None:
        """Prepare the gradients while z is due, and the weights for the next batch while the update is."""
        if self._request is None or not self._request.training:
            return
        product = {State.FORWARD: Product.UPDATE, State.UPDATE: Product.FORWARD}.get(self._state)
        if product is not None:
            plan = self._contract.plan(product, self._request.handle.rows)
            self._keys.prepare(plan=plan, randomness=self._randomness)

    def _forward(self, messages: Messages, rows: int) -> Iterable[Block]:
        share_NK = self._keys.decrypt(messages[0], plan=self._contract.plan(Product.FORWARD, rows))
        self._release(share_NK + read_matrix(messages[1], self._contract.out_features))
        return ()

    def _send_update(self, scaled_NK: RingArray, input_NK: NDArray[np.int64] | None) -> Iterator[Block]:
        del input_NK
        plan = self._contract.plan(Product.UPDATE, len(scaled_NK))
        self._due = [Collector(Kind.MASKED_UPDATE, step=self._step, sizes=plan.response_sizes)]
        payloads = self._keys.encrypt(scaled_NK, plan=plan, randomness=self._randomness)
        yield from blocks_of(Kind.GRADIENTS, payloads, step=self._step, count=len(plan.request_sizes))

    def _update(self, messages: Messages, rows: int) -> None:
        self._share = self._share - self._keys.decrypt(
            messages[0], plan=self._contract.plan(Product.UPDATE, rows)
        )
