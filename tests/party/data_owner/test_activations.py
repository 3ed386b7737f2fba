"""The prepared table, in memory or on disk: the same activations, and nothing stays behind."""

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
from moiety.data import prepared_column
from moiety.data.preparation import Preparation
from moiety.data.scratch import open_unnamed
from moiety.data.table import Table
from moiety.data.table_pass import Piece, TablePass
from moiety.errors import CheckpointCorruptError, CheckpointError, LocalProtocolError, NonFiniteError
from moiety.party.data_owner import activations
from moiety.party.data_owner.activations import ActivationTable
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


def written(folder: Path) -> ActivationTable:
    return ActivationTable(folder, TablePass(TABLE, PREPARATION, training=None), rows=ROWS)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Leave no memory for activations; collect the files that are opened instead."""
    files: list[Any] = []

    def opening(folder: Path) -> Any:
        files.append(open_unnamed(folder))
        return files[-1]

    monkeypatch.setattr(activations, "open_unnamed", opening)
    monkeypatch.setattr(activations, "MEMORY_BYTES", 0)
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


# All columns but one, some of them, none of them: the limit is crossed between columns.
@pytest.mark.parametrize("memory", [2**28, EXPECTED_ND.nbytes, EXPECTED_ND.nbytes - 1, 4 * ROWS, 0])
@pytest.mark.parametrize("values", [1, 7, 64, 2**20])
def test_activation_table_equals_the_table_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int, memory: int
) -> None:
    monkeypatch.setattr(prepared_column, "_PIECE_VALUES", values)
    monkeypatch.setattr(activations, "_CHUNK_VALUES", 7 * values)
    monkeypatch.setattr(activations, "MEMORY_BYTES", memory)
    kept = written(tmp_path)
    assert isinstance(kept._rows, activations._MappedRows) == (memory < EXPECTED_ND.nbytes)
    activation_ND, digest_N = kept.batch(ALL, training=True)
    np.testing.assert_array_equal(activation_ND, EXPECTED_ND)
    np.testing.assert_array_equal(digest_N, row_digests(EXPECTED_ND))
    assert kept.clipped == CLIPPED == 4
    assert (kept.in_features, kept.size) == (EXPECTED_ND.shape[1], EXPECTED_ND.size)


@pytest.mark.parametrize("memory", [2**28, 0])
@pytest.mark.parametrize("gathered", [1, 2, 1024])
def test_activation_table_gathers_rows_in_any_order_and_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, gathered: int
) -> None:
    monkeypatch.setattr(activations, "MEMORY_BYTES", memory)
    monkeypatch.setattr(activations, "_MAPPED_ROWS", gathered)
    kept = written(tmp_path)
    rows = np.array([100, 0, 57, 57, 3])
    activation_ND, digest_N = kept.batch(rows, training=False)
    np.testing.assert_array_equal(activation_ND, EXPECTED_ND[rows])
    np.testing.assert_array_equal(digest_N, row_digests(EXPECTED_ND)[rows])
    assert kept.batch(np.arange(0), training=False)[0].shape == (0, kept.in_features)


@pytest.mark.parametrize("memory", [2**28, 0])
def test_activation_table_gives_arrays_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(activations, "MEMORY_BYTES", memory)
    activation_ND, _ = written(tmp_path).batch(ALL, training=True)
    assert type(activation_ND) is np.ndarray
    assert activation_ND.dtype == np.int16
    assert activation_ND.flags.owndata
    assert activation_ND.flags.c_contiguous
    assert activation_ND.flags.writeable


def test_activation_table_in_memory_writes_nothing(
    tmp_path: Path, on_disk: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "MEMORY_BYTES", EXPECTED_ND.nbytes)
    with room_for(0):
        written(tmp_path)
    assert [file.closed for file in on_disk] == [True]  # only to see whether the folder can be written to


def test_activation_files_have_no_name_and_are_for_their_user_only(
    tmp_path: Path, on_disk: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[os.stat_result] = []
    turned = activations._Columns.turned

    def looking(columns: Any) -> Iterator[Any]:
        yield from turned(columns)
        found.extend(os.fstat(file.fileno()) for file in on_disk[1:])

    monkeypatch.setattr(activations._Columns, "turned", looking)
    before = os.umask(0)
    try:
        written(tmp_path / "new" / "run")  # not made: the run may never save anything there
    finally:
        os.umask(before)
    assert [status.st_mode & 0o777 for status in found] == [0o600, 0o600]
    assert [status.st_nlink for status in found] == [0, 0]
    assert [status.st_size for status in found] == [EXPECTED_ND.nbytes] * 2
    assert not list(tmp_path.iterdir())


def mapped_files() -> dict[str, int]:
    """Return this process's mappings of files that have no name any more, with the kB that are in memory."""
    found: dict[str, int] = {}
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            mapping = line
        elif name == "Rss:" and mapping.endswith("(deleted)"):
            found[mapping] = int(values[0])
    return found


@pytest.mark.parametrize("how", ["close", "forget"])
def test_activation_table_gives_its_space_back(tmp_path: Path, on_disk: list[Any], how: str) -> None:
    gc.collect()
    before = mapped_files()
    kept: ActivationTable | None = written(tmp_path)
    assert kept is not None
    assert [file.closed for file in on_disk] == [True] * 3
    assert len(mapped_files().keys() - before.keys()) == 1
    if how == "close":
        kept.close()
        kept.close()
    else:
        kept = None
        gc.collect()
    assert not mapped_files().keys() - before.keys()


def test_activation_table_lets_its_pages_go(tmp_path: Path, on_disk: list[Any]) -> None:
    """What is mapped counts as memory of the process for as long as its pages are used."""
    rows = 100_000
    before = mapped_files()
    pieces = [Piece(first_row=0, first_input=0, values_nK=np.ones((rows, 64)))]
    kept = ActivationTable(tmp_path, pieces, rows=rows)
    activation_ND, _ = kept.batch(np.arange(0, rows, 2), training=True)
    assert activation_ND.shape == (rows // 2, 64)
    assert len(on_disk) == 3
    assert [kB for mapping, kB in mapped_files().items() if mapping not in before] == [0]
    kept.close()


@pytest.mark.parametrize("memory", [2**28, 0])
def test_activation_table_in_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(activations, "MEMORY_BYTES", memory)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be written: Not a directory") as caught:
        written(tmp_path / "file" / "run")
    assert "right to write" in caught.value.hint


@pytest.mark.parametrize("size", [100, EXPECTED_ND.nbytes - 1])
def test_activation_table_on_a_full_disk_leaves_nothing(
    tmp_path: Path, on_disk: list[Any], size: int
) -> None:
    with room_for(size), pytest.raises(CheckpointError, match="cannot be written: File too large") as caught:
        written(tmp_path)
    assert "make room" in caught.value.hint
    assert [file.closed for file in on_disk] == [True, True]
    assert not list(tmp_path.iterdir())


def test_activation_table_on_a_disk_that_fills_up_while_rows_are_laid_out_leaves_nothing(
    tmp_path: Path, on_disk: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = activations._write

    def filling(file: Any, values: Any, *, offset: int) -> None:
        if len(on_disk) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, values, offset=offset)

    monkeypatch.setattr(activations, "_write", filling)
    with pytest.raises(CheckpointError, match="No space left"):
        written(tmp_path)
    assert [file.closed for file in on_disk] == [True] * 3


def test_activation_table_leaves_nothing_when_the_table_fails(tmp_path: Path, on_disk: list[Any]) -> None:
    good = Piece(first_row=0, first_input=0, values_nK=np.array([[1.0]]))
    bad = Piece(first_row=0, first_input=1, values_nK=np.array([[np.nan]]))
    with pytest.raises(NonFiniteError) as caught:
        ActivationTable(tmp_path, [good, bad], rows=1)
    assert caught.tb is not None  # which holds what would be collected otherwise
    assert [file.closed for file in on_disk] == [True, True]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("on_disk")
def test_activation_table_goes_on_where_the_disk_took_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:5], offset))
    np.testing.assert_array_equal(written(tmp_path).batch(ALL, training=True)[0], EXPECTED_ND)


def test_activation_table_whose_columns_were_cut_is_refused(
    tmp_path: Path, on_disk: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = activations._Columns.turned

    def cut(columns: Any) -> Iterator[Any]:
        os.ftruncate(on_disk[1].fileno(), EXPECTED_ND.nbytes - 1)
        yield from turned(columns)

    monkeypatch.setattr(activations._Columns, "turned", cut)
    with pytest.raises(CheckpointCorruptError, match="cannot be read back") as caught:
        written(tmp_path)
    assert caught.value.hint
    assert [file.closed for file in on_disk] == [True] * 3


@pytest.mark.usefixtures("on_disk")
def test_activation_table_that_the_disk_does_not_give_back_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(CheckpointCorruptError, match="cannot be read back"):
        written(tmp_path)


def test_activation_table_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(LocalProtocolError, match="cannot be trained"):
        written(tmp_path).backward(np.zeros((1, 1)))


def test_activation_table_repr_shows_no_values(tmp_path: Path) -> None:
    assert str(EXPECTED_ND[0, 0]) not in repr(written(tmp_path)).split(" at ")[0]
