"""Names of checkpoints as both parties know them: the update and the transcript they were taken at.

    label owner -> data owner   CHECKPOINT     the mark: write your half
    data owner -> label owner   CHECKPOINTED   the same mark: it is on disk; the label owner writes its own

    label owner -> data owner   RESUME         the marks it holds of the run, newest first
    data owner -> label owner   RESUMED        the first of them that it holds too; empty where there is none

A party that dies between the two writes leaves a half that no list names, or that the other side does not
hold: it is never chosen. Pure; imported by both parties' loops.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from moiety.errors import LocalProtocolError, MalformedMessageError, RemoteProtocolError
from moiety.messages import MARK_BYTES, MARKS_LIMIT, Block, Kind

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
        raise RemoteProtocolError(f"{block.kind.name} came where {kind.name} was due")
    return block.payload


def _pack(mark: Mark) -> bytes:
    return _MARK.pack(mark.updates, mark.transcript)


def _unpack(payload: bytes) -> Mark:
    updates, transcript = _MARK.unpack(payload)
    return Mark(updates=updates, transcript=transcript)
