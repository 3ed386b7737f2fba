"""One product P M under encryption: blocks in, blocks out, a share at each end.

The parts every protocol is made of. `Collector` takes the blocks of one message in order and refuses
anything else; `blocks_of` cuts bytes of known sizes into blocks. Pure: no connection, no clock, and the
randomness is an argument.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import BLOCK_BYTES, Evaluator, ProductPlan
from moiety.errors import MalformedMessageError, RemoteProtocolError
from moiety.protocol.messages import Block, Kind

WORD_BYTES: Final = 8

Messages = list[list[bytes]]
"""The payloads of each message that was due, in order."""


class Collector:
    """Takes the blocks of one message, in order, each of exactly the size that is due.

    Args:
        kind: the message due.
        step: the exchange it belongs to.
        sizes: bytes of each block.
    """

    def __init__(self, kind: Kind, *, step: int, sizes: Sequence[int]) -> None:
        self._kind = kind
        self._step = step
        self._sizes = tuple(sizes)
        self._payloads: list[bytes] = []

    @property
    def complete(self) -> bool:
        """Whether every block has come."""
        return len(self._payloads) == len(self._sizes)

    @property
    def payloads(self) -> list[bytes]:
        """The payloads so far."""
        return self._payloads

    def receive(self, block: Block) -> bool:
        """Take the next block; return whether the message is complete.

        Raises:
            RemoteProtocolError: another kind, step or number than is due.
            MalformedMessageError: another size than is due.
        """
        due = (self._kind, self._step, len(self._payloads), len(self._sizes))
        if (block.kind, block.step, block.index, block.count) != due or self.complete:
            raise RemoteProtocolError(
                f"{block.kind.name} of step {block.step}, block {block.index} of {block.count}, came "
                f"where {due[0].name} of step {due[1]}, block {due[2]} of {due[3]}, was due"
            )
        if len(block.payload) != self._sizes[block.index]:
            raise MalformedMessageError(
                f"a {block.kind.name} block has {len(block.payload)} bytes instead of "
                f"{self._sizes[block.index]}"
            )
        self._payloads.append(block.payload)
        return self.complete


def blocks_of(kind: Kind, payloads: Iterable[bytes], *, step: int, count: int) -> Iterator[Block]:
    """Number payloads as the blocks of one message, as they come."""
    for index, payload in enumerate(payloads):
        yield Block(kind=kind, step=step, payload=payload, index=index, count=count)


def masked_blocks(
    kind: Kind,
    evaluator: Evaluator,
    plain_ND: NDArray[np.int64] | NDArray[np.int16],
    payloads: Sequence[bytes],
    *,
    plan: ProductPlan,
    step: int,
    randomness: Randomness,
    shares: list[RingArray],
) -> Iterator[Block]:
    """Multiply under encryption and yield the masked answer's blocks as they are computed.

    Args:
        kind: of the answer.
        evaluator: the scheme's half that computes.
        plain_ND: the plain matrix P.
        payloads: the encrypted matrix M.
        plan: both parties' plan of P M.
        step: the exchange.
        randomness: where seeds come from.
        shares: this side's share of P M is appended to it, in pieces of whole rows.

    Leaks:
        Nothing to the key holder but the shape.
    """
    answers = evaluator.respond(plain_ND, payloads, plan=plan, randomness=randomness)
    count = len(plan.response_sizes)
    for index, (payload, share) in enumerate(answers):
        shares.append(share)
        yield Block(kind=kind, step=step, payload=payload, index=index, count=count)


def matrix_sizes(rows: int, columns: int) -> tuple[int, ...]:
    """Return the block sizes of a matrix of ring integers, cut between rows.

    >>> matrix_sizes(3, 2)
    (48,)
    """
    width = columns * WORD_BYTES
    rows_per_block = BLOCK_BYTES // width
    starts = range(0, rows, rows_per_block)
    return tuple(min(rows_per_block, rows - start) * width for start in starts)


def matrix_blocks(kind: Kind, matrix_NK: RingArray, *, step: int) -> Iterator[Block]:
    """Cut a matrix of ring integers into the blocks of one message.

    Leaks:
        The matrix, to the peer: callers send shares only.
    """
    sizes = matrix_sizes(*matrix_NK.shape)
    data = np.ascontiguousarray(matrix_NK).astype("<u8", copy=False).tobytes()
    payloads = (data[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes)))
    return blocks_of(kind, payloads, step=step, count=len(sizes))


def read_matrix(payloads: Sequence[bytes], columns: int) -> RingArray:
    """Join the payloads of a matrix of ring integers, uint64 (rows, columns)."""
    words = np.frombuffer(b"".join(payloads), dtype="<u8").astype(np.uint64)
    return words.reshape(-1, columns)
