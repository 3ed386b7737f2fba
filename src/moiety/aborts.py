"""What a party says when it stops: a code, and for a policy the name of the limit. Imported by sessions.

    bytes   field   meaning
    1       code    `AbortCode`
    0 or 1  limit   where a policy stops it: the number in `policy.LIMITS` of the limit reached, from 1

The limits and what was released are in the contract, and requests are the label owner's own: which limit
stops them tells it nothing that it could not compute. No other detail leaves; that is in each side's own
output.
"""

from typing import Final

from moiety.errors import (
    CapacityError,
    ContractMismatchError,
    DataError,
    MoietyError,
    PeerAbortedError,
    PeerPolicyError,
    PolicyError,
    SessionLostError,
    TransportError,
)
from moiety.messages import AbortCode, Block, Kind
from moiety.policy import LIMITS

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
    payload = bytes([abort_code(error)])
    if isinstance(error, PolicyError) and error.limit in LIMITS:
        payload += bytes([LIMITS.index(error.limit) + 1])
    return Block(kind=Kind.ABORT, step=0, payload=payload)


def peer_aborted(payload: bytes) -> PeerAbortedError:
    """Return the error that the peer's message means; unknown numbers are another version's."""
    code, number = payload.ljust(2, b"\0")
    if code == AbortCode.POLICY and 1 <= number <= len(LIMITS):
        return PeerPolicyError(LIMITS[number - 1])
    known = {int(each): each.name.lower().replace("_", " ") for each in AbortCode}
    error = PeerAbortedError(
        f"the peer stopped the session ({known.get(code, 'unknown')})",
        hint="the peer's own output says why",
    )
    error.interrupted = code == AbortCode.INTERRUPTED
    return error
