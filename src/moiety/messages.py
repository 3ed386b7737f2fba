"""What crosses between the parties: the only codec, with a limit on every field.

A frame is a fixed header and one block. Protocols make and take `Block`s; a session puts them into
`Frame`s, which bind them to contract, session, sender and position. There are no objects to deserialise:
payloads are ciphertexts and ring integers of exactly known sizes, small structs, or the canonical JSON of
the handshake's terms (validated in `contract`).

    bytes  field          meaning
    4      magic          "moty"
    2      version        wire version
    1      role           of the sender
    1      kind           of the block
    32     contract       digest of what both agreed on; zeros during the handshake
    16     session        id of the session; zeros during the handshake
    8      sequence       number of this frame in its direction, from 0
    8      acknowledged   frames of the other direction received so far
    8      step           exchange the block belongs to
    4 + 4  block, blocks  position within its message
    4      length         of the payload that follows
    4      checksum       CRC-32 of all of the above and the payload

All integers little-endian. The checksum finds damage; against forgery there is TLS. Reference:
docs/adr/0003-block-header.md, docs/adr/0019-reconnection.md.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from moiety.errors import MalformedMessageError
from moiety.schedule import RowHandle, Split

WIRE_VERSION: Final = 4
MAGIC: Final = b"moty"
CONTRACT_BYTES: Final = 32
SESSION_BYTES: Final = 16
NO_CONTRACT: Final = bytes(CONTRACT_BYTES)
NO_SESSION: Final = bytes(SESSION_BYTES)

_HEADER: Final = struct.Struct("<4sHBB32s16sQQQIII")
_REQUEST: Final = struct.Struct("<BBIIIQ")
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size
PAYLOAD_LIMIT: Final = 4 * 2**20
BLOCKS_LIMIT: Final = 2**20


class Role(IntEnum):
    """Who sent a frame."""

    DATA_OWNER = 1
    LABEL_OWNER = 2


class Kind(IntEnum):
    """What a block is."""

    HELLO = 1
    PUBLIC_KEY = 2
    INITIAL_SHARE = 3
    REQUEST = 4
    WEIGHTS = 5
    MASKED_Z = 6
    SHARE_OF_Z = 7
    GRADIENTS = 8
    MASKED_UPDATE = 9
    FINISH = 10
    ABORT = 11
    ACTIVATIONS = 12
    TRANSPOSED_ACTIVATIONS = 13
    DATA_WEIGHTS = 14
    MASKED_INPUT_GRADIENT = 15
    SHARE_OF_INPUT_GRADIENT = 16
    INITIAL_FACTOR = 17
    MASKED_INITIAL = 18
    ALIGNMENT = 19
    BLINDED_IDS = 20
    DOUBLY_BLINDED = 21
    ALIGNED = 22
    ASSIGNMENT = 25
    CHOICE = 26
    RECONNECT = 27
    ACKNOWLEDGE = 28
    CHECKPOINT = 30
    CHECKPOINTED = 31
    RESUME = 32
    RESUMED = 33
    MASKED_CHOICE = 34


class AbortCode(IntEnum):
    """Why a party stopped; see `aborts`. More detail is in its own log only."""

    PROTOCOL = 1
    CONTRACT = 2
    POLICY = 3
    CAPACITY = 4
    DATA = 5
    INTERRUPTED = 6
    UNKNOWN_SESSION = 7


ABOUT_CHECKPOINTS: Final = frozenset({Kind.CHECKPOINT, Kind.CHECKPOINTED, Kind.RESUME, Kind.RESUMED})
"""Blocks that move no state: a checkpoint's transcript leaves them out."""

MARK_BYTES: Final = 40
MARKS_LIMIT: Final = 64

_LIMITS: Final = {
    Kind.HELLO: 2**14,
    Kind.ALIGNMENT: 2**14,
    Kind.ALIGNED: 32,
    Kind.REQUEST: _REQUEST.size,
    Kind.FINISH: 1,
    Kind.ABORT: 2,
    Kind.CHECKPOINT: MARK_BYTES,
    Kind.CHECKPOINTED: MARK_BYTES,
    Kind.RESUME: MARKS_LIMIT * MARK_BYTES,
    Kind.RESUMED: MARK_BYTES,
    Kind.RECONNECT: 0,
    Kind.ACKNOWLEDGE: 0,
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """The smallest unit computed, sent, stored and acknowledged.

    Args:
        kind: what it is.
        step: the exchange it belongs to.
        index: its number within the message, below `count`.
        count: blocks of the message.
        payload: at most 4 MiB.
    """

    kind: Kind
    step: int
    payload: bytes
    index: int = 0
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A block with what binds it to its place."""

    role: Role
    contract: bytes
    session: bytes
    sequence: int
    acknowledged: int
    block: Block


@dataclass(frozen=True, kw_only=True)
class Request:
    """The label owner asks for z of a batch.

    Args:
        handle: the batch.
        training: an update follows; otherwise forward only.
        updates: updates made so far, which both sides must agree on.
    """

    handle: RowHandle
    training: bool
    updates: int


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame for the wire."""
    block = frame.block
    header = _HEADER.pack(
        MAGIC,
        WIRE_VERSION,
        frame.role,
        block.kind,
        frame.contract,
        frame.session,
        frame.sequence,
        frame.acknowledged,
        block.step,
        block.index,
        block.count,
        len(block.payload),
    )
    checksum = zlib.crc32(block.payload, zlib.crc32(header))
    return b"".join((header, _CHECKSUM.pack(checksum), block.payload))


def decode_frame(data: bytes) -> Frame:
    """Decode and check a frame; every field has a limit.

    Raises:
        MalformedMessageError: too short, damaged, of another protocol or version, or a field out of range.
    """
    if len(data) < HEADER_BYTES:
        raise MalformedMessageError(f"a frame of {len(data)} bytes is shorter than its header")
    (
        magic,
        version,
        role,
        kind,
        contract,
        session,
        sequence,
        acknowledged,
        step,
        index,
        count,
        size,
    ) = _HEADER.unpack_from(data)
    _check_version(magic, version)
    if size != len(data) - HEADER_BYTES:
        raise MalformedMessageError(f"a frame announces {size} bytes and carries {len(data) - HEADER_BYTES}")
    _check_sum(data)
    try:
        sender, what = Role(role), Kind(kind)
    except ValueError as error:
        raise MalformedMessageError(f"a frame has unknown role {role} or kind {kind}") from error
    _check_extent(what, size=size, index=index, count=count)
    block = Block(kind=what, step=step, payload=data[HEADER_BYTES:], index=index, count=count)
    return Frame(
        role=sender,
        contract=contract,
        session=session,
        sequence=sequence,
        acknowledged=acknowledged,
        block=block,
    )


def _check_version(magic: bytes, version: int) -> None:
    if magic != MAGIC:
        raise MalformedMessageError("the peer does not speak moiety's protocol")
    if version != WIRE_VERSION:
        raise MalformedMessageError(
            f"the parties differ in wire_version: own {WIRE_VERSION}, peer {version}",
            hint="install the same version of moiety on both sides",
        )


def _check_sum(data: bytes) -> None:
    view = memoryview(data)
    found = zlib.crc32(view[HEADER_BYTES:], zlib.crc32(view[: _HEADER.size]))
    if _CHECKSUM.unpack_from(data, _HEADER.size) != (found,):
        raise MalformedMessageError("a frame was damaged on its way")


def _check_extent(kind: Kind, *, size: int, index: int, count: int) -> None:
    limit = _LIMITS.get(kind, PAYLOAD_LIMIT)
    if size > limit:
        raise MalformedMessageError(f"a {kind.name} block has {size} bytes, and {limit} are allowed")
    if not 0 <= index < count <= BLOCKS_LIMIT:
        raise MalformedMessageError(f"a {kind.name} block is number {index} of {count}")


def encode_request(request: Request) -> bytes:
    """Encode a request for z."""
    handle = request.handle
    return _REQUEST.pack(
        request.training, handle.split, handle.epoch, handle.batch, handle.rows, request.updates
    )


def decode_request(payload: bytes) -> Request:
    """Decode a request for z; whether the schedule has such a batch is the protocol's question.

    Raises:
        MalformedMessageError: wrong length, or a field that is no request's.
    """
    if len(payload) != _REQUEST.size:
        raise MalformedMessageError(f"a request has {len(payload)} bytes instead of {_REQUEST.size}")
    training, split, epoch, batch, rows, updates = _REQUEST.unpack(payload)
    if training > 1 or split not in list(Split):
        raise MalformedMessageError("a request names no known purpose or split")
    handle = RowHandle(split=Split(split), epoch=epoch, batch=batch, rows=rows)
    return Request(handle=handle, training=bool(training), updates=updates)
