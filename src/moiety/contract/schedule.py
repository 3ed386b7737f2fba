"""Which rows are in which split and batch: a function of one jointly drawn seed, and of nothing else.

Where both agreed that a column decides the split, an `Assignment` takes the seed's place for it; the order
within a split still comes from the seed. Both parties compute it, so that neither chooses an order. Batches
of an epoch have equal sizes up to one row, none above the agreed batch. Where activations are encrypted
once for a whole run, `whole_batches` fixes once which rows sit together, and an epoch only orders the
batches. Imported by the contract, the protocols and the parties' loops.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moiety.contract.assignment import Assignment
from moiety.crypto.sampling import Seed, expand_words

RowIndices = NDArray[np.int64]


class Split(IntEnum):
    """The part of the table a batch belongs to."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    ALL = 3


@dataclass(frozen=True, kw_only=True)
class RowHandle:
    """An opaque name of a batch: which rows it means is fixed by the schedule.

    Args:
        split: the part of the table.
        epoch: the pass; 0 for every split but training rows.
        batch: the number of the batch within the pass.
        rows: how many rows it holds.
    """

    split: Split
    epoch: int
    batch: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Splits and batches of `rows` aligned rows under a jointly drawn seed.

    Args:
        seed: drawn from both parties' nonces.
        rows: rows of the aligned table.
        validation: share of the rows held out for validation.
        test: share of the rows held out for the final test.
        batch: the largest batch.
        epochs: training passes.
        whole_batches: every epoch has the same batches, in an order of its own.
        assignment: the split of each row, where a column decides it; `validation` and `test` are not asked
            then, and orders still come from the seed.
    """

    seed: Seed
    rows: int
    validation: float
    test: float
    batch: int
    epochs: int
    whole_batches: bool = False
    assignment: Assignment | None = None

    @cached_property
    def _split_rows(self) -> dict[Split, RowIndices]:
        if self.assignment is not None:
            assigned = (Split.TRAIN, Split.VALIDATION, Split.TEST)
            rows = {split: self.assignment.rows_in(split) for split in assigned}
            return {**rows, Split.ALL: np.arange(self.rows)}
        order = _permutation(self.seed, b"split", index=0, count=self.rows)
        test = round(self.test * self.rows)
        held_out = test + round(self.validation * self.rows)
        return {
            Split.TEST: np.sort(order[:test]),
            Split.VALIDATION: np.sort(order[test:held_out]),
            Split.TRAIN: np.sort(order[held_out:]),
            Split.ALL: np.arange(self.rows),
        }

    def split_rows(self, split: Split) -> RowIndices:
        """Return the row numbers of a split, ascending."""
        return self._split_rows[split]

    def epochs_of(self, split: Split) -> int:
        """Return how many passes have an order of their own."""
        return self.epochs if split is Split.TRAIN else 1

    def batches(self, split: Split, *, epoch: int) -> list[RowHandle]:
        """Return the handles of one pass, in order."""
        pass_number = epoch if split is Split.TRAIN else 0
        return [
            RowHandle(split=split, epoch=pass_number, batch=number, rows=size)
            for number, size in enumerate(self._sizes(split, pass_number))
        ]

    def sizes(self, split: Split) -> set[int]:
        """Return how many rows the batches of a split have: one or two numbers, the same in every epoch."""
        return set(_batch_sizes(len(self.split_rows(split)), self.batch))

    def rows_of(self, handle: RowHandle) -> RowIndices:
        """Return the row numbers a handle stands for, in batch order."""
        part = self.part_of(handle)
        order = self._pass_order(handle.split, 0 if self.whole_batches else handle.epoch)
        sizes = _batch_sizes(len(order), self.batch)
        start = sum(sizes[:part])
        return order[start : start + sizes[part]]

    def part_of(self, handle: RowHandle) -> int:
        """Return which part of its pass's rows a handle stands for.

        With `whole_batches`, the same part of the same split has the same rows in every epoch.
        """
        return self._parts(handle.split, handle.epoch)[handle.batch]

    def contains(self, handle: RowHandle) -> bool:
        """Tell whether a handle names a batch of this schedule."""
        if not 0 <= handle.epoch < self.epochs_of(handle.split):
            return False
        sizes = self._sizes(handle.split, handle.epoch)
        return 0 <= handle.batch < len(sizes) and handle.rows == sizes[handle.batch]

    def _sizes(self, split: Split, epoch: int) -> list[int]:
        sizes = _batch_sizes(len(self.split_rows(split)), self.batch)
        return [sizes[part] for part in self._parts(split, epoch)]

    def _parts(self, split: Split, epoch: int) -> list[int]:
        count = -(-len(self.split_rows(split)) // self.batch)
        if not self.whole_batches or split is not Split.TRAIN:
            return list(range(count))
        order = _permutation(self.seed, b"batches", index=epoch, count=count)
        return [int(part) for part in order]

    def _pass_order(self, split: Split, epoch: int) -> RowIndices:
        if split is not Split.TRAIN:
            return self.split_rows(split)
        if epoch not in self._last_order:
            rows = self.split_rows(split)
            order = rows[_permutation(self.seed, b"epoch", index=epoch, count=len(rows))]
            self._last_order.clear()
            self._last_order[epoch] = order
        return self._last_order[epoch]

    @cached_property
    def _last_order(self) -> dict[int, RowIndices]:
        """The order of the epoch asked for last: every batch of it asks again."""
        return {}


def _batch_sizes(rows: int, batch: int) -> list[int]:
    """Cut rows into the fewest batches of at most `batch`, of equal sizes up to one row.

    >>> _batch_sizes(10, 4)
    [4, 3, 3]
    """
    count = -(-rows // batch)
    return [rows // count + (number < rows % count) for number in range(count)]


def _permutation(seed: Seed, purpose: bytes, *, index: int, count: int) -> RowIndices:
    """Order 0..count-1 by uniform 64-bit words; ties, below count^2 * 2^-65, keep their order."""
    words = expand_words(seed, purpose, index=index, count=count)
    return np.argsort(words, kind="stable").astype(np.int64)
