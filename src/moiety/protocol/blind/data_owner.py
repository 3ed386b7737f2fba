"""The evaluator of `blind`: multiplies ciphertexts by its features, and never decrypts anything."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from moiety.contract import Contract
from moiety.crypto.kernel import matmul
from moiety.crypto.sampling import Randomness, Seed, expand_words
from moiety.crypto.scheme import Evaluator
from moiety.crypto.secret import Secret
from moiety.dither import dither
from moiety.errors import LocalProtocolError, RemoteProtocolError
from moiety.messages import Block, Kind, Request, decode_request
from moiety.protocol.blind.state import DataOwnerState, Features, State, initial_weights, require_usable
from moiety.protocol.product import Collector, matrix_blocks
from moiety.ring import RingArray
from moiety.schedule import RowHandle, RowIndices, Split


class BlindDataOwner(Secret):
    """The evaluator: multiplies ciphertexts by its features, and never decrypts anything.

    Args:
        contract: what was agreed.
        evaluator: the scheme's half that computes.
        features: its prepared table.
        state: its share; None draws W_0 and keeps its share secret from birth.
        charge: called with the rows of each request before anything is computed: counts the release,
            records it, or refuses it.
        randomness: where seeds come from.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        evaluator: Evaluator,
        features: Features,
        state: DataOwnerState | None,
        charge: Callable[[RowIndices], None],
        randomness: Randomness,
    ) -> None:
        self._contract = contract
        self._evaluator = evaluator
        self._features = features
        self._charge = charge
        self._randomness = randomness
        self._state = State.INITIAL if state is None else State.IDLE
        self._share = np.zeros((0, 0), dtype=np.uint64) if state is None else state.share_DK
        self._dither_key = randomness.seed() if state is None else state.dither_key
        self._updates = 0 if state is None else state.updates
        self._step = 0
        self._next = (0, 0)
        self._rows: RowIndices = np.zeros(0, dtype=np.int64)
        self._request: Request | None = None
        self._due: Collector | None = None

    def open(self, weight_seed: Seed) -> Iterator[Block]:
        """Draw W_0, keep a uniform mask as own share and send the difference.

        Leaks:
            Nothing: W_0 minus a value uniform modulo 2^64 is uniform.
        """
        if self._state is not State.INITIAL:
            raise LocalProtocolError("the initial share was already sent")
        shape = (self._contract.in_features, self._contract.out_features)
        weights = initial_weights(weight_seed, in_features=shape[0], out_features=shape[1])
        words = expand_words(self._randomness.seed(), b"initial mask", index=0, count=shape[0] * shape[1])
        self._share = words.reshape(shape)
        self._state = State.IDLE
        return matrix_blocks(Kind.INITIAL_SHARE, weights - self._share, step=0)

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

    def _take(self, block: Block) -> Iterator[Block]:
        if self._state is State.IDLE:
            self._accept(block)
            return
        assert self._due is not None
        if self._due.receive(block):
            answer = self._forward if self._state is State.FORWARD else self._update
            yield from answer(self._due.payloads)

    def _accept(self, block: Block) -> None:
        place = (block.kind, block.step, block.index, block.count)
        if place != (Kind.REQUEST, self._step + 1, 0, 1):
            raise RemoteProtocolError(
                f"{block.kind.name} of step {block.step}, block {block.index} of {block.count}, came "
                f"where REQUEST of step {self._step + 1}, block 0 of 1, was due"
            )
        request = decode_request(block.payload)
        self._check(request)
        rows = self._contract.schedule.rows_of(request.handle)
        self._charge(rows)
        self._step, self._request, self._rows = block.step, request, rows
        plan = self._contract.forward_plan(len(rows))
        self._due = Collector(Kind.WEIGHTS, step=self._step, sizes=plan.request_sizes)
        self._state = State.FORWARD

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
        if not self._contract.training or handle.split is not Split.TRAIN or asked != self._next:
            raise RemoteProtocolError(
                f"training batch {asked} of split {handle.split.name} came where {self._next} was due"
            )
        count = len(self._contract.schedule.batches(Split.TRAIN, epoch=handle.epoch))
        last = handle.batch + 1 == count
        self._next = (handle.epoch + 1, 0) if last else (handle.epoch, handle.batch + 1)

    def _forward(self, payloads: list[bytes]) -> Iterator[Block]:
        activation_ND = self._features.activation_ND[self._rows]
        plan = self._contract.forward_plan(len(self._rows))
        count = len(plan.response_sizes)
        shares: list[RingArray] = []
        answers = self._evaluator.respond(activation_ND, payloads, plan=plan, randomness=self._randomness)
        for index, (payload, share) in enumerate(answers):
            shares.append(share)
            yield Block(kind=Kind.MASKED_Z, step=self._step, payload=payload, index=index, count=count)
        yield from matrix_blocks(Kind.SHARE_OF_Z, self._share_of_z(activation_ND, shares), step=self._step)
        self._after_forward(len(self._rows))

    def _share_of_z(self, activation_ND: NDArray[np.int16], shares: list[RingArray]) -> RingArray:
        rho = dither(self._dither_key, self._share, self._features.digest_N[self._rows])
        return np.concatenate(shares) + matmul(activation_ND, self._share) + rho

    def _after_forward(self, rows: int) -> None:
        assert self._request is not None
        if not self._request.training:
            self._state, self._due = State.IDLE, None
            return
        plan = self._contract.update_plan(rows)
        self._due = Collector(Kind.GRADIENTS, step=self._step, sizes=plan.request_sizes)
        self._state = State.UPDATE

    def _update(self, payloads: list[bytes]) -> Iterator[Block]:
        transposed_DN = np.ascontiguousarray(self._features.activation_ND[self._rows].T)
        plan = self._contract.update_plan(len(self._rows))
        count = len(plan.response_sizes)
        shares: list[RingArray] = []
        answers = self._evaluator.respond(transposed_DN, payloads, plan=plan, randomness=self._randomness)
        for index, (payload, share) in enumerate(answers):
            shares.append(share)
            yield Block(kind=Kind.MASKED_UPDATE, step=self._step, payload=payload, index=index, count=count)
        self._share = self._share - np.concatenate(shares)
        self._updates += 1
        self._state, self._due = State.IDLE, None
