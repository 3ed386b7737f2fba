"""Byte strings as files that were damaged or made up: run files, models, ledgers. Imported by `targets`.

Files go into one temporary folder, which `run` puts into memory. Models and ledgers are given twice over:
as they are, and with the digests that belong to them, so that what lies behind the digest is reached too.
"""

import atexit
import json
import shutil
import tempfile
from contextlib import closing
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from moiety.config import load_run
from moiety.contract.agreement import content_digest
from moiety.protocol.resume import Mark
from moiety.store.checkpoints import FOLDER, Checkpoints, _arrays_digest
from moiety.store.contract import keep_contract, kept_contract
from moiety.store.files import digest
from moiety.store.ledger import Ledger
from moiety.store.model import load_model
from tests.support.pair import contract_of


@cache
def scratch() -> Path:
    """Return a folder of this process, removed with it."""
    folder = Path(tempfile.mkdtemp(prefix="moiety-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def load_run_file(data: bytes) -> None:
    """Load a run file."""
    path = scratch() / "run.toml"
    path.write_bytes(data)
    load_run(path)


def load_model_file(data: bytes) -> None:
    """Load a model: the first byte says which of its two files the rest is, and whether digests fit."""
    how, content = data[:1], data[1:]
    arrays, facts = _EMPTY_ARRAYS, {"version": 1, "model": "ab" * 8, "updates": 1}
    if how in (b"a", b"A"):
        arrays = content
    (scratch() / "model.safetensors").write_bytes(arrays)
    complete = {**facts, "sha256": sha256(arrays).hexdigest()}
    text = content if how == b"f" else _sealed({**complete, **(_object(content) if how == b"F" else {})})
    (scratch() / "model.json").write_bytes(text)
    load_model(scratch())


def checkpoint_example() -> bytes:
    """Return the content of a checkpoint file."""
    checkpoints, path = _checkpoints("example")
    mark = Mark(updates=3, transcript=bytes(32))
    checkpoints.write(_RUN, mark, arrays={"share": np.zeros((2, 1), dtype=np.uint64)}, facts={"terms": {}})
    return path.read_bytes()


def load_checkpoint(data: bytes) -> None:
    """Load a checkpoint: the first byte says whether the rest is the file, or facts with digests that fit."""
    how, content = data[:1], data[1:]
    checkpoints, path = _checkpoints("checkpoint")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_with_facts(content) if how == b"F" else content)
    checkpoints._load(path, _RUN)  # noqa: SLF001 - `saved` would report what this raises


def _checkpoints(name: str) -> tuple[Checkpoints, Path]:
    folder = scratch() / name
    path = folder / FOLDER / f"{_RUN}.00000001.safetensors"
    return Checkpoints(folder, keep=3, report=lambda _: None), path


def _with_facts(content: bytes) -> bytes:
    arrays = {"share": np.zeros((2, 1), dtype=np.uint64)}
    facts = {"run": _RUN, "mark": f"3-{bytes(32).hex()}", "version": 1, "sha256": _arrays_digest(arrays)}
    facts |= _object(content)
    facts["digest"] = digest({name: value for name, value in facts.items() if name != "digest"})
    return save(arrays, metadata={"facts": json.dumps(facts)})


def contract_example() -> bytes:
    """Return the content of a contract file."""
    folder = scratch() / "contract"
    keep_contract(folder, contract_of())
    return (folder / "contract.json").read_bytes()


def load_contract(data: bytes) -> None:
    """Load a kept contract; the first byte says whether its digest is made to fit."""
    how, content = data[:1], data[1:]
    if how == b"s":
        values = _object(content)
        text = json.dumps({**values, "digest": content_digest(_part(values, "content"))}).encode()
    else:
        text = content
    (scratch() / "contract.json").write_bytes(text)
    kept_contract(scratch())


def _part(values: dict[str, Any], name: str) -> dict[str, Any]:
    part = values.get(name)
    return part if isinstance(part, dict) else {}


def load_ledger(data: bytes) -> None:
    """Open a ledger."""
    path = scratch() / "ledger.jsonl"
    path.write_bytes(data)
    with closing(Ledger(path)):
        pass


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sealed(facts: dict[str, Any]) -> bytes:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return json.dumps({**facts, "digest": sha256(text.encode()).hexdigest()}).encode()


_RUN = "ab" * 16
_EMPTY_ARRAYS = (2).to_bytes(8, "little") + b"{}"
