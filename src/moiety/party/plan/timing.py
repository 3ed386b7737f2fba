"""How long one batch takes on this machine: both parties' machines run it a few times, and nothing is sent.

Batches of the real size, keys of the real parameters, activations and gradients of zeros: the work does not
depend on values. Every block is put into a frame and taken out of it. Imported by the forecast.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.schedule import RowIndices, Split
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.net.frame import NO_CONTRACT, NO_SESSION, Frame, decode_frame, encode_frame
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.dither import RowDigests, row_digests
from moiety.protocol.handshake import make_keys, public_key, read_public_key
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.messages import Block

REPETITIONS: Final = 3
BUDGET_SECONDS: Final = 6.0
"""After this long no repetition is begun."""
_EPOCHS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Work:
    """Seconds that each party computes."""

    label_owner: float
    data_owner: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What one batch takes.

    Args:
        opening: keys and W_0.
        fresh: an exchange for which the evaluator is sent every matrix.
        kept: one for which it has what may be kept.
    """

    opening: Work
    fresh: Work
    kept: Work


def calibrate(
    contract: Contract, rows: int, *, training: bool, randomness: Randomness, threads: int
) -> Calibration:
    """Run a batch of `rows` a few times and return the medians.

    Args:
        contract: of the run; its parameters are used.
        rows: of the batch.
        training: with an update; otherwise forward only.
        randomness: where seeds come from.
        threads: of the kernel, at both parties.
    """
    sized = _sized(contract, rows)
    samples: list[tuple[Work, Work, Work]] = []
    begin = time.perf_counter()
    while not samples or (len(samples) < REPETITIONS and time.perf_counter() - begin < BUDGET_SECONDS):
        pair = _Pair(sized, randomness=randomness, threads=threads)
        fresh = pair.exchange(0, training=training)
        if training:
            pair.exchange(1, training=False)  # after it the evaluator has the matrix of z again
        samples.append((pair.opening, fresh, pair.exchange(1, training=training)))
    opening, fresh, kept = (_median(each) for each in zip(*samples, strict=True))
    if training:
        order = _order_seconds(contract)
        fresh, kept = (_longer(each, order) for each in (fresh, kept))
    return Calibration(opening=opening, fresh=fresh, kept=kept)


class _Pair:
    """Both parties, each with a stopwatch."""

    def __init__(self, contract: Contract, *, randomness: Randomness, threads: int) -> None:
        self._contract = contract
        self._seconds = dict.fromkeys(Role, 0.0)
        self._randomness, self._threads = randomness, threads
        label_keys, data_evaluator = self._halves(Role.LABEL_OWNER)
        data_keys, label_evaluator = self._halves(Role.DATA_OWNER)
        flow = contract.flow
        self._label_owner: LabelOwner = flow.label_owner(
            contract,
            keys=label_keys,
            evaluator=label_evaluator,
            weight_seed=None if flow.initial is None else randomness.seed(),
            randomness=randomness,
        )
        self._data_owner: DataOwner = flow.data_owner(
            contract,
            keys=data_keys,
            evaluator=data_evaluator,
            features=_Zeros(contract),
            state=None,
            charge=lambda *_: None,
            randomness=randomness,
        )
        self._send(Role.DATA_OWNER, self._data_owner.open(randomness.seed()))
        self._send(Role.LABEL_OWNER, self._label_owner.start())
        self.opening = self._taken()

    def exchange(self, epoch: int, *, training: bool) -> Work:
        """Run the only batch of an epoch."""
        contract = self._contract
        (handle,) = contract.schedule.batches(Split.TRAIN, epoch=epoch)
        self._send(Role.LABEL_OWNER, self._label_owner.request(handle, training=training))
        self._label_owner.z()
        if training:
            shape = (handle.rows, contract.out_features)
            input_NK = np.zeros(shape, dtype=np.int64) if contract.trains_bottom else None
            update = self._label_owner.update(np.zeros(shape, dtype=np.uint64), input_NK)
            self._send(Role.LABEL_OWNER, update)
        return self._taken()

    def _halves(self, key_holder: Role) -> tuple[KeyHolder | None, Evaluator | None]:
        contract, threads = self._contract, self._threads
        with self._timing(key_holder):
            keys = make_keys(contract, key_holder, randomness=self._randomness, threads=threads)
            shown = public_key(keys)
        with self._timing(key_holder.peer):
            return keys, read_public_key(contract, key_holder, shown, threads=threads)

    def _send(self, sender: Role, blocks: Iterable[Block]) -> None:
        for block in self._computed(sender, blocks):
            answer = self._received(sender.peer, block)
            self._send(sender.peer, answer)

    def _computed(self, sender: Role, blocks: Iterable[Block]) -> Iterator[Block]:
        iterator = iter(blocks)
        while True:
            with self._timing(sender):
                block = next(iterator, None)
            if block is None:
                return
            yield block

    def _received(self, receiver: Role, block: Block) -> list[Block]:
        receive: Callable[[Block], Iterable[Block]] = (
            self._label_owner.receive if receiver is Role.LABEL_OWNER else self._data_owner.receive
        )
        with self._timing(receiver):
            return list(receive(_framed(block, sender=receiver.peer)))

    @contextmanager
    def _timing(self, role: Role) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[role] += time.perf_counter() - begin

    def _taken(self) -> Work:
        """Return what both took since the last call."""
        taken, self._seconds = self._seconds, dict.fromkeys(Role, 0.0)
        return Work(label_owner=taken[Role.LABEL_OWNER], data_owner=taken[Role.DATA_OWNER])


class _Zeros:
    """Activations of zeros: a `protocol.state.Activations`."""

    def __init__(self, contract: Contract) -> None:
        self._in_features = contract.in_features
        self._trained = contract.trains_bottom

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[NDArray[np.int16], RowDigests]:
        """Return zeros and their digests, which a table has at hand and a trained bottom model has not."""
        del training
        activation_ND = np.zeros((len(rows), self._in_features), dtype=np.int16)
        if self._trained:
            return activation_ND, row_digests(activation_ND)
        return activation_ND, np.repeat(row_digests(activation_ND[:1]), len(rows), axis=0)

    def backward(self, gradient_ND: NDArray[np.float64]) -> None:
        """Train nothing."""

    def go_back(self, epoch: int) -> None:
        """Do nothing: zeros never change."""


def _sized(contract: Contract, rows: int) -> Contract:
    """Return a contract of the same parameters with two epochs of one batch of `rows`."""
    largest = min(contract.label_owner.batch, contract.label_owner.rows)
    change = {"rows": largest, "epochs": _EPOCHS, "validation": (largest - rows) / largest, "test": 0.0}
    return Contract(
        label_owner=contract.label_owner.model_copy(update=change),
        data_owner=contract.data_owner.model_copy(update={"rows": largest}),
    )


def _order_seconds(contract: Contract) -> float:
    """Measure how long a party looks for the rows of a training batch: it orders those of the whole run."""
    handle = contract.schedule.batches(Split.TRAIN, epoch=0)[0]
    begin = time.perf_counter()
    contract.schedule.rows_of(handle)
    return time.perf_counter() - begin


def _longer(work: Work, seconds: float) -> Work:
    return Work(label_owner=work.label_owner + seconds, data_owner=work.data_owner + seconds)


def _framed(block: Block, *, sender: Role) -> Block:
    """Put a block into a frame and take it out again, as a session does."""
    frame = Frame(
        role=sender, contract=NO_CONTRACT, session=NO_SESSION, sequence=0, acknowledged=0, block=block
    )
    return decode_frame(encode_frame(frame)).block


def _median(samples: Iterable[Work]) -> Work:
    label_owner, data_owner = zip(*((each.label_owner, each.data_owner) for each in samples), strict=True)
    return Work(label_owner=median(label_owner), data_owner=median(data_owner))
