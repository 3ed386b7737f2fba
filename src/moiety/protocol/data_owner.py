"""What the data owner's machines have in common: requests, policy, dither, its share of W.

A machine takes blocks and yields blocks. A protocol adds what its messages carry. Any error closes the
machine for good. Shapes: N rows, D in_features, K out_features.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product, Role
from moiety.contract.schedule import RowHandle, RowIndices, Split
from moiety.crypto.kernel import matmul
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.errors import LocalProtocolError, RemoteProtocolError
from moiety.protocol.choice import Candidates, decode_epoch
from moiety.protocol.dither import RowDigests, dither
from moiety.protocol.machine import Machine, Matrices
from moiety.protocol.messages import Block, Kind, Request, decode_request
from moiety.protocol.state import Activations, DataOwnerState, State, require_usable

Charge = Callable[[Request, RowIndices], None]


class DataOwner(Machine):
    """One session's data owner.

    Args:
        contract: what was agreed.
        keys: the part of the scheme that decrypts, where the data owner holds a key.
        evaluator: the part of the scheme that computes, where the label owner holds one.
        features: where its activations come from.
        state: its share; None draws its part of W_0 and keeps its share secret from birth.
        charge: called with each request and its rows before anything is computed: counts the release,
            records it, or refuses it.
        randomness: where seeds come from.
    """

    role = Role.DATA_OWNER

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
        super().__init__(contract, keys=keys, evaluator=evaluator, randomness=randomness)
        self._features = features
        self._charge = charge
        self._dither_key = randomness.seed() if state is None else state.dither_key
        if state is not None:
            self._state, self._share, self._updates = State.IDLE, state.share_DK, state.updates
        self._next = divmod(self._updates, contract.steps_per_epoch) if contract.training else (0, 0)
        self._activation_ND: NDArray[np.int16] = np.zeros((0, 0), dtype=np.int16)
        self._digest_N: RowDigests = np.zeros((0, 0), dtype=np.uint8)
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
        self._weight_seed = weight_seed
        self._begin(State.START, self._contract.flow.opening)
        return self._guarded(self._speak()) if self._speaks else iter(())

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
            RemoteProtocolError: the block is not expected.
            PolicyError: the request would exceed the policy.
            LocalProtocolError: the initial share has not been sent, or the machine is closed.

        Leaks:
            To the label owner, dithered z of the requested batch, and shares.
        """
        if self._state is State.INITIAL:
            raise LocalProtocolError("the initial share has not been sent")
        require_usable(self._state)
        yield from self._guarded(self._answer(block))

    def _answer(self, block: Block) -> Iterator[Block]:
        if self._state is not State.IDLE:
            yield from self._take(block)
        elif block.kind is Kind.CHOICE:
            yield from self._accept_choice(block)
        else:
            yield from self._accept(block)

    def _over(self) -> None:
        if self._state is State.FORWARD and self._asked.training:
            self._begin_update()
            return
        if self._state is State.UPDATE:
            self._share = self._moved()
            self._learn()
            self._updates += 1
            self._keep_candidate()
        elif self._state is State.CHOICE:
            self._go_back()
        elif self._state is State.START:
            self._share = self._initial()
        self._state = State.IDLE

    def _accept(self, block: Block) -> Iterator[Block]:
        place = (block.kind, block.step, block.index, block.count)
        if place != (Kind.REQUEST, self._step + 1, 0, 1):
            raise RemoteProtocolError(
                f"{block.kind.name} of step {block.step}, block {block.index} of {block.count}, came "
                f"where REQUEST of step {self._step + 1}, block 0 of 1, was expected"
            )
        request = decode_request(block.payload)
        # Checked against the public schedule and charged before a row is touched: an answer, or the time it
        # takes, must not come before the policy (ADR 0008).
        self._check(request)
        rows = self._contract.schedule.rows_of(request.handle)
        self._charge(request, rows)
        self._step = block.step
        self._activation_ND, self._digest_N = self._features.batch(rows, training=request.training)
        self._begin_exchange(request)
        if self._speaks:
            yield from self._speak()

    def _check(self, request: Request) -> None:
        handle = request.handle
        # A wrong count would make Enc(W) of other weights pass for these, and z be of a W that neither side
        # has.
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
        # In the order of the schedule and once each: a label owner that could choose rows could choose
        # combinations of them (ADR 0006).
        if not self._contract.training or handle.split is not Split.TRAIN or asked != self._next:
            raise RemoteProtocolError(
                f"training batch {asked} of split {handle.split.name} came where {self._next} was expected"
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
        # Every epoch's, without asking whether it was good: which is depends on labels (ADR 0018).
        if self._contract.keeps_best and not self._next[1]:
            self.candidates.keep(self._share)

    def _accept_choice(self, block: Block) -> Iterator[Block]:
        if not self._contract.keeps_best or self._chosen or block.step != self._step + 1:
            raise RemoteProtocolError(f"CHOICE of step {block.step} came where none was expected")
        # Only where the training may end: a choice is the last word, and nothing trains after it.
        self.require_end()
        self._chosen, self._step = True, block.step
        self._begin(State.CHOICE, self._contract.flow.choice)
        yield from self._take(block)

    def _go_back(self) -> None:
        """Return to an epoch's share: blindly, or by its name."""
        if self._contract.hides_choice:
            self._share = self._product(Product.CHOICE).reshape(self._share.shape)
        else:
            epoch = decode_epoch(self._plain.pop(Kind.CHOICE)[0], ended=len(self.candidates))
            self._features.go_back(epoch)
            self._share = self.candidates[epoch]
        self._reuse.weights_replaced()
        self.candidates = Candidates()

    def _matrices(self) -> Matrices:
        epochs = self._contract.label_owner.epochs
        return super()._matrices() | {Kind.MASKED_CHOICE: lambda: self.candidates.matrix(epochs=epochs)}

    def _share_of_z(self, share_NK: RingArray) -> RingArray:
        """Return own share of x W_label, x W_data and the dither: with the peer's share, that is z."""
        # Keyed by what the row holds and by this W, so that asking again cannot average it away (ADR 0005).
        rho = dither(self._dither_key, self._share, self._digest_N)
        return share_NK + matmul(self._activation_ND, self._share) + rho

    def _learn(self) -> None:
        """Train what is in front of the layer, where the update showed it a gradient."""
