"""What a party says when it stops: a code, which limit of a policy, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.config import LIMITS
from moiety.contract.policy import exceeded
from moiety.errors import (
    ContractMismatchError,
    DataError,
    LocalProtocolError,
    PeerPolicyError,
    PolicyError,
    RingOverflowError,
)
from moiety.protocol.messages import AbortCode, abort_block, abort_code, peer_aborted


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContractMismatchError(field="rows", own=1, peer=2), AbortCode.CONTRACT),
        (exceeded("predictions", allowed=1, asked=2), AbortCode.POLICY),
        (RingOverflowError("too large", largest_magnitude_bits=61, limit_bits=60), AbortCode.CAPACITY),
        (DataError("a cell is missing"), AbortCode.DATA),
        (LocalProtocolError("out of order"), AbortCode.PROTOCOL),
        (KeyboardInterrupt(), AbortCode.INTERRUPTED),
        (None, AbortCode.INTERRUPTED),
    ],
)
def test_abort_code_of_an_error(error: BaseException | None, code: AbortCode) -> None:
    assert abort_code(error) is code
    assert abort_block(error).payload[0] == code


@pytest.mark.parametrize("limit", LIMITS)
def test_peer_is_told_which_limit_stopped_it(limit: str) -> None:
    told = peer_aborted(abort_block(exceeded(limit, allowed=3, asked=10**6)).payload)
    assert isinstance(told, PeerPolicyError)
    assert told.limit == limit
    assert limit in told.message
    assert limit in told.hint
    assert told.exit_code == PolicyError.exit_code


def test_peer_is_told_no_number_of_a_policy() -> None:
    first = abort_block(exceeded("steps", allowed=3, asked=4))
    assert first == abort_block(exceeded("steps", allowed=30, asked=40))


def test_peer_is_told_no_detail_of_other_errors() -> None:
    assert abort_block(DataError("row 7")) == abort_block(DataError("row 8", hint="look"))


@given(payload=st.binary(max_size=2))
def test_abort_of_any_bytes_is_an_abort(payload: bytes) -> None:
    assert "the peer stopped the session" in peer_aborted(payload).message


def test_numbers_of_limits_stay() -> None:
    """What 0.1.0 gave; `wide_layer` was called out_features there. A new limit has a number of its own."""
    known = "released_z_per_row predictions smallest_batch wide_layer steps runs protocols schemes reveals"
    assert [LIMITS[name].number for name in [*known.split(), "early_stopping"]] == list(range(1, 11))
    numbers = [limit.number for limit in LIMITS.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 256 for number in numbers)


def test_limit_of_an_unknown_number_is_not_named() -> None:
    assert not isinstance(peer_aborted(bytes([AbortCode.POLICY, 255])), PeerPolicyError)
