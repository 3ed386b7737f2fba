"""What a party says when it stops: a code, which limit of a policy, and nothing else."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import moiety
from moiety.contract.policy import LIMITS
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
        (PolicyError(limit="predictions", allowed=1, asked=2), AbortCode.POLICY),
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
    told = peer_aborted(abort_block(PolicyError(limit=limit, allowed=3, asked=10**6)).payload)
    assert isinstance(told, PeerPolicyError)
    assert told.limit == limit
    assert limit in told.message
    assert limit in told.hint
    assert told.exit_code == PolicyError.exit_code


def test_peer_is_told_no_number_of_a_policy() -> None:
    first = abort_block(PolicyError(limit="steps", allowed=3, asked=4))
    assert first == abort_block(PolicyError(limit="steps", allowed=30, asked=40))


def test_peer_is_told_no_detail_of_other_errors() -> None:
    assert abort_block(DataError("row 7")) == abort_block(DataError("row 8", hint="look"))


@given(payload=st.binary(max_size=2))
def test_abort_of_any_bytes_is_an_abort(payload: bytes) -> None:
    assert "the peer stopped the session" in peer_aborted(payload).message


def limits_named(source: str) -> set[str]:
    """Find the literal `limit=` of policy errors and of `require` in a module's text."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"PolicyError", "require"}:
            values = (
                [node.args[0]] if node.args else [each.value for each in node.keywords if each.arg == "limit"]
            )
            found |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    return found


def test_every_limit_has_a_number() -> None:
    sources = [path.read_text() for path in Path(moiety.__file__).parent.rglob("*.py")]
    named = set().union(*(limits_named(source) for source in sources))
    assert "released_z_per_row" in named
    assert named <= set(LIMITS)
