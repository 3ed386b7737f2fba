"""Names of checkpoints as both parties know them: the update and the transcript they were taken at.

    label owner -> data owner   CHECKPOINT     the mark: write your checkpoint
    data owner -> label owner   CHECKPOINTED   the same mark: it is on disk; the label owner writes its own

    label owner -> data owner   RESUME         the marks it holds of the run, newest first
    data owner -> label owner   RESUMED        the first of them that it holds too; empty where there is none

A party that dies between the two writes leaves a half that no list names, or that the other side does not
hold: it is never chosen. Pure; imported by both parties' loops.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, Lasts, fields_lasting
from moiety.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    LocalProtocolError,
    MalformedMessageError,
    RemoteProtocolError,
)
from moiety.protocol.messages import MARK_BYTES, MARKS_LIMIT, Block, Kind

_MARK: Final = struct.Struct("<Q32s")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Where a checkpoint was taken.

    Args:
        updates: training steps made.
        transcript: digest of what had crossed, 32 bytes.
    """

    updates: int
    transcript: bytes

    @property
    def text(self) -> str:
        """As it stands in files."""
        return f"{self.updates}-{self.transcript.hex()}"


def mark_block(kind: Kind, mark: Mark) -> Block:
    """Return the message that names one checkpoint."""
    return Block(kind=kind, step=0, payload=_pack(mark))


def read_mark(block: Block, kind: Kind) -> Mark:
    """Take a message that names one checkpoint.

    Raises:
        RemoteProtocolError: another message came.
        MalformedMessageError: it is not one mark.
    """
    payload = _payload(block, kind)
    if len(payload) != MARK_BYTES:
        raise MalformedMessageError(f"a mark has {len(payload)} bytes instead of {MARK_BYTES}")
    return _unpack(payload)


def resume_block(marks: Sequence[Mark]) -> Block:
    """Return the message that lists own checkpoints, newest first.

    Raises:
        LocalProtocolError: there is none.
    """
    if not marks:
        raise LocalProtocolError("there is no checkpoint to name")
    return Block(kind=Kind.RESUME, step=0, payload=b"".join(_pack(mark) for mark in marks[:MARKS_LIMIT]))


def read_resume(block: Block) -> list[Mark]:
    """Take the peer's list.

    Raises:
        RemoteProtocolError: another message came.
        MalformedMessageError: it is not a list of marks.
    """
    payload = _payload(block, Kind.RESUME)
    if not payload or len(payload) % MARK_BYTES:
        raise MalformedMessageError(f"a list of marks has {len(payload)} bytes")
    return [_unpack(payload[start : start + MARK_BYTES]) for start in range(0, len(payload), MARK_BYTES)]


def resumed_block(mark: Mark | None) -> Block:
    """Return the message that names the chosen checkpoint, or none."""
    return Block(kind=Kind.RESUMED, step=0, payload=b"" if mark is None else _pack(mark))


def read_resumed(block: Block, offered: Sequence[Mark]) -> Mark | None:
    """Take the choice; None where the data owner holds none of them.

    Raises:
        RemoteProtocolError: another message came, or a checkpoint that was not offered.
        MalformedMessageError: it is not a mark.
    """
    if not _payload(block, Kind.RESUMED):
        return None
    mark = read_mark(block, Kind.RESUMED)
    if mark not in offered:
        raise RemoteProtocolError("the peer chose a checkpoint that was not offered")
    return mark


def _payload(block: Block, kind: Kind) -> bytes:
    if (block.kind, block.step, block.index, block.count) != (kind, 0, 0, 1):
        raise RemoteProtocolError(f"{block.kind.name} came where {kind.name} was expected")
    return block.payload


def _pack(mark: Mark) -> bytes:
    return _MARK.pack(mark.updates, mark.transcript)


def _unpack(payload: bytes) -> Mark:
    updates, transcript = _MARK.unpack(payload)
    return Mark(updates=updates, transcript=transcript)


_MAY_DIFFER: Final = fields_lasting(Lasts.SESSION, Lasts.AGREEMENT)

SavedTerms = Mapping[str, Any]


def terms_to_save(contract: Contract) -> dict[str, Any]:
    """Return both parties' terms as plain JSON."""
    return {
        "label_owner": contract.label_owner.model_dump(mode="json"),
        "data_owner": contract.data_owner.model_dump(mode="json"),
    }


def require_same(saved: SavedTerms, now: LabelOwnerTerms | DataOwnerTerms, *, whose: str) -> None:
    """Compare a party's terms with those the run began with, perhaps under an earlier version of moiety.

    Software, wire version and policy may be others: a resumed run asks the policy of today.

    Args:
        saved: from `terms_to_save`.
        now: what that party states in this session.
        whose: "own" or "peer", for the error.

    Raises:
        CheckpointMismatchError: naming the first field that differs, and both values.
        CheckpointCorruptError: no terms were saved.
    """
    role = "label_owner" if isinstance(now, LabelOwnerTerms) else "data_owner"
    try:
        then = dict(saved[role])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointCorruptError(
            "a checkpoint holds no terms", hint="restore it from a backup"
        ) from error
    present = now.model_dump(mode="json")
    for field in present:
        if field not in _MAY_DIFFER and then.get(field) != present[field]:
            raise CheckpointMismatchError(
                f"the run began with {field} = {then.get(field)}, and the {whose} terms now say "
                f"{present[field]}",
                hint=f"set {field} back to resume, or train a new model without --resume",
            )


def table_digest(*arrays: NDArray[Any]) -> str:
    """Digest what a training uses of a table, so that a resumed run can tell whether it is the same."""
    digest = sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def require_same_table(saved: Mapping[str, Any], now: str) -> None:
    """Compare a party's own table with the one that the run began with.

    The ids in their order are compared by the contract; this compares the values under them.

    Args:
        saved: facts of a checkpoint, with the digest then as "table".
        now: the digest of what this session uses.

    Raises:
        CheckpointMismatchError: the values differ.
    """
    if saved.get("table") != now:
        raise CheckpointMismatchError(
            "the values of this side's table are others than those the run began with",
            hint="bring the table back to what it was, to resume, or train a new model without --resume",
        )
