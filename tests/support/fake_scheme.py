""" "Encryption" that does nothing, for tests of message order: blocks of the right sizes, in the clear."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.kernel import matmul
from moiety.crypto.packing import PackingPlan
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, expand_words


class FakeKeyHolder:
    """Sends its matrix as it is, padded to the sizes of the plan's blocks."""

    def public_key(self) -> bytes:
        """Return no key."""
        return b""

    def prepare(self, *, plan: PackingPlan, randomness: Randomness) -> None:
        """Do nothing."""

    def encrypt(self, matrix_DK: RingArray, *, plan: PackingPlan, randomness: Randomness) -> Iterator[bytes]:
        """Yield the matrix in blocks."""
        del randomness
        yield from _blocks(matrix_DK, plan.request_sizes)

    def decrypt(self, blocks: Sequence[bytes], *, plan: PackingPlan) -> RingArray:
        """Read this side's share."""
        parts = [
            _matrix(block, len(range(plan.shape.rows)[plan.output_rows(numbers)]), plan.shape.kept)
            for block, numbers in zip(blocks, plan.response_ranges, strict=True)
        ]
        return np.concatenate(parts)


class FakeEvaluator:
    """Multiplies in the clear and splits the product into shares."""

    def prepare(self, *, plan: PackingPlan, randomness: Randomness) -> None:
        """Do nothing."""

    def respond(
        self,
        plain_ND: NDArray[np.int64] | NDArray[np.int16],
        blocks: Sequence[bytes],
        *,
        plan: PackingPlan,
        randomness: Randomness,
    ) -> Iterator[tuple[bytes, RingArray]]:
        """Yield the product minus a mask, and the mask."""
        matrix_DK = _matrix(b"".join(blocks), plan.shape.contraction, plan.shape.kept)
        product_NK = matmul(np.ascontiguousarray(plain_ND, dtype=np.int16), matrix_DK)
        words = expand_words(randomness.seed(), b"fake mask", index=0, count=product_NK.size)
        mask_NK = words.reshape(product_NK.shape)
        for numbers, size in zip(plan.response_ranges, plan.response_sizes, strict=True):
            rows = plan.output_rows(numbers)
            yield next(_blocks((product_NK - mask_NK)[rows], [size])), mask_NK[rows]


def _blocks(matrix: RingArray, sizes: Iterable[int]) -> Iterator[bytes]:
    data = np.ascontiguousarray(matrix).astype("<u8").tobytes()
    start = 0
    for size in sizes:
        yield data[start : start + size].ljust(size, b"\0")
        start += size


def _matrix(data: bytes, rows: int, columns: int) -> RingArray:
    words = np.frombuffer(data[: 8 * rows * columns], dtype="<u8").astype(np.uint64)
    return words.reshape(rows, columns)
