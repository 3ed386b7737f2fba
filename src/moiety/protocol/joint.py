"""The protocol `joint`: `blind` for z and the update, and da for a bottom model that is trained.

One step for a batch x of N rows; the parts that `blind` does not have are marked:

    label owner -> data owner     REQUEST, WEIGHTS          Enc_label(W_label)
    data owner -> label owner     MASKED_Z, SHARE_OF_Z      as in `blind`
  +                               DATA_WEIGHTS              Enc_data(W_data^T)
  + label owner -> data owner     MASKED_INPUT_GRADIENT,    dz'' W_data^T, masked
  +                               SHARE_OF_INPUT_GRADIENT   mask share + dz'' W_label^T
    label owner -> data owner     GRADIENTS                 Enc_label(dz')
    data owner -> label owner     MASKED_UPDATE             masked x^T dz'

Nobody knows W_0: it is a product of a matrix of each party's, see `initial`. The data owner sees da, and with
W it could solve for dz exactly; the label owner sees z, and with W for the features.

Leaks: to the data owner, da of every training row, from which labels can be read (AUC 1.0 measured). To the
label owner, z, as in `blind`.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from moiety.contract.products import Product
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Seed
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner
from moiety.protocol.initial import encrypted_factor, factor_due, masked_due, masked_weights
from moiety.protocol.input_gradient import (
    encrypted_weights,
    gradient_due,
    masked_gradient,
    read_gradient,
    weights_due,
)
from moiety.protocol.messages import Block
from moiety.protocol.product import Collector, Messages


class JointDataOwner(BlindDataOwner):
    """`blind`'s evaluator, with a key of its own for da."""

    def _start(self, weight_seed: Seed) -> Iterator[Block]:
        self._weight_seed = weight_seed
        self._due = [factor_due(self._contract)]
        return iter(())

    def _started(self, messages: Messages) -> Iterator[Block]:
        shares: list[RingArray] = []
        yield from masked_weights(
            self._contract,
            self._evaluator,
            self._weight_seed,
            messages[0],
            randomness=self._randomness,
            shares=shares,
        )
        self._share = np.concatenate(shares)

    def _forward(self, messages: Messages) -> Iterator[Block]:
        yield from super()._forward(messages)
        assert self._request is not None
        if self._request.training and self._contract.trains_bottom:
            yield from encrypted_weights(
                self._contract,
                self._keys,
                self._share,
                rows=len(self._rows),
                step=self._step,
                randomness=self._randomness,
            )

    def _update_due(self, rows: int) -> list[Collector]:
        due = super()._update_due(rows)
        if self._contract.trains_bottom:
            due = [*gradient_due(self._contract, rows=rows, step=self._step), *due]
        return due

    def _update(self, messages: Messages) -> Iterator[Block]:
        if not self._contract.trains_bottom:
            yield from super()._update(messages)
            return
        # Read before the share moves: a da out of range leaves it as it was.
        gradient_ND = read_gradient(self._contract, self._keys, messages[:2], rows=len(self._rows))
        yield from super()._update(messages[2:])
        self._features.backward(gradient_ND)


class JointLabelOwner(BlindLabelOwner):
    """`blind`'s key holder, and the evaluator of da."""

    draws_weights = True

    _data_weights: Messages

    def _start(self) -> Iterator[Block]:
        return encrypted_factor(
            self._contract, self._keys, self._own_weight_seed, randomness=self._randomness
        )

    def _initial_due(self) -> Collector:
        return masked_due(self._contract)

    def _started(self, messages: Messages) -> Iterable[Block]:
        plan = self._contract.plan(Product.INITIAL, 0)
        self._share = self._keys.decrypt(messages[0], plan=plan)
        return ()

    def _forward_due(self, rows: int) -> list[Collector]:
        due = super()._forward_due(rows)
        assert self._request is not None
        if self._request.training and self._contract.trains_bottom:
            due.append(weights_due(self._contract, rows=rows, step=self._step))
        return due

    def _forward(self, messages: Messages, rows: int) -> Iterable[Block]:
        self._data_weights = messages[2:]
        return super()._forward(messages[:2], rows)

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
        yield from super()._send_update(scaled_NK, None)
