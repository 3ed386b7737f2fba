"""The one way to save facts: JSON with a version and a digest, written whole, read back whole or refused.

    {..., "version": 1, "digest": "<SHA-256 of everything else>"}

Imported by what saves models, checkpoints, alignments and contracts.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from moiety.errors import CheckpointCorruptError
from moiety.store.files import Facts, read, replace

VERSION: Final = 1
_AGAIN: Final = "restore it from a backup, or train again"

Digest = Callable[[Facts], str]


def digest(facts: Facts) -> str:
    """Return the SHA-256 of canonical JSON, in hexadecimal."""
    return sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def seal(facts: Mapping[str, Any], *, digest_of: Digest = digest) -> Facts:
    """Add version and digest to facts."""
    complete = {**facts, "version": VERSION}
    complete.pop("digest", None)
    return {**complete, "digest": digest_of(complete)}


def unseal(data: bytes | str, *, name: str, digest_of: Digest = digest) -> Facts:
    """Return the facts of a record, with their version.

    Args:
        data: the record; one without a version is of the first.
        name: what an error calls it.
        digest_of: how its digest was computed, where not over everything else.

    Raises:
        CheckpointCorruptError: it is no record, is of another version, or was changed.
    """
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointCorruptError(f"{name} is not JSON", hint=_AGAIN) from error
    if not isinstance(facts, dict) or facts.get("version", VERSION) != VERSION:
        raise CheckpointCorruptError(f"{name} is not of version {VERSION}", hint=_AGAIN)
    stated = facts.pop("digest", None)
    try:
        own = digest_of(facts)
    except (KeyError, TypeError) as error:
        raise CheckpointCorruptError(f"{name} has nothing that its digest is of", hint=_AGAIN) from error
    if stated != own:
        raise CheckpointCorruptError(f"{name} does not match its digest", hint=_AGAIN)
    return facts


def write_record(path: Path, facts: Mapping[str, Any], *, digest_of: Digest = digest) -> None:
    """Replace a record: what is found later is the old or the new one.

    Raises:
        OSError: it cannot be written.
    """
    replace(path, json.dumps(seal(facts, digest_of=digest_of)).encode())


def read_record(path: Path, *, digest_of: Digest = digest) -> Facts:
    """Read a record of a bounded size.

    Raises:
        CheckpointCorruptError: it is missing, unreadable, too large, of another version, or was changed.
    """
    return unseal(read(path), name=str(path), digest_of=digest_of)
