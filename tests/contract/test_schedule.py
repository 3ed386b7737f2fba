"""Splits and batches: a partition, equal sizes, and a function of the seed alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.contract.schedule import RowHandle, Schedule, Split
from moiety.crypto.sampling import Seed

SEED = Seed(bytes(range(32)))
SCHEDULE = Schedule(seed=SEED, rows=100, validation=0.1, test=0.2, batch=32, epochs=3)
PARTS = (Split.TRAIN, Split.VALIDATION, Split.TEST)


def rows_of(schedule: Schedule, split: Split, *, epoch: int = 0) -> list[int]:
    handles = schedule.batches(split, epoch=epoch)
    return [int(row) for handle in handles for row in schedule.rows_of(handle)]


@given(
    rows=st.integers(0, 200),
    validation=st.floats(0, 0.99),
    test=st.floats(0, 0.99),
    batch=st.integers(1, 64),
)
def test_splits_partition_the_rows(rows: int, validation: float, test: float, batch: int) -> None:
    schedule = Schedule(seed=SEED, rows=rows, validation=validation, test=test, batch=batch, epochs=1)
    together = sorted(row for split in PARTS for row in rows_of(schedule, split))
    assert together == list(range(rows))
    assert rows_of(schedule, Split.ALL) == list(range(rows))


@given(rows=st.integers(1, 200), batch=st.integers(1, 64))
def test_batches_are_the_fewest_of_equal_sizes(rows: int, batch: int) -> None:
    schedule = Schedule(seed=SEED, rows=rows, validation=0, test=0, batch=batch, epochs=1)
    sizes = [handle.rows for handle in schedule.batches(Split.TRAIN, epoch=0)]
    assert len(sizes) == -(-rows // batch)
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


def test_splits_have_the_shares_asked_for() -> None:
    assert [len(SCHEDULE.split_rows(split)) for split in PARTS] == [70, 10, 20]


def test_splits_are_drawn_and_not_the_first_rows() -> None:
    assert rows_of(SCHEDULE, Split.TEST) != list(range(20))


def test_epochs_have_orders_of_their_own() -> None:
    orders = [rows_of(SCHEDULE, Split.TRAIN, epoch=epoch) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert all(order != sorted(order) for order in orders)


def test_order_repeats_with_the_seed_and_changes_with_it() -> None:
    again, other = replace(SCHEDULE), replace(SCHEDULE, seed=Seed(bytes(32)))
    for split in (Split.TRAIN, Split.TEST):
        assert rows_of(SCHEDULE, split) == rows_of(again, split)
        assert rows_of(SCHEDULE, split) != rows_of(other, split)


def test_other_splits_have_one_order_in_every_epoch() -> None:
    handles = SCHEDULE.batches(Split.VALIDATION, epoch=2)
    assert [handle.epoch for handle in handles] == [0]
    rows = rows_of(SCHEDULE, Split.VALIDATION, epoch=2)
    assert rows == sorted(rows)


def test_contains_every_batch_it_hands_out() -> None:
    for split in Split:
        for epoch in range(SCHEDULE.epochs_of(split)):
            assert all(map(SCHEDULE.contains, SCHEDULE.batches(split, epoch=epoch)))


@pytest.mark.parametrize(
    "handle",
    [
        RowHandle(split=Split.TRAIN, epoch=3, batch=0, rows=24),
        RowHandle(split=Split.TRAIN, epoch=-1, batch=0, rows=24),
        RowHandle(split=Split.TEST, epoch=1, batch=0, rows=20),
        RowHandle(split=Split.TRAIN, epoch=0, batch=3, rows=23),
        RowHandle(split=Split.TRAIN, epoch=0, batch=-1, rows=23),
        RowHandle(split=Split.TRAIN, epoch=0, batch=0, rows=23),
    ],
)
def test_contains_no_other_batch(handle: RowHandle) -> None:
    assert [each.rows for each in SCHEDULE.batches(Split.TRAIN, epoch=0)] == [24, 23, 23]
    assert not SCHEDULE.contains(handle)


def test_split_of_no_rows_has_no_batches() -> None:
    empty = replace(SCHEDULE, validation=0.0)
    assert empty.batches(Split.VALIDATION, epoch=0) == []
    assert not empty.contains(RowHandle(split=Split.VALIDATION, epoch=0, batch=0, rows=0))


def test_permutation_is_uniform_over_seeds() -> None:
    # Each of 4 rows comes first in a quarter of 2000 orders: deviation 19, bound 6 of them.
    first = [
        rows_of(
            Schedule(seed=Seed(k.to_bytes(32, "big")), rows=4, validation=0, test=0, batch=4, epochs=1),
            Split.TRAIN,
        )[0]
        for k in range(2000)
    ]
    assert np.all(np.abs(np.bincount(first, minlength=4) - 500) < 120)


WHOLE = replace(SCHEDULE, whole_batches=True, epochs=8)


def sets_of(schedule: Schedule, epoch: int) -> list[tuple[int, ...]]:
    handles = schedule.batches(Split.TRAIN, epoch=epoch)
    return [tuple(schedule.rows_of(handle).tolist()) for handle in handles]


def test_whole_batches_keep_their_rows_together() -> None:
    first = sets_of(WHOLE, 0)
    assert sorted(row for rows in first for row in rows) == sorted(SCHEDULE.split_rows(Split.TRAIN))
    assert len(first) == 3
    for epoch in range(1, 8):
        assert sorted(sets_of(WHOLE, epoch)) == sorted(first)
    assert all(list(rows) != sorted(rows) for rows in first)


def test_whole_batches_come_in_an_order_of_each_epoch() -> None:
    orders = {tuple(sets_of(WHOLE, epoch)) for epoch in range(8)}
    # 8 draws of 6 orders: all alike with probability 6^-7.
    assert len(orders) > 1
    assert sets_of(WHOLE, 3) == sets_of(replace(WHOLE), 3)


def test_part_of_names_the_rows_whatever_the_epoch() -> None:
    by_part: dict[int, set[tuple[int, ...]]] = {}
    for epoch in range(8):
        for handle in WHOLE.batches(Split.TRAIN, epoch=epoch):
            rows = tuple(WHOLE.rows_of(handle).tolist())
            by_part.setdefault(WHOLE.part_of(handle), set()).add(rows)
    assert sorted(by_part) == [0, 1, 2]
    assert [len(rows) for rows in by_part.values()] == [1, 1, 1]


def test_sizes_of_whole_batches_go_with_their_rows() -> None:
    sizes = {tuple(handle.rows for handle in WHOLE.batches(Split.TRAIN, epoch=k)) for k in range(8)}
    assert {tuple(sorted(each)) for each in sizes} == {(23, 23, 24)}
    assert len(sizes) > 1
    for epoch in range(8):
        for handle in WHOLE.batches(Split.TRAIN, epoch=epoch):
            assert len(WHOLE.rows_of(handle)) == handle.rows
            assert WHOLE.contains(handle)
            assert not WHOLE.contains(replace(handle, rows=47 - handle.rows))


def test_other_splits_are_the_same_with_whole_batches() -> None:
    for split in (Split.VALIDATION, Split.TEST, Split.ALL):
        assert rows_of(WHOLE, split) == rows_of(SCHEDULE, split)
        parts = [WHOLE.part_of(handle) for handle in WHOLE.batches(split, epoch=5)]
        assert parts == list(range(len(parts)))


def test_epochs_of_ordinary_batches_mix_the_rows_anew() -> None:
    assert sorted(sets_of(SCHEDULE, 0)) != sorted(sets_of(SCHEDULE, 1))
    assert [SCHEDULE.part_of(handle) for handle in SCHEDULE.batches(Split.TRAIN, epoch=1)] == [0, 1, 2]
