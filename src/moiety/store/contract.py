"""The agreed contract in the run's folder: written when a session opens, for signing off and for later.

One JSON file each for the last training and the last prediction, replaced as a whole. Imported by both
parties' sessions and by the command that prints it.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from moiety.contract.agreement import Content, content_digest, content_of
from moiety.contract.contract import Contract
from moiety.errors import CheckpointCorruptError, CheckpointError
from moiety.store.files import read, replace

VERSION: Final = 1
_FILES: Final = {"train": "contract.json", "predict": "prediction-contract.json"}
_PARTS: Final = ("both", "label_owner", "data_owner", "follows")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A contract as it was kept.

    Args:
        content: what was agreed.
        digest: of the content.
        session: id of the session that agreed on it last.
        at: when.
    """

    content: Content
    digest: str
    session: str
    at: str


def keep_contract(folder: Path, contract: Contract) -> None:
    """Write what was agreed into the run's folder.

    Raises:
        CheckpointError: the folder cannot be written to.
    """
    content = content_of(contract)
    values = {
        "version": VERSION,
        "digest": content_digest(content),
        "session": contract.session.hex(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "content": content,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / _FILES[contract.label_owner.purpose], json.dumps(values, indent=1).encode())
    except OSError as error:
        raise CheckpointError(
            f"the contract cannot be written into {folder}: {error.strerror}",
            hint="make room, or give this user the right to write there",
        ) from error


def kept_contract(folder: Path, *, purpose: str = "train") -> Kept | None:
    """Read what was agreed last; None before the first session.

    Raises:
        CheckpointCorruptError: the file is damaged, or of another version.
    """
    path = folder / _FILES[purpose]
    if not path.exists():
        return None
    try:
        return _kept(json.loads(read(path)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointCorruptError(
            f"{path} is no contract of version {VERSION}, or was changed",
            hint="take it from a backup, or run again",
        ) from error


def _kept(values: dict[str, Any]) -> Kept:
    version, content = values.pop("version"), values["content"]
    texts = [values[name] for name in ("digest", "session", "at")]
    if version != VERSION or not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise ValueError("not a contract")
    if (
        not all(isinstance(content[part], dict) for part in _PARTS)
        or content_digest(content) != values["digest"]
    ):
        raise ValueError("not the contract that the digest is of")
    return Kept(**values)
