"""Checkpoint files: whole or refused, the last few kept, encrypted where asked."""

import errno
import json
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from moiety.config import Checkpointing
from moiety.errors import CheckpointCorruptError, CheckpointError, ConfigError
from moiety.protocol.resume import Mark
from moiety.store.checkpoints import Checkpoints, _decode, open_checkpoints
from moiety.store.files import Arrays
from moiety.store.vault import KEY_FILE, Vault
from tests.support.hearing import Heard

RUN, OTHER, THIRD = "ab" * 16, "cd" * 16, "ef" * 16
ARRAYS: Arrays = {
    "share": np.arange(6, dtype=np.uint64).reshape(2, 3),
    "bottom.0": np.zeros((0, 2), np.float32),
}


def mark(updates: int) -> Mark:
    return Mark(updates=updates, transcript=bytes([updates]) * 32)


def store(folder: Path, *, keep: int = 2, vault: Vault | None = None) -> tuple[Checkpoints, list[str]]:
    heard = Heard()
    return Checkpoints(folder, keep=keep, vault=vault, listener=heard), heard.said


def write(checkpoints: Checkpoints, *updates: int, run: str = RUN) -> None:
    for number in updates:
        checkpoints.write(run, mark(number), arrays=ARRAYS, facts={"place": [0, number]})


def held(checkpoints: Checkpoints, run: str = RUN) -> list[int]:
    return [saved.mark.updates for saved in checkpoints.saved(run)]


def files_of(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("*.safetensors*"))


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoints, reports = store(tmp_path)
    write(checkpoints, 7)
    (saved,) = checkpoints.saved(RUN)
    assert saved.mark == mark(7)
    assert saved.facts["place"] == [0, 7]
    assert saved.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(saved.arrays[name], array)
        assert saved.arrays[name].dtype == array.dtype
    assert reports == []


def test_last_few_are_kept_newest_first(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path)
    write(checkpoints, 1, 2, 3, 4)
    assert held(checkpoints) == [4, 3]
    assert checkpoints.newest_run() == RUN


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    write(store(tmp_path)[0], 1)
    (path,) = files_of(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    write(store(tmp_path)[0], 1)
    (path,) = files_of(tmp_path)
    np.testing.assert_array_equal(load(path.read_bytes())["share"], ARRAYS["share"])


def test_one_other_run_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path)
    write(checkpoints, 1, 2, run=OTHER)
    write(checkpoints, 1, run=THIRD)
    write(checkpoints, 1)
    assert (held(checkpoints), held(checkpoints, THIRD), held(checkpoints, OTHER)) == ([1], [1], [])


def test_finished_runs_are_forgotten(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path)
    write(checkpoints, 1, run=OTHER)
    write(checkpoints, 1)
    checkpoints.forget_others(RUN)
    assert (held(checkpoints), held(checkpoints, OTHER)) == ([1], [])
    checkpoints.forget(RUN)
    assert not (tmp_path / "checkpoints").exists()
    assert checkpoints.newest_run() is None
    checkpoints.forget(RUN)  # again: nothing happens


def test_what_is_newer_than_the_chosen_one_is_dropped(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path, keep=4)
    write(checkpoints, 1, 2, 3)
    files_of(tmp_path)[-1].write_bytes(b"damaged")
    checkpoints.drop_newer(RUN, mark(1))
    assert held(checkpoints) == [1]
    assert len(files_of(tmp_path)) == 1


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "an array's byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a fact": lambda data: data.replace(b'place\\": [0, 2]', b'place\\": [0, 1]'),
    "an array's shape": lambda data: data.replace(b'"shape":[2,3]', b'"shape":[3,2]'),
    "header length": lambda data: (2**63).to_bytes(8, "little") + data[8:],
    "no facts": lambda _: save({"share": ARRAYS["share"]}),
    "facts that are no object": lambda _: save({}, metadata={"facts": "[1]"}),
    "facts nested without end": lambda _: save({}, metadata={"facts": "[" * 5000}),
    "another version": lambda data: data.replace(b'version\\": 1', b'version\\": 2'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_one_is_reported_and_left_out(tmp_path: Path, damage: str) -> None:
    checkpoints, reports = store(tmp_path)
    write(checkpoints, 1, 2)
    path = files_of(tmp_path)[-1]
    changed = DAMAGE[damage](path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    assert held(checkpoints) == [1]
    assert len(reports) == 1
    assert reports[0].startswith(f"{path.name} is left out: ")


def test_checkpoint_under_another_runs_name_is_left_out(tmp_path: Path) -> None:
    checkpoints, reports = store(tmp_path)
    write(checkpoints, 1)
    (path,) = files_of(tmp_path)
    path.rename(path.with_name(path.name.replace(RUN, OTHER)))
    assert held(checkpoints, OTHER) == []
    assert "another run" in reports[0]


@given(st.binary(max_size=200))
def test_decoder_refuses_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(CheckpointCorruptError):
        _decode(data)


@given(place=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_decoder_refuses_any_changed_byte(place: int, bits: int) -> None:
    data = bytearray(encoded())
    data[place % len(data)] ^= bits
    try:
        arrays, facts = _decode(bytes(data))
    except CheckpointCorruptError:
        return
    assert facts == _decode(encoded())[1]  # only spaces of the header may change without a trace
    np.testing.assert_array_equal(arrays["share"], ARRAYS["share"])


def encoded() -> bytes:
    from moiety.store.checkpoints import _encode  # noqa: PLC0415

    return _encode({"share": ARRAYS["share"]}, {"run": RUN, "mark": mark(1).text})


@pytest.mark.parametrize("fails", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_disk_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    checkpoints, reports = store(tmp_path)
    write(checkpoints, 1)
    with monkeypatch.context() as patch:
        patch.setattr(fails, fail)
        with pytest.raises(CheckpointError, match=os.strerror(code)) as caught:
            write(checkpoints, 2)
    assert "--resume" in caught.value.hint
    assert held(checkpoints) == [1]
    assert reports == []
    assert [path.suffix for path in (tmp_path / "checkpoints").iterdir()] == [".safetensors"]


def test_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints, _ = store(tmp_path)
    write(checkpoints, 1)
    large = {"share": np.zeros(2**16, dtype=np.uint64)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
        with pytest.raises(CheckpointError, match="cannot be written"):
            checkpoints.write(RUN, mark(2), arrays=large, facts={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert held(checkpoints) == [1]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write(store(tmp_path)[0], 1)


# --- at rest ---


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locked")
    vault = Vault(folder / "checkpoints", "correct horse")
    write(store(folder, vault=vault)[0], 1)
    return folder


def settings(**changes: Any) -> Checkpointing:
    return Checkpointing.model_validate({"passphrase": "MOIETY_TEST_PASSPHRASE", **changes})


@pytest.mark.slow
def test_encrypted_checkpoint_comes_back(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOIETY_TEST_PASSPHRASE", "correct horse")
    checkpoints = open_checkpoints(locked, settings(), listener=Heard(pytest.fail))
    assert held(checkpoints) == [1]


@pytest.mark.slow
def test_encrypted_checkpoint_is_an_age_file(locked: Path) -> None:
    (path,) = files_of(locked)
    assert path.name.endswith(".safetensors.age")
    assert path.read_bytes().startswith(b"age-encryption.org/v1\n-> X25519 ")
    assert b"share" not in path.read_bytes()
    key = (locked / "checkpoints" / KEY_FILE).read_bytes()
    assert key.startswith(b"age-encryption.org/v1\n-> scrypt ")
    identity = pyrage.passphrase.decrypt(key, "correct horse").decode().strip()
    opened = pyrage.decrypt(path.read_bytes(), [pyrage.x25519.Identity.from_str(identity)])
    np.testing.assert_array_equal(load(opened)["share"], ARRAYS["share"])


@pytest.mark.slow
def test_wrong_passphrase_is_refused(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOIETY_TEST_PASSPHRASE", "wrong")
    with pytest.raises(CheckpointError, match="does not open with this passphrase") as caught:
        open_checkpoints(locked, settings(), listener=Heard(pytest.fail))
    assert "environment variable" in caught.value.hint


def test_encrypted_checkpoint_is_left_out_without_its_passphrase(locked: Path) -> None:
    checkpoints, reports = store(locked)
    assert held(checkpoints) == []
    assert "it is encrypted" in reports[0]


@pytest.mark.slow
def test_encrypted_checkpoint_that_is_damaged_is_left_out(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "checkpoints", "x")
    checkpoints, reports = store(tmp_path, vault=vault)
    write(checkpoints, 1, 2)
    path = files_of(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-1])
    assert held(checkpoints) == [1]
    assert "cannot be decrypted" in reports[0]


def test_passphrase_that_is_not_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MOIETY_TEST_PASSPHRASE, which is not set"):
        open_checkpoints(tmp_path, settings(), listener=Heard(pytest.fail))


def test_key_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file cannot be written") as caught:
        Vault(tmp_path / "file", "x")
    assert "make room" in caught.value.hint


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyrage", None)
    with pytest.raises(ConfigError, match="pyrage") as caught:
        Vault(tmp_path, "x")
    assert "moiety[age]" in caught.value.hint


def test_facts_are_json_for_everybody(tmp_path: Path) -> None:
    write(store(tmp_path)[0], 3)
    data = files_of(tmp_path)[0].read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["facts"])["mark"] == mark(3).text
