"""What crosses between the parties: the only codec, with a limit on every field.

Protocols make and take `Block`s; a session puts them into frames (`moiety.net.frame`). There are no objects
to deserialise: payloads are ciphertexts and ring integers of exactly known sizes, small structs, or the
canonical JSON of the handshake's terms (validated in `contract`).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from moiety.contract.policy import exceeded_at_peer, limit_number
from moiety.contract.schedule import RowHandle, Split
from moiety.errors import (
    CapacityError,
    ContractMismatchError,
    DataError,
    MalformedMessageError,
    MoietyError,
    PeerAbortedError,
    PolicyError,
    SessionLostError,
    TransportError,
)

_REQUEST: Final = struct.Struct("<BBIIIQ")
PAYLOAD_LIMIT: Final = 4 * 2**20
BLOCKS_LIMIT: Final = 2**20


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

PAYLOAD_LIMITS: Final = {
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


_CODES: Final[tuple[tuple[type[MoietyError], AbortCode], ...]] = (
    (ContractMismatchError, AbortCode.CONTRACT),
    (PolicyError, AbortCode.POLICY),
    (CapacityError, AbortCode.CAPACITY),
    (DataError, AbortCode.DATA),
    (SessionLostError, AbortCode.UNKNOWN_SESSION),
    (TransportError, AbortCode.INTERRUPTED),
)


def abort_code(error: BaseException | None) -> AbortCode:
    """Return the code that says why a party stops."""
    known = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if known is not None:
        return known
    return AbortCode.PROTOCOL if isinstance(error, MoietyError) else AbortCode.INTERRUPTED


def abort_block(error: BaseException | None) -> Block:
    """Return the message that a party stops by.

    Leaks:
        A code; for a policy, the limit's name, which is in the contract.
    """
    number = limit_number(error)
    payload = bytes([abort_code(error), *([] if number is None else [number])])
    return Block(kind=Kind.ABORT, step=0, payload=payload)


def peer_aborted(payload: bytes) -> PeerAbortedError:
    """Return the error that the peer's message means; unknown numbers are another version's."""
    code, number = payload.ljust(2, b"\0")
    refused = exceeded_at_peer(number) if code == AbortCode.POLICY else None
    if refused is not None:
        return refused
    known = {int(each): each.name.lower().replace("_", " ") for each in AbortCode}
    error = PeerAbortedError(
        f"the peer stopped the session ({known.get(code, 'unknown')})",
        hint="see the peer's own output",
    )
    error.interrupted = code == AbortCode.INTERRUPTED
    return error
