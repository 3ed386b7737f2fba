"""What the data owner's machines have in common: requests, policy, dither, its share of W.

A machine takes blocks and yields blocks. A protocol adds what is due in each half of a step and what
answers it. Any error closes the machine for good. Shapes: N rows, D in_features, K out_features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product
from moiety.contract.schedule import RowHandle, RowIndices, Split
from moiety.crypto.kernel import matmul
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.crypto.secret import Secret
from moiety.errors import LocalProtocolError, RemoteProtocolError
from moiety.protocol.choice import Candidates, choice_due, decode_epoch
from moiety.protocol.dither import RowDigests, dither
from moiety.protocol.messages import Block, Kind, Request, decode_request
from moiety.protocol.product import Collector, Messages, masked_blocks, matrix_blocks
from moiety.protocol.state import Activations, DataOwnerState, State, require_usable

Charge = Callable[[Request, RowIndices], None]


class DataOwner(Secret, ABC):
    """One session's data owner.

    Args:
        contract: what was agreed.
        keys: the scheme's half that decrypts, where the data owner holds a key.
        evaluator: the scheme's half that computes, where the label owner holds one.
        features: where its activations come from.
        state: its share; None draws its part of W_0 and keeps its share secret from birth.
        charge: called with each request and its rows before anything is computed: counts the release,
            records it, or refuses it.
        randomness: where seeds come from.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        keys: KeyHolder | None = None,
        evaluator: Evaluator | None = None,
        features: Activations,
        state: DataOwnerState | None,
        charge: Charge,
        randomness: Randomness,
    ) -> None:
        self._contract = contract
        self._own_keys = keys
        self._own_evaluator = evaluator
        self._features = features
        self._charge = charge
        self._randomness = randomness
        self._state = State.INITIAL if state is None else State.IDLE
        self._share = np.zeros((0, 0), dtype=np.uint64) if state is None else state.share_DK
        self._dither_key = randomness.seed() if state is None else state.dither_key
        self._updates = 0 if state is None else state.updates
        self._step = 0
        self._next = divmod(self._updates, contract.steps_per_epoch) if contract.training else (0, 0)
        self._rows: RowIndices = np.zeros(0, dtype=np.int64)
        self._activation_ND: NDArray[np.int16] = np.zeros((0, 0), dtype=np.int16)
        self._digest_N: RowDigests = np.zeros((0, 0), dtype=np.uint8)
        self._request: Request | None = None
        self._due: list[Collector] = []
        self._chosen = False
        self.candidates = Candidates()

    def open(self, weight_seed: Seed) -> Iterator[Block]:
        """Draw own part of W_0, and return what the protocol sends of it.

        Raises:
            LocalProtocolError: it was drawn already.

        Leaks:
            Nothing: what leaves is masked, or encrypted under own key.
        """
        if self._state is not State.INITIAL:
            raise LocalProtocolError("the initial share was already sent")
        self._state = State.START
        return self._start(weight_seed)

    @property
    def idle(self) -> bool:
        """Whether no exchange is under way."""
        return self._state is State.IDLE

    def state(self) -> DataOwnerState:
        """Return what to keep; only between exchanges.

        Raises:
            LocalProtocolError: an exchange is under way.
        """
        if self._state is not State.IDLE:
            raise LocalProtocolError("the share is not defined within a step")
        return DataOwnerState(share_DK=self._share, dither_key=self._dither_key, updates=self._updates)

    def receive(self, block: Block) -> Iterator[Block]:
        """Take a block; yield the answer's blocks as they are computed.

        Any error, and an answer that is not taken to its end, closes the machine for good.

        Raises:
            RemoteProtocolError: the block is not due.
            PolicyError: the request would exceed the policy.
            LocalProtocolError: the initial share has not been sent, or the machine is closed.

        Leaks:
            To the label owner, dithered z of the requested batch, and shares.
        """
        if self._state is State.INITIAL:
            raise LocalProtocolError("the initial share has not been sent")
        require_usable(self._state)
        try:
            yield from self._take(block)
        except BaseException:
            self._state = State.CLOSED
            raise

    def prepare(self) -> None:
        """Compute ahead, while the peer works, what the next answer needs; nothing that is sent changes."""

    def _take(self, block: Block) -> Iterator[Block]:
        if self._state is State.IDLE:
            yield from self._accept(block)
            return
        next(each for each in self._due if not each.complete).receive(block)
        if all(each.complete for each in self._due):
            messages, self._due = [each.payloads for each in self._due], []
            yield from self._complete(messages)

    def _complete(self, messages: Messages) -> Iterator[Block]:
        if self._state is State.FORWARD:
            yield from self._forward(messages)
            self._after_forward()
            return
        if self._state is State.UPDATE:
            yield from self._update(messages)
            self._updates += 1
            self._keep_candidate()
        elif self._state is State.CHOICE:
            yield from self._choose(messages[0])
        else:
            yield from self._started(messages)
        self._state = State.IDLE

    def _accept(self, block: Block) -> Iterator[Block]:
        if block.kind is Kind.CHOICE:
            yield from self._accept_choice(block)
            return
        place = (block.kind, block.step, block.index, block.count)
        if place != (Kind.REQUEST, self._step + 1, 0, 1):
            raise RemoteProtocolError(
                f"{block.kind.name} of step {block.step}, block {block.index} of {block.count}, came "
                f"where REQUEST of step {self._step + 1}, block 0 of 1, was due"
            )
        request = decode_request(block.payload)
        self._check(request)
        rows = self._contract.schedule.rows_of(request.handle)
        self._charge(request, rows)
        self._step, self._request, self._rows = block.step, request, rows
        self._activation_ND, self._digest_N = self._features.batch(rows, training=request.training)
        self._due = self._forward_due(len(rows))
        self._state = State.FORWARD
        yield from self._begin(request)
        if not self._due:
            yield from self._complete([])

    def _check(self, request: Request) -> None:
        handle = request.handle
        if request.updates != self._updates:
            raise RemoteProtocolError(f"the peer counts {request.updates} updates, this side {self._updates}")
        if not self._contract.schedule.contains(handle):
            raise RemoteProtocolError("the request is for a batch that is not in the schedule")
        if request.training:
            self._check_training(handle)

    def _check_training(self, handle: RowHandle) -> None:
        asked = (handle.epoch, handle.batch)
        if self._chosen:
            raise RemoteProtocolError("a training batch came after the best epoch was chosen")
        if not self._contract.training or handle.split is not Split.TRAIN or asked != self._next:
            raise RemoteProtocolError(
                f"training batch {asked} of split {handle.split.name} came where {self._next} was due"
            )
        count = len(self._contract.schedule.batches(Split.TRAIN, epoch=handle.epoch))
        last = handle.batch + 1 == count
        self._next = (handle.epoch + 1, 0) if last else (handle.epoch, handle.batch + 1)

    def require_end(self) -> None:
        """Refuse an end that the contract does not allow: within an epoch, or early and not declared.

        Raises:
            RemoteProtocolError: the training is not where it may end.
        """
        epoch, batch = self._next
        agreed = self._contract.label_owner
        if batch or not epoch or (epoch < agreed.epochs and not agreed.may_stop):
            raise RemoteProtocolError(
                f"the peer ended the training after epoch {epoch}, batch {batch}, of {agreed.epochs} epochs, "
                "which the contract does not allow"
            )

    def _keep_candidate(self) -> None:
        """Keep the share of W at an epoch's end, whatever the label owner thinks of it."""
        if self._contract.keeps_best and not self._next[1]:
            self.candidates.keep(self._share)

    def _accept_choice(self, block: Block) -> Iterator[Block]:
        if not self._contract.keeps_best or self._chosen or block.step != self._step + 1:
            raise RemoteProtocolError(f"CHOICE of step {block.step} came where none was due")
        self.require_end()
        self._chosen, self._step = True, block.step
        self._due = [choice_due(self._contract, step=self._step)]
        self._state = State.CHOICE
        yield from self._take(block)

    def _choose(self, payloads: list[bytes]) -> Iterator[Block]:
        """Go back to an epoch's share: blindly, or by its name."""
        if self._contract.hides_choice:
            yield from self._choose_blindly(payloads)
        else:
            epoch = decode_epoch(payloads[0], ended=len(self.candidates))
            self._features.go_back(epoch)
            self._share = self.candidates[epoch]
        self._replaced()
        self.candidates = Candidates()

    def _choose_blindly(self, payloads: list[bytes]) -> Iterator[Block]:
        shares: list[RingArray] = []
        yield from masked_blocks(
            Kind.MASKED_CHOICE,
            self._evaluator,
            self.candidates.matrix(epochs=self._contract.label_owner.epochs),
            payloads,
            plan=self._contract.plan(Product.CHOICE, 0),
            step=self._step,
            randomness=self._randomness,
            shares=shares,
        )
        self._share = np.concatenate(shares).reshape(self._share.shape)

    def _replaced(self) -> None:
        """Forget what depends on W: it is that of another epoch now."""

    def _after_forward(self) -> None:
        assert self._request is not None
        if self._request.training:
            self._due = self._update_due(len(self._rows))
            self._state = State.UPDATE
        else:
            self._state = State.IDLE

    def _share_of_z(self, share_NK: RingArray) -> Iterator[Block]:
        """Send own share of x W_label, x W_data and the dither: with the peer's share, that is z."""
        rho = dither(self._dither_key, self._share, self._digest_N)
        own = share_NK + matmul(self._activation_ND, self._share) + rho
        return matrix_blocks(Kind.SHARE_OF_Z, own, step=self._step)

    @property
    def _keys(self) -> KeyHolder:
        assert self._own_keys is not None
        return self._own_keys

    @property
    def _evaluator(self) -> Evaluator:
        assert self._own_evaluator is not None
        return self._own_evaluator

    @abstractmethod
    def _start(self, weight_seed: Seed) -> Iterator[Block]:
        """Return own part of W_0 to send; set what is due after it, or the share and the state."""

    def _started(self, messages: Messages) -> Iterator[Block]:
        """Take what was due then, set the share, and yield what answers it."""
        del messages
        raise AssertionError("nothing is due before the first request")

    def _begin(self, request: Request) -> Iterable[Block]:  # noqa: ARG002 - for protocols that answer it
        """Return what answers a request at once."""
        return ()

    @abstractmethod
    def _forward_due(self, rows: int) -> list[Collector]:
        """Return the messages that the forward half waits for."""

    @abstractmethod
    def _forward(self, messages: Messages) -> Iterator[Block]:
        """Yield what answers them."""

    @abstractmethod
    def _update_due(self, rows: int) -> list[Collector]:
        """Return the messages that the update waits for."""

    @abstractmethod
    def _update(self, messages: Messages) -> Iterator[Block]:
        """Move the share, and yield what answers them."""
