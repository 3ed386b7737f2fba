"""Encrypted activations on disk: what was written comes back, and nothing stays."""

import errno
import gc
import io
import tempfile
from pathlib import Path

import pytest

from moiety.contract.products import Product
from moiety.contract.schedule import Split
from moiety.errors import CheckpointError
from moiety.party.label_owner.blocks import BlockFile
from moiety.protocol.reuse import Part

FIRST: Part = (Product.FORWARD, Split.TRAIN, 0)
SECOND: Part = (Product.UPDATE, Split.TRAIN, 0)
THIRD: Part = (Product.FORWARD, Split.TEST, 1)


def test_block_file_reads_back_what_was_written(tmp_path: Path) -> None:
    store = BlockFile(tmp_path / "run")
    written = {FIRST: [b"one", b"", b"three" * 1000], SECOND: [], THIRD: [bytes(range(256))]}
    for part, payloads in written.items():
        store[part] = payloads
    # In another order than they were written, and twice.
    for part in (THIRD, FIRST, SECOND, FIRST):
        assert store[part] == written[part]
    assert dict(store) == written
    assert len(store) == 3


def test_block_file_appends_after_reading(tmp_path: Path) -> None:
    store = BlockFile(tmp_path)
    store[FIRST], store[SECOND] = [b"abc", b"de"], [b"fgh"]
    assert store[FIRST] == [b"abc", b"de"]  # in the middle of the file
    store[THIRD] = [b"ijk"]
    assert (store[FIRST], store[SECOND], store[THIRD]) == ([b"abc", b"de"], [b"fgh"], [b"ijk"])


def test_block_file_tells_what_it_holds(tmp_path: Path) -> None:
    store = BlockFile(tmp_path)
    assert FIRST not in store
    store[FIRST] = [b"old"]
    store[FIRST] = [b"new"]
    assert FIRST in store
    assert store[FIRST] == [b"new"]
    del store[FIRST]
    assert FIRST not in store
    with pytest.raises(KeyError):
        store[FIRST]


def test_block_file_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    store = BlockFile(folder)
    store[FIRST] = [b"x" * 10_000]
    assert list(folder.iterdir()) == []  # no name: gone with the process, however it ends
    file = store._file
    del store
    gc.collect()  # a file that was never closed would be a ResourceWarning, which fails the test
    assert file.closed


class FullDisk(io.BytesIO):
    """A file on a disk with room for a few bytes."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.tell() + len(data) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_block_file_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: FullDisk())
    store = BlockFile(tmp_path)
    store[FIRST] = [b"small"]
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        store[SECOND] = [b"ab", b"larger"]
    assert "make room" in caught.value.hint
    assert SECOND not in store
    assert store[FIRST] == [b"small"]


def test_block_file_whose_last_bytes_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unflushed(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Unflushed())
    store = BlockFile(tmp_path)
    with pytest.raises(CheckpointError, match="Input/output error"):
        store[FIRST] = [b"abc"]
    assert len(store) == 0


def test_block_file_in_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder would be")
    with pytest.raises(CheckpointError, match="cannot be kept") as caught:
        BlockFile(tmp_path / "run")
    assert "right to write" in caught.value.hint


def test_block_file_in_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(CheckpointError, match="Permission denied"):
        BlockFile(tmp_path)
