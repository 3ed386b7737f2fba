"""The agreed contract in the run's folder: written when a session opens, for signing off and for later.

One JSON file each for the last training and the last prediction, replaced as a whole. Imported by both
parties' sessions and by the command that prints it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from moiety.contract.agreement import Content, content_digest, content_of
from moiety.contract.contract import Contract
from moiety.errors import CheckpointCorruptError
from moiety.store.files import Facts, writing
from moiety.store.record import read_record, write_record

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
    facts = {
        "session": contract.session.hex(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "content": content,
    }
    with writing(folder, then="run again"):
        write_record(folder / _FILES[contract.label_owner.purpose], facts, digest_of=_signed_off)


def kept_contract(folder: Path, *, purpose: str = "train") -> Kept | None:
    """Read what was agreed last; None before the first session.

    Raises:
        CheckpointCorruptError: the file is damaged, or of another version.
    """
    path = folder / _FILES[purpose]
    if not path.exists():
        return None
    facts = read_record(path, digest_of=_signed_off)
    try:
        return _kept(facts)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointCorruptError(
            f"{path} is no contract", hint="restore it from a backup, or train again"
        ) from error


def _signed_off(facts: Facts) -> str:
    """Return the digest that both sides compare: what is of one session only is not in it."""
    return content_digest(facts["content"])


def _kept(facts: Facts) -> Kept:
    content, session, at = (facts.pop(name) for name in ("content", "session", "at"))
    if facts.keys() != {"version"} or not all(isinstance(content[part], dict) for part in _PARTS):
        raise ValueError("not the parts of a contract")
    if not all(isinstance(text, str) and text.isprintable() for text in (session, at)):
        raise ValueError("not what a session writes")
    return Kept(content=content, digest=content_digest(content), session=session, at=at)
