"""What the label owner's machines have in common: requests, z, its share of W.

`request` and `update` yield what to send, `receive` takes a block and returns what answers it. A protocol
adds what its messages carry, and what z is. Any error closes the machine for good. Shapes: N rows, D
in_features, K out_features.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product, Role
from moiety.contract.schedule import RowHandle
from moiety.crypto.ring import RingArray, check_z
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.errors import LocalProtocolError
from moiety.protocol.choice import encode_epoch, selector
from moiety.protocol.machine import Machine, Matrices, Store
from moiety.protocol.messages import Block, Kind, Request, encode_request
from moiety.protocol.state import State, require_usable


class LabelOwner(Machine):
    """One session's label owner.

    Args:
        contract: what was agreed.
        keys: the part of the scheme that decrypts, where the label owner holds a key.
        evaluator: the part of the scheme that computes, where the data owner holds one.
        share_DK: W_label from an earlier session; None waits for the initial share.
        updates: steps made in earlier sessions.
        weight_seed: of its part of W_0, in protocols where it draws one.
        store: keeps encrypted activations that serve the whole session; memory if left out.
        randomness: where seeds come from.
    """

    role = Role.LABEL_OWNER

    def __init__(
        self,
        contract: Contract,
        *,
        keys: KeyHolder | None = None,
        evaluator: Evaluator | None = None,
        share_DK: RingArray | None = None,
        updates: int = 0,
        weight_seed: Seed | None = None,
        store: Store | None = None,
        randomness: Randomness,
    ) -> None:
        super().__init__(contract, keys=keys, evaluator=evaluator, store=store, randomness=randomness)
        self._weight_seed = weight_seed
        self._updates = updates
        self._z: RingArray | None = None
        self._epoch = 0
        if share_DK is None:
            self._share = np.zeros((contract.in_features, contract.out_features), dtype=np.uint64)
            self._begin(State.INITIAL, contract.flow.opening)
        else:
            self._state, self._share = State.IDLE, share_DK

    @property
    def waiting(self) -> bool:
        """Whether blocks of the data owner are expected."""
        return bool(self._expected)

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
        opens = self._state is State.INITIAL and self._speaks
        return self._guarded(self._speak()) if opens else ()

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
        request = Request(handle=handle, training=training, updates=self._updates)
        self._begin_exchange(request)
        yield from self._guarded(self._ask(request))

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
        expected = (self._batch_rows, self._contract.out_features)
        for gradient in (scaled_NK, *(() if input_NK is None else (input_NK,))):
            if gradient.shape != expected:
                raise LocalProtocolError(f"the gradient has shape {gradient.shape}")
        if (input_NK is not None) != self._contract.trains_bottom:
            raise LocalProtocolError("dz'' is given if and only if the bottom model is trained")
        self._scaled_NK = scaled_NK
        self._input_NK = np.zeros((0, 0), dtype=np.int64) if input_NK is None else input_NK
        self._begin_update()
        yield from self._guarded(self._speak())

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
        self._share, self._epoch = share_DK, epoch
        self._reuse.weights_replaced()
        self._begin(State.CHOICE, self._contract.flow.choice)
        yield from self._guarded(self._speak())

    def receive(self, block: Block) -> Iterable[Block]:
        """Take a block of the data owner's; return what answers it. Any error closes the machine for good.

        Raises:
            RemoteProtocolError: the block is not expected.
            RingOverflowError: z left its range.
            LocalProtocolError: the machine is closed.
        """
        require_usable(self._state)
        try:
            return self._take(block)
        except BaseException:
            self._close()
            raise

    def z(self) -> RingArray:
        """Return dithered z of the last request, uint64 (rows, out_features), once.

        Raises:
            LocalProtocolError: it has not arrived, or was taken already.
        """
        if self._z is None:
            raise LocalProtocolError("z has not arrived")
        taken, self._z = self._z, None
        return taken

    def _ask(self, request: Request) -> Iterator[Block]:
        speaks = self._speaks
        yield Block(kind=Kind.REQUEST, step=self._step, payload=encode_request(request))
        if speaks:
            yield from self._speak()

    def _over(self) -> None:
        if self._state is State.FORWARD:
            self._release(self._opened_z())
            return
        if self._state is State.UPDATE:
            self._share = self._moved()
            self._updates += 1
            del self._scaled_NK, self._input_NK
        elif self._state is State.INITIAL:
            self._share = self._initial()
        elif self._contract.hides_choice:  # a named choice leaves nothing to add
            self._share = self._share + self._product(Product.CHOICE).reshape(self._share.shape)
        self._state = State.IDLE

    def _release(self, z_NK: RingArray) -> None:
        """Keep z for the layer; the forward part is over."""
        check_z(z_NK)
        self._z = z_NK
        self._state = State.OPEN if self._asked.training else State.IDLE

    def _matrices(self) -> Matrices:
        return super()._matrices() | {Kind.CHOICE: self._choice}

    def _choice(self) -> RingArray | bytes:
        """Return the selector of an epoch, or its name where it is not hidden."""
        if self._contract.hides_choice:
            return selector(self._epoch, epochs=self._contract.label_owner.epochs)
        return encode_epoch(self._epoch)

    def _require(self, state: State) -> None:
        require_usable(self._state)
        if self._state is not state:
            raise LocalProtocolError(
                f"the step is {self._state.name.lower()} where {state.name.lower()} was expected",
                hint="finish the step under way: backward once for each forward in training",
            )

    @abstractmethod
    def _opened_z(self) -> RingArray:
        """Return dithered z, both shares added up, once the forward part is over."""

    _scaled_NK: RingArray
    _input_NK: NDArray[np.int64]
