"""A frame: a fixed header that binds a block to contract, session, sender and position, and the block.

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
from typing import Final

from moiety.contract.products import SESSION_BYTES, Role
from moiety.contract.terms import WIRE_VERSION
from moiety.errors import MalformedMessageError
from moiety.protocol.messages import BLOCKS_LIMIT, PAYLOAD_LIMIT, PAYLOAD_LIMITS, Block, Kind

MAGIC: Final = b"moty"
CONTRACT_BYTES: Final = 32
NO_CONTRACT: Final = bytes(CONTRACT_BYTES)
NO_SESSION: Final = bytes(SESSION_BYTES)

_HEADER: Final = struct.Struct("<4sHBB32s16sQQQIII")
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A block with what binds it to its place."""

    role: Role
    contract: bytes
    session: bytes
    sequence: int
    acknowledged: int
    block: Block


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
    limit = PAYLOAD_LIMITS.get(kind, PAYLOAD_LIMIT)
    if size > limit:
        raise MalformedMessageError(f"a {kind.name} block has {size} bytes, and {limit} are allowed")
    if not 0 <= index < count <= BLOCKS_LIMIT:
        raise MalformedMessageError(f"a {kind.name} block is number {index} of {count}")
