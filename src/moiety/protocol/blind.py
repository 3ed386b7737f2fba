"""The protocol `blind`: the key is the label owner's, and the data owner learns nothing.

One step for a batch x of N rows, with W = W_data + W_label:

    label owner -> data owner   REQUEST, WEIGHTS         Enc(W_label)
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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from moiety.contract import Contract
from moiety.crypto.kernel import matmul
from moiety.crypto.sampling import Randomness, Seed, expand_words
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.crypto.secret import Secret
from moiety.dither import RowDigests, dither
from moiety.errors import LocalProtocolError, RemoteProtocolError
from moiety.messages import Block, Kind, Request, decode_request, encode_request
from moiety.protocol.product import Collector, blocks_of, matrix_blocks, matrix_sizes, read_matrix
from moiety.ring import WEIGHT_BITS, RingArray, check_z, encode
from moiety.schedule import RowHandle, RowIndices, Split


class State(Enum):
    """Where a machine stands; every message is acceptable in one state only."""

    INITIAL = auto()
    IDLE = auto()
    FORWARD = auto()
    OPEN = auto()
    UPDATE = auto()
    CLOSED = auto()


@dataclass(frozen=True, kw_only=True)
class Features:
    """The data owner's prepared table.

    Args:
        activation_ND: int16 activations of 12 fractional bits, (rows, in_features).
        digest_N: content digests of the rows, from `dither.row_digests`.
    """

    activation_ND: NDArray[np.int16]
    digest_N: RowDigests


@dataclass(frozen=True, kw_only=True, repr=False)
class DataOwnerState(Secret):
    """What the data owner keeps of the interactive layer between sessions.

    Args:
        share_DK: W_data.
        dither_key: keys rho; as long-lived as the share.
        updates: steps made.
    """

    share_DK: RingArray
    dither_key: Seed
    updates: int


def initial_weights(seed: Seed, *, in_features: int, out_features: int) -> RingArray:
    """Draw W_0 uniform in +-1 / sqrt(in_features), as `torch.nn.Linear` does, in ring integers."""
    words = expand_words(seed, b"initial weights", index=0, count=in_features * out_features)
    uniform = np.ldexp((words >> np.uint64(11)).astype(np.float64), -52) - 1.0
    scaled = uniform.reshape(in_features, out_features) / np.sqrt(in_features)
    return encode(scaled, scale_bits=WEIGHT_BITS)


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
        _require_usable(self._state)
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


class BlindLabelOwner(Secret):
    """The key holder: asks for z, and encrypts its share of W and the scaled gradients.

    Args:
        contract: what was agreed.
        keys: the scheme's half that decrypts; lives for this session.
        share_DK: W_label from an earlier session; None waits for the initial share.
        updates: steps made in earlier sessions.
        randomness: where seeds come from.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        keys: KeyHolder,
        share_DK: RingArray | None = None,
        updates: int = 0,
        randomness: Randomness,
    ) -> None:
        self._contract = contract
        self._keys = keys
        self._randomness = randomness
        shape = (contract.in_features, contract.out_features)
        self._share = np.zeros(shape, dtype=np.uint64) if share_DK is None else share_DK
        self._updates = updates
        self._step = 0
        self._request: Request | None = None
        self._z: RingArray | None = None
        self._due: list[Collector] = []
        self._state = State.IDLE
        if share_DK is None:
            self._state = State.INITIAL
            self._due = [Collector(Kind.INITIAL_SHARE, step=0, sizes=matrix_sizes(*shape))]

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

    def request(self, handle: RowHandle, *, training: bool) -> Iterator[Block]:
        """Ask for z of a batch: the request, then Enc(W_label).

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
        self._step += 1
        self._request = Request(handle=handle, training=training, updates=self._updates)
        plan = self._contract.forward_plan(handle.rows)
        self._due = [
            Collector(Kind.MASKED_Z, step=self._step, sizes=plan.response_sizes),
            Collector(
                Kind.SHARE_OF_Z,
                step=self._step,
                sizes=matrix_sizes(handle.rows, self._contract.out_features),
            ),
        ]
        self._state = State.FORWARD
        yield Block(kind=Kind.REQUEST, step=self._step, payload=encode_request(self._request))
        payloads = self._keys.encrypt(self._share, plan=plan, randomness=self._randomness)
        count = len(plan.request_sizes)
        yield from blocks_of(Kind.WEIGHTS, payloads, step=self._step, count=count)

    def update(self, scaled_NK: RingArray) -> Iterator[Block]:
        """Send Enc(dz') for the open step.

        Args:
            scaled_NK: dz' as ring integers of 26 fractional bits, (rows, out_features).

        Raises:
            LocalProtocolError: no training step is open, or the shape is another batch's.

        Leaks:
            Nothing to the data owner (RLWE).
        """
        self._require(State.OPEN)
        assert self._request is not None
        rows = self._request.handle.rows
        if scaled_NK.shape != (rows, self._contract.out_features):
            raise LocalProtocolError(f"the gradient has shape {scaled_NK.shape}")
        plan = self._contract.update_plan(rows)
        self._due = [Collector(Kind.MASKED_UPDATE, step=self._step, sizes=plan.response_sizes)]
        self._state = State.UPDATE
        payloads = self._keys.encrypt(scaled_NK, plan=plan, randomness=self._randomness)
        count = len(plan.request_sizes)
        yield from blocks_of(Kind.GRADIENTS, payloads, step=self._step, count=count)

    def receive(self, block: Block) -> None:
        """Take a block of the data owner's. Any error closes the machine for good.

        Raises:
            RemoteProtocolError: the block is not due.
            RingOverflowError: z left its range.
            LocalProtocolError: the machine is closed.
        """
        _require_usable(self._state)
        try:
            self._take(block)
        except BaseException:
            self._state, self._due = State.CLOSED, []
            raise

    def _take(self, block: Block) -> None:
        waiting = next((each for each in self._due if not each.complete), None)
        if waiting is None:
            raise RemoteProtocolError(f"{block.kind.name} came where nothing was due")
        waiting.receive(block)
        if all(each.complete for each in self._due):
            finished, self._due = self._due, []
            self._finish([each.payloads for each in finished])

    def z(self) -> RingArray:
        """Return dithered z of the last request, uint64 (rows, out_features), once.

        Raises:
            LocalProtocolError: it has not arrived, or was taken already.
        """
        if self._z is None:
            raise LocalProtocolError("z has not arrived")
        taken, self._z = self._z, None
        return taken

    def _finish(self, messages: list[list[bytes]]) -> None:
        columns = self._contract.out_features
        if self._state is State.INITIAL:
            self._share, self._state = read_matrix(messages[0], columns), State.IDLE
            return
        assert self._request is not None
        rows = self._request.handle.rows
        if self._state is State.FORWARD:
            share = self._keys.decrypt(messages[0], plan=self._contract.forward_plan(rows))
            z_NK = share + read_matrix(messages[1], columns)
            check_z(z_NK)
            self._z = z_NK
            self._state = State.OPEN if self._request.training else State.IDLE
            return
        update = self._keys.decrypt(messages[0], plan=self._contract.update_plan(rows))
        self._share = self._share - update
        self._updates += 1
        self._state = State.IDLE

    def _require(self, state: State) -> None:
        _require_usable(self._state)
        if self._state is not state:
            raise LocalProtocolError(
                f"the step is {self._state.name.lower()} where {state.name.lower()} was expected",
                hint="finish the step under way: backward once for each forward in training",
            )


def _require_usable(state: State) -> None:
    if state is State.CLOSED:
        raise LocalProtocolError("the protocol stopped at an earlier error", hint="start a new run")
