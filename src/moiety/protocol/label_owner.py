"""What the label owner's machines have in common: requests, z, its share of W.

`request` and `update` yield what to send, `receive` takes a block and returns what answers it. A protocol
adds what is due in each half of a step. Any error closes the machine for good. Shapes: N rows, D
in_features, K out_features.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product
from moiety.contract.schedule import RowHandle
from moiety.crypto.ring import RingArray, check_z
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.crypto.secret import Secret
from moiety.errors import LocalProtocolError, RemoteProtocolError
from moiety.protocol.choice import encode_epoch, selector
from moiety.protocol.messages import Block, Kind, Request, encode_request
from moiety.protocol.product import Collector, Messages, blocks_of, matrix_sizes
from moiety.protocol.state import State, require_usable


class LabelOwner(Secret, ABC):
    """One session's label owner.

    Args:
        contract: what was agreed.
        keys: the scheme's half that decrypts, where the label owner holds a key.
        evaluator: the scheme's half that computes, where the data owner holds one.
        share_DK: W_label from an earlier session; None waits for the initial share.
        updates: steps made in earlier sessions.
        weight_seed: of its part of W_0, in protocols where it draws one.
        randomness: where seeds come from.
    """

    draws_weights: ClassVar[bool] = False
    """Whether the label owner draws a part of W_0."""

    def __init__(
        self,
        contract: Contract,
        *,
        keys: KeyHolder | None = None,
        evaluator: Evaluator | None = None,
        share_DK: RingArray | None = None,
        updates: int = 0,
        weight_seed: Seed | None = None,
        randomness: Randomness,
    ) -> None:
        self._contract = contract
        self._own_keys = keys
        self._own_evaluator = evaluator
        self._weight_seed = weight_seed
        self._randomness = randomness
        shape = (contract.in_features, contract.out_features)
        self._share = np.zeros(shape, dtype=np.uint64) if share_DK is None else share_DK
        self._updates = updates
        self._step = 0
        self._request: Request | None = None
        self._z: RingArray | None = None
        self._due: list[Collector] = []
        self._chosen = False
        self._state = State.IDLE
        if share_DK is None:
            self._state = State.INITIAL
            self._due = [self._initial_due()]

    @property
    def waiting(self) -> bool:
        """Whether blocks of the data owner are due."""
        return bool(self._due)

    @property
    def open(self) -> bool:
        """Whether a training step waits for its gradient."""
        return self._state is State.OPEN

    @property
    def updates(self) -> int:
        """Steps made."""
        return self._updates

    @property
    def share(self) -> RingArray:
        """W_label, between exchanges.

        Raises:
            LocalProtocolError: an exchange is under way.
        """
        self._require(State.IDLE)
        return self._share

    @property
    def asked_only(self) -> bool:
        """Whether z of a training batch was asked for and has not come: nothing has moved since."""
        asked = self._request is not None and self._request.training
        return asked and self._state is State.FORWARD

    @property
    def share_between_steps(self) -> RingArray:
        """W_label as the last finished exchange left it, also while z is waited for.

        Raises:
            LocalProtocolError: a step is open or under way.
        """
        if not self.asked_only:
            self._require(State.IDLE)
        return self._share

    def start(self) -> Iterable[Block]:
        """Return what is sent before the first request: this side's part of W_0, where it is the first.

        Leaks:
            Nothing: encrypted under own key.
        """
        return self._start() if self._state is State.INITIAL else ()

    def request(self, handle: RowHandle, *, training: bool) -> Iterator[Block]:
        """Ask for z of a batch: the request, then what the protocol sends with it.

        Raises:
            LocalProtocolError: an exchange is under way, or the handle is another schedule's.

        Leaks:
            Nothing to the data owner: the schedule is public and the rest is encrypted.
        """
        self._require(State.IDLE)
        if not self._contract.schedule.contains(handle):
            raise LocalProtocolError(
                "the handle names no batch of this run's schedule",
                hint="pass batch.rows as run.batches gives it",
            )
        if training and self._chosen:
            raise LocalProtocolError(
                "the training went back to its best epoch and is over", hint="evaluate, then save"
            )
        self._step += 1
        self._request = Request(handle=handle, training=training, updates=self._updates)
        self._due = self._forward_due(handle.rows)
        self._state = State.FORWARD
        yield from self._guarded(self._asking(self._request))

    def update(self, scaled_NK: RingArray, input_NK: NDArray[np.int64] | None = None) -> Iterator[Block]:
        """Send the gradients of the open step under encryption.

        Args:
            scaled_NK: dz' as ring integers of 26 fractional bits, (rows, out_features).
            input_NK: dz'' as integers of 18 fractional bits, where the bottom model is trained.

        Raises:
            LocalProtocolError: no training step is open, or a shape is another batch's.

        Leaks:
            Nothing to the data owner but da, where the contract says so.
        """
        self._require(State.OPEN)
        assert self._request is not None
        expected = (self._request.handle.rows, self._contract.out_features)
        for gradient in (scaled_NK, *(() if input_NK is None else (input_NK,))):
            if gradient.shape != expected:
                raise LocalProtocolError(f"the gradient has shape {gradient.shape}")
        if (input_NK is not None) != self._contract.trains_bottom:
            raise LocalProtocolError("dz'' is given if and only if the bottom model is trained")
        self._state = State.UPDATE
        yield from self._guarded(self._send_update(scaled_NK, input_NK))
        if self._state is State.UPDATE and not self._due:  # nothing answers it, or the answer came already
            self._end_step()

    def choose(self, epoch: int, share_DK: RingArray) -> Iterator[Block]:
        """Go back to the end of an epoch: once, after the last training step.

        Args:
            epoch: which one.
            share_DK: W_label as it was then.

        Raises:
            LocalProtocolError: an exchange is under way, it was done already, or was not agreed on.

        Leaks:
            In `blind` nothing but that the training is over. In `joint` and `acml` the epoch, which depends
            on labels.
        """
        self._require(State.IDLE)
        if not self._contract.keeps_best or self._chosen:
            raise LocalProtocolError(
                "the contract has no best epoch to go back to, or it was gone back to already",
                hint='write keep = "best" under [train]',
            )
        self._chosen = True
        self._step += 1
        self._share = share_DK
        self._replaced()
        yield from self._guarded(self._choosing(epoch))

    def receive(self, block: Block) -> Iterable[Block]:
        """Take a block of the data owner's; return what answers it. Any error closes the machine for good.

        Raises:
            RemoteProtocolError: the block is not due.
            RingOverflowError: z left its range.
            LocalProtocolError: the machine is closed.
        """
        require_usable(self._state)
        try:
            return self._take(block)
        except BaseException:
            self._close()
            raise

    def prepare(self) -> None:
        """Compute ahead, while the peer works, what the next message needs; nothing that is sent changes."""

    def z(self) -> RingArray:
        """Return dithered z of the last request, uint64 (rows, out_features), once.

        Raises:
            LocalProtocolError: it has not arrived, or was taken already.
        """
        if self._z is None:
            raise LocalProtocolError("z has not arrived")
        taken, self._z = self._z, None
        return taken

    def _asking(self, request: Request) -> Iterator[Block]:
        asked = self._ask(request.handle.rows)
        yield Block(kind=Kind.REQUEST, step=self._step, payload=encode_request(request))
        yield from asked

    def _choosing(self, epoch: int) -> Iterator[Block]:
        if not self._contract.hides_choice:
            yield from blocks_of(Kind.CHOICE, [encode_epoch(epoch)], step=self._step, count=1)
            return
        plan = self._contract.plan(Product.CHOICE, 0)
        self._state = State.CHOICE
        self._due = [Collector(Kind.MASKED_CHOICE, step=self._step, sizes=plan.response_sizes)]
        chosen = selector(epoch, epochs=self._contract.label_owner.epochs)
        payloads = self._keys.encrypt(chosen, plan=plan, randomness=self._randomness)
        yield from blocks_of(Kind.CHOICE, payloads, step=self._step, count=len(plan.request_sizes))

    def _guarded(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Close the machine where what it sends fails or is not taken to its end."""
        try:
            yield from blocks
        except BaseException:
            self._close()
            raise

    def _take(self, block: Block) -> Iterable[Block]:
        waiting = next((each for each in self._due if not each.complete), None)
        if waiting is None:
            raise RemoteProtocolError(f"{block.kind.name} came where nothing was due")
        waiting.receive(block)
        if not all(each.complete for each in self._due):
            return ()
        messages, self._due = [each.payloads for each in self._due], []
        return self._complete(messages)

    def _complete(self, messages: Messages) -> Iterable[Block]:
        if self._state is State.INITIAL:
            self._state = State.IDLE
            return self._started(messages)
        if self._state is State.CHOICE:
            plan = self._contract.plan(Product.CHOICE, 0)
            came = self._keys.decrypt(messages[0], plan=plan)
            self._share = self._share + came.reshape(self._share.shape)
            self._state = State.IDLE
            return ()
        assert self._request is not None
        rows = self._request.handle.rows
        if self._state is State.FORWARD:
            return self._forward(messages, rows)
        self._update(messages, rows)
        self._end_step()
        return ()

    def _replaced(self) -> None:
        """Forget what depends on W: it is that of another epoch now."""

    def _release(self, z_NK: RingArray) -> None:
        """Keep z for the layer; the forward half is over."""
        assert self._request is not None
        check_z(z_NK)
        self._z = z_NK
        self._state = State.OPEN if self._request.training else State.IDLE

    def _end_step(self) -> None:
        self._updates += 1
        self._state = State.IDLE

    def _close(self) -> None:
        self._state, self._due = State.CLOSED, []

    def _require(self, state: State) -> None:
        require_usable(self._state)
        if self._state is not state:
            raise LocalProtocolError(
                f"the step is {self._state.name.lower()} where {state.name.lower()} was expected",
                hint="finish the step under way: backward once for each forward in training",
            )

    def _share_of_z_due(self, rows: int) -> Collector:
        sizes = matrix_sizes(rows, self._contract.out_features)
        return Collector(Kind.SHARE_OF_Z, step=self._step, sizes=sizes)

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

    def _start(self) -> Iterable[Block]:
        return ()

    @abstractmethod
    def _initial_due(self) -> Collector:
        """Return the message that the share of W_0 comes with."""

    @abstractmethod
    def _started(self, messages: Messages) -> Iterable[Block]:
        """Set the share of W_0, and return what answers it."""

    @abstractmethod
    def _forward_due(self, rows: int) -> list[Collector]:
        """Return the messages that follow a request."""

    @abstractmethod
    def _ask(self, rows: int) -> Iterable[Block]:
        """Return what is sent with a request."""

    @abstractmethod
    def _forward(self, messages: Messages, rows: int) -> Iterable[Block]:
        """Take what was due; release z, or return what answers it."""

    @abstractmethod
    def _send_update(self, scaled_NK: RingArray, input_NK: NDArray[np.int64] | None) -> Iterator[Block]:
        """Yield the update's messages; set what is due after them, or move the share."""

    @abstractmethod
    def _update(self, messages: Messages, rows: int) -> None:
        """Take what was due after them, and move the share."""
