"""Messages as blocks: the parts every protocol is made of.

`Collector` takes the blocks of one message in order and refuses anything else; `blocks_of` cuts bytes of
known sizes into blocks. Pure: no connection and no clock.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from moiety.contract.flow import matrix_sizes
from moiety.crypto.ring import RingArray
from moiety.errors import MalformedMessageError, RemoteProtocolError
from moiety.protocol.messages import Block, Kind


class Collector:
    """Takes the blocks of one message, in order, each of exactly the size that is expected.

    Args:
        kind: the expected message.
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
            RemoteProtocolError: another kind, step or number than is expected.
            MalformedMessageError: another size than is expected.
        """
        expected = (self._kind, self._step, len(self._payloads), len(self._sizes))
        if (block.kind, block.step, block.index, block.count) != expected or self.complete:
            raise RemoteProtocolError(
                f"{block.kind.name} of step {block.step}, block {block.index} of {block.count}, came "
                f"where {expected[0].name} of step {expected[1]}, block {expected[2]} of {expected[3]}, "
                "was expected"
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
