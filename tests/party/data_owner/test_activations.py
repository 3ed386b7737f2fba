"""The prepared table on disk: the same activations as in memory, and nothing stays behind."""

import errno
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from moiety.crypto.ring import encode_activations
from moiety.data import preparation as preparations
from moiety.data.preparation import Piece, Preparation
from moiety.data.scratch import open_unnamed
from moiety.data.table import Table
from moiety.errors import CheckpointCorruptError, CheckpointError, LocalProtocolError, NonFiniteError
from moiety.party.data_owner import activations as activation_file
from moiety.party.data_owner.activations import ActivationFile
from moiety.protocol.dither import row_digests
from tests.support.randomness import words_of

ROWS = 101
RULES = {"log": "log", "quantile": "quantile", "few": "one-hot", "wide": "none"}


def mixed_table() -> Table:
    """Columns for every rule; four values of "wide" lie beyond 8."""
    words = words_of("mixed table", 5 * ROWS).reshape(5, ROWS)
    standard, log, quantile = (np.ldexp(row.astype(np.float64), -60) - 8 for row in words[:3])
    few = (words[3] % np.uint64(5)).astype(np.int64)
    text = [f"t{number}" for number in (words[4] % np.uint64(3)).tolist()]
    wide = np.where(np.arange(ROWS) % 30 == 1, 99.0, 0.5)
    columns = {"standard": standard, "log": log**3, "quantile": quantile, "few": few, "wide": wide}
    arrow = pa.table({**columns, "text": text})
    return Table(source=Path("t"), rows=ROWS, names=tuple(arrow.column_names), read=arrow.column)


TABLE = mixed_table()
PREPARATION = Preparation.fit(TABLE, features=TABLE.names, rules=RULES, rows=np.arange(1, ROWS, 3))
EXPECTED_ND, CLIPPED = encode_activations(PREPARATION.transform(TABLE))
ALL = np.arange(ROWS)


def written(folder: Path) -> ActivationFile:
    return ActivationFile(folder, PREPARATION.pieces(TABLE), rows=ROWS, in_features=len(PREPARATION.names))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the files that are opened."""
    files: list[Any] = []

    def opening(folder: Path) -> Any:
        files.append(open_unnamed(folder))
        return files[-1]

    monkeypatch.setattr(activation_file, "open_unnamed", opening)
    return files


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("values", [1, 7, 64, 2**20])
def test_activation_file_equals_the_table_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    monkeypatch.setattr(preparations, "_PIECE_VALUES", values)
    monkeypatch.setattr(activation_file, "_CHUNK_VALUES", 7 * values)
    kept = written(tmp_path)
    activation_ND, digest_N = kept.batch(ALL, training=True)
    np.testing.assert_array_equal(activation_ND, EXPECTED_ND)
    np.testing.assert_array_equal(digest_N, row_digests(EXPECTED_ND))
    assert kept.clipped == CLIPPED == 4
    assert (kept.in_features, kept.size) == (EXPECTED_ND.shape[1], EXPECTED_ND.size)


def test_activation_file_gathers_rows_in_any_order_and_twice(tmp_path: Path) -> None:
    kept = written(tmp_path)
    rows = np.array([100, 0, 57, 57, 3])
    activation_ND, digest_N = kept.batch(rows, training=False)
    np.testing.assert_array_equal(activation_ND, EXPECTED_ND[rows])
    np.testing.assert_array_equal(digest_N, row_digests(EXPECTED_ND)[rows])
    assert kept.batch(np.arange(0), training=False)[0].shape == (0, kept.in_features)


def test_activation_file_gives_ordinary_arrays(tmp_path: Path) -> None:
    activation_ND, _ = written(tmp_path).batch(ALL, training=True)
    assert type(activation_ND) is np.ndarray
    assert activation_ND.dtype == np.int16
    assert activation_ND.flags.owndata
    assert activation_ND.flags.c_contiguous


def test_activation_file_has_no_name_and_is_for_its_user_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kept = written(tmp_path / "new" / "run")  # not made: the run may never save anything there
    finally:
        os.umask(before)
    status = os.fstat(kept._file.fileno())
    assert status.st_mode & 0o777 == 0o600
    assert status.st_nlink == 0
    assert status.st_size == EXPECTED_ND.nbytes
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["close", "forget"])
def test_activation_file_gives_its_space_back(tmp_path: Path, opened: list[Any], how: str) -> None:
    kept: ActivationFile | None = written(tmp_path)
    assert kept is not None
    assert [file.closed for file in opened] == [False, True]
    if how == "close":
        kept.close()
        kept.close()
    else:
        kept = None
        gc.collect()
    assert all(file.closed for file in opened)


def test_activation_file_in_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be written: Not a directory") as caught:
        written(tmp_path / "file" / "run")
    assert "right to write" in caught.value.hint


@pytest.mark.parametrize("size", [100, EXPECTED_ND.nbytes - 1])
def test_activation_file_on_a_full_disk_leaves_nothing(tmp_path: Path, opened: list[Any], size: int) -> None:
    with room_for(size), pytest.raises(CheckpointError, match="cannot be written: File too large") as caught:
        written(tmp_path)
    assert "make room" in caught.value.hint
    assert [file.closed for file in opened] == [True, True]
    assert not list(tmp_path.iterdir())


def test_activation_file_on_a_disk_that_fills_up_while_rows_are_laid_out_leaves_nothing(
    tmp_path: Path, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(activation_file, "_write_rows", full)
    with pytest.raises(CheckpointError, match="No space left"):
        written(tmp_path)
    assert [file.closed for file in opened] == [True, True]


def test_activation_file_leaves_nothing_when_the_table_fails(tmp_path: Path, opened: list[Any]) -> None:
    bad = Piece(first_row=0, first_input=0, values_nd=np.array([[np.nan]]))
    with pytest.raises(NonFiniteError) as caught:
        ActivationFile(tmp_path, [bad], rows=1, in_features=1)
    assert caught.tb is not None  # which holds what would be collected otherwise
    assert [file.closed for file in opened] == [True, True]
    assert not list(tmp_path.iterdir())


def test_activation_file_goes_on_where_the_disk_took_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:5], offset))
    np.testing.assert_array_equal(written(tmp_path).batch(ALL, training=True)[0], EXPECTED_ND)


def test_activation_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    kept = written(tmp_path)
    os.ftruncate(kept._file.fileno(), EXPECTED_ND.nbytes - 1)
    kept.batch(ALL[:-1], training=True)
    with pytest.raises(CheckpointCorruptError, match="cannot be read back") as caught:
        kept.batch(ALL, training=True)
    assert caught.value.hint


def test_activation_file_that_the_disk_does_not_give_back_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    kept = written(tmp_path)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(CheckpointCorruptError, match="cannot be read back"):
        kept.batch(ALL, training=True)


def test_activation_file_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(LocalProtocolError, match="cannot be trained"):
        written(tmp_path).backward(np.zeros((1, 1)))


def test_activation_file_repr_shows_no_values(tmp_path: Path) -> None:
    assert str(EXPECTED_ND[0, 0]) not in repr(written(tmp_path)).split(" at ")[0]
