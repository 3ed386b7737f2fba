"""Byte strings as files that were damaged or made up: run files, models, ledgers. Imported by `targets`.

Files go into one folder in memory, /dev/shm where there is one. Models and ledgers are given twice over:
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

from moiety.checkpoint import load_model
from moiety.config import load_run
from moiety.ledger import Ledger


@cache
def scratch() -> Path:
    """Return a folder of this process, removed with it."""
    memory = Path("/dev/shm")  # noqa: S108 - only if it is there; the folder in it is private
    folder = Path(tempfile.mkdtemp(prefix="moiety-fuzz-", dir=memory if memory.is_dir() else None))
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
    text = content if how == b"f" else _sealed({**complete, **_object(content, how)})
    (scratch() / "model.json").write_bytes(text)
    load_model(scratch())


def load_ledger(data: bytes) -> None:
    """Open a ledger."""
    path = scratch() / "ledger.jsonl"
    path.write_bytes(data)
    with closing(Ledger(path)):
        pass


def _object(content: bytes, how: bytes) -> dict[str, Any]:
    if how != b"F":
        return {}
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sealed(facts: dict[str, Any]) -> bytes:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return json.dumps({**facts, "digest": sha256(text.encode()).hexdigest()}).encode()


_EMPTY_ARRAYS = (2).to_bytes(8, "little") + b"{}"
