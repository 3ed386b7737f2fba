"""The key holder of `blind`: asks for z, and encrypts its share of W and the scaled gradients."""

from collections.abc import Iterator

import numpy as np

from moiety.contract import Contract
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import KeyHolder
from moiety.crypto.secret import Secret
from moiety.errors import LocalProtocolError, RemoteProtocolError
from moiety.messages import Block, Kind, Request, encode_request
from moiety.protocol.blind.state import State, require_usable
from moiety.protocol.product import Collector, blocks_of, matrix_sizes, read_matrix
from moiety.ring import RingArray, check_z
from moiety.schedule import RowHandle


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
        require_usable(self._state)
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
        require_usable(self._state)
        if self._state is not state:
            raise LocalProtocolError(
                f"the step is {self._state.name.lower()} where {state.name.lower()} was expected",
                hint="finish the step under way: backward once for each forward in training",
            )
