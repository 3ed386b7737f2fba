"""Assignments of rows to splits: two bits a row, checked before use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.contract.assignment import TEST, Assignment, packed_bytes, payload_sizes
from moiety.contract.schedule import Schedule, Split
from moiety.crypto.sampling import Seed
from moiety.errors import MalformedMessageError


@given(st.lists(st.integers(0, TEST), min_size=1, max_size=40))
def test_assignment_crosses_unchanged(splits: list[int]) -> None:
    sent = Assignment.of(np.array(splits, dtype=np.uint8))
    payloads = sent.payloads()
    assert tuple(len(each) for each in payloads) == payload_sizes(len(splits))
    came = Assignment.from_payloads(payloads, rows=len(splits))
    assert came == sent
    assert came.digest == sent.digest
    assert came.splits.tolist() == splits
    assert came.counts == tuple(splits.count(split) for split in range(TEST + 1))
    for split in range(TEST + 1):
        assert came.rows_in(split).tolist() == [row for row, each in enumerate(splits) if each == split]


def test_assignment_digest_tells_rows_and_splits_apart() -> None:
    digests = {
        Assignment.of(np.array(splits, dtype=np.uint8)).digest
        for splits in ([0, 0, 0], [0, 0, 0, 0], [0, 0, 1], [1, 0, 0])
    }
    assert len(digests) == 4


@given(st.binary(min_size=1, max_size=12), st.integers(1, 48))
def test_assignment_of_any_bytes_is_read_or_refused(data: bytes, rows: int) -> None:
    try:
        read = Assignment.from_payloads([data], rows=rows)
    except MalformedMessageError:
        return
    assert len(data) == packed_bytes(rows)
    assert read.splits.max() <= TEST
    assert Assignment.of(read.splits) == read


@pytest.mark.parametrize(
    ("data", "rows", "says"),
    [
        (b"\x03", 1, "no known split"),
        (b"\xc0", 4, "no known split"),
        (b"\x04", 1, "more rows than the table"),
        (b"\x00\x00", 4, "no known split"),
        (b"", 1, "no known split"),
    ],
)
def test_assignment_that_is_none_is_refused(data: bytes, rows: int, says: str) -> None:
    with pytest.raises(MalformedMessageError, match=says):
        Assignment.from_payloads([data], rows=rows)


def test_large_assignment_crosses_in_blocks_of_4_mib() -> None:
    rows = 4 * (4 * 2**20) + 5
    assert payload_sizes(rows) == (4 * 2**20, 2)
    payloads = Assignment(rows=rows, packed=bytes(packed_bytes(rows))).payloads()
    assert tuple(len(each) for each in payloads) == payload_sizes(rows)


def schedule_of(assignment: Assignment | None, *, seed: bytes = bytes(32)) -> Schedule:
    return Schedule(
        seed=Seed(seed), rows=40, validation=0.1, test=0.2, batch=8, epochs=2, assignment=assignment
    )


def test_schedule_takes_splits_from_the_assignment_and_orders_from_the_seed() -> None:
    splits_N = np.array([0] * 25 + [1] * 5 + [2] * 10, dtype=np.uint8)[::-1].copy()
    assigned = Assignment.of(splits_N)
    schedule = schedule_of(assigned)
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        np.testing.assert_array_equal(schedule.split_rows(split), np.flatnonzero(splits_N == split))
    np.testing.assert_array_equal(schedule.split_rows(Split.ALL), np.arange(40))
    handles = schedule.batches(Split.TRAIN, epoch=1)
    assert [handle.rows for handle in handles] == [7, 6, 6, 6]
    order = np.concatenate([schedule.rows_of(handle) for handle in handles])
    np.testing.assert_array_equal(np.sort(order), schedule.split_rows(Split.TRAIN))
    other = schedule_of(assigned, seed=bytes(31) + b"1")
    assert not np.array_equal(order, np.concatenate([other.rows_of(handle) for handle in handles]))
