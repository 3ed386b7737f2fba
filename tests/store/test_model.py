"""What a run saves: whole or refused."""

import json
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.errors import CheckpointCorruptError, CheckpointError
from moiety.store.model import load_model, save_model

ARRAYS: dict[str, NDArray[Any]] = {
    "share": np.array([[1, 2**63], [2**64 - 1, 0]], dtype=np.uint64),
    "bias": np.array([0.5, -1.25], dtype=np.float32),
    "empty": np.zeros((0, 3)),
}
FACTS = {"model": "00ff", "updates": 3, "target": {"kind": "binary"}}
HALVES = ["model.json", "model.safetensors"]


def saved(folder: Path, **facts: object) -> Path:
    save_model(folder, arrays=ARRAYS, facts={**FACTS, **facts})
    return folder


def test_model_round_trip(tmp_path: Path) -> None:
    arrays, facts = load_model(saved(tmp_path / "new" / "folder"))
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
    assert {name: facts[name] for name in FACTS} == FACTS


def test_model_of_transposed_arrays(tmp_path: Path) -> None:
    transposed = np.arange(6.0).reshape(2, 3).T
    save_model(tmp_path, arrays={"x": transposed}, facts={})
    assert np.array_equal(load_model(tmp_path)[0]["x"], transposed)


def test_model_is_replaced_as_a_whole(tmp_path: Path) -> None:
    saved(tmp_path)
    save_model(tmp_path, arrays={"bias": np.ones(1)}, facts={"model": "new"})
    arrays, facts = load_model(tmp_path)
    assert list(arrays) == ["bias"]
    assert facts["model"] == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == HALVES


def test_model_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    for path in saved(tmp_path).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorruptError, match="cannot be read") as caught:
        load_model(tmp_path / "nothing")
    assert "train first" in caught.value.hint


@pytest.mark.parametrize("name", HALVES)
def test_model_with_a_file_missing(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / name).unlink()
    with pytest.raises(CheckpointCorruptError, match=f"{name} cannot be read"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", HALVES)
def test_model_truncated_at_every_tenth_of_a_file(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path) / name
    data = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(data[: len(data) * tenth // 10])
        with pytest.raises(CheckpointCorruptError, match=name):
            load_model(tmp_path)


@pytest.mark.parametrize("name", HALVES)
def test_model_with_one_byte_changed(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path) / name
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        if data[position : position + 1].isspace():
            continue  # JSON's white space means nothing
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(CheckpointCorruptError):
            load_model(tmp_path)


def test_model_of_halves_that_do_not_belong_together(tmp_path: Path) -> None:
    old = saved(tmp_path / "old")
    save_model(tmp_path / "new", arrays={"bias": np.ones(2)}, facts=FACTS)
    (tmp_path / "new" / "model.safetensors").replace(old / "model.safetensors")
    with pytest.raises(CheckpointCorruptError, match="does not match its digest") as caught:
        load_model(old)
    assert caught.value.hint


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change facts and repair their digest, as a later version or a careful hand would."""
    path = folder / "model.json"
    facts = json.loads(path.read_bytes())
    del facts["digest"]
    change(facts)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    facts["digest"] = sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_model_of_another_version(tmp_path: Path, version: object) -> None:
    rewritten(saved(tmp_path), lambda facts: facts.update(version=version))
    with pytest.raises(CheckpointCorruptError, match="version 1"):
        load_model(tmp_path)


def test_model_that_is_json_but_no_object(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.json").write_text("[1]")
    with pytest.raises(CheckpointCorruptError, match="version 1"):
        load_model(tmp_path)


def test_model_with_changed_facts(tmp_path: Path) -> None:
    path = saved(tmp_path) / "model.json"
    path.write_text(path.read_text().replace('"updates": 3', '"updates": 4'))
    with pytest.raises(CheckpointCorruptError, match="does not match its digest"):
        load_model(tmp_path)


def test_model_whose_arrays_are_no_safetensors(tmp_path: Path) -> None:
    data = b"not arrays"
    (saved(tmp_path) / "model.safetensors").write_bytes(data)
    rewritten(tmp_path, lambda facts: facts.update(sha256=sha256(data).hexdigest()))
    with pytest.raises(CheckpointCorruptError, match="not a safetensors file"):
        load_model(tmp_path)


def test_facts_cannot_overrule_version_and_sum(tmp_path: Path) -> None:
    saved(tmp_path, version=99, sha256="0")
    assert load_model(tmp_path)[1]["version"] == 1


def test_file_larger_than_any_model(tmp_path: Path) -> None:
    path = saved(tmp_path) / "model.safetensors"
    with path.open("r+b") as file:
        file.truncate(2**32 + 1)  # sparse: takes no room
    with pytest.raises(CheckpointCorruptError, match="larger than any model"):
        load_model(tmp_path)


def test_model_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        saved(tmp_path / "file")
    assert caught.value.hint
