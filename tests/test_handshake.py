"""The handshake: both sides come to one contract, or both name what they differ in."""

from dataclasses import replace

import pytest

from moiety.contract import Contract, DataOwnerTerms, LabelOwnerTerms, encode_terms
from moiety.crypto.parameters import TESTING_ONLY
from moiety.errors import (
    ContractMismatchError,
    InsecureParameterError,
    LocalProtocolError,
    MalformedMessageError,
    MoietyError,
    PolicyError,
    RemoteProtocolError,
)
from moiety.messages import Block, Kind
from moiety.protocol.handshake import DataOwnerHandshake, LabelOwnerHandshake
from moiety.simulate import handshake
from tests.pair import data_terms, label_terms


def errors_of(label: LabelOwnerTerms, data: DataOwnerTerms) -> tuple[MoietyError, MoietyError]:
    """Run a handshake that both sides must refuse, and return what each of them says."""
    label_owner, data_owner = LabelOwnerHandshake(label), DataOwnerHandshake()
    data_owner.receive(label_owner.hello())
    answer = data_owner.answer(data)
    with pytest.raises(MoietyError) as at_data_owner:
        data_owner.agree(data)
    with pytest.raises(MoietyError) as at_label_owner:
        label_owner.receive(answer)
    return at_label_owner.value, at_data_owner.value


def test_handshake_gives_both_sides_one_contract() -> None:
    contract = handshake(label_terms(), data_terms())
    assert contract == Contract(label_owner=label_terms(), data_owner=data_terms())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wire_version", 3),
        ("run", "other-run"),
        ("purpose", "predict"),
        ("rows", 41),
        ("order_digest", "cd" * 32),
        ("model", "00ff00ff"),
    ],
)
def test_differing_field_is_named_on_both_sides(field: str, value: object) -> None:
    usual = getattr(label_terms(), field)
    here, there = errors_of(label_terms(), data_terms(**{field: value}))
    assert isinstance(here, ContractMismatchError)
    assert isinstance(there, ContractMismatchError)
    assert (here.field, here.own, here.peer) == (field, usual, value)
    assert (there.field, there.own, there.peer) == (field, value, usual)
    assert field in here.message
    assert field in here.hint


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("out_features", {"in_features": 3}),
        ("released_z_per_row", {"released_z_per_row_limit": 5}),
        ("smallest_batch", {"smallest_batch": 100}),
    ],
)
def test_policy_is_enforced_on_both_sides(limit: str, data: dict[str, object]) -> None:
    for error in errors_of(label_terms(), data_terms(**data)):
        assert isinstance(error, PolicyError)
        assert error.limit == limit


def test_differing_field_comes_before_the_policy() -> None:
    here, _ = errors_of(label_terms(), data_terms(run="other-run", smallest_batch=100))
    assert isinstance(here, ContractMismatchError)


def test_other_parameters_are_named_on_both_sides() -> None:
    here, there = errors_of(label_terms(), data_terms(parameters="rlwe-8192-160"))
    assert isinstance(here, ContractMismatchError)
    assert isinstance(there, ContractMismatchError)
    assert (here.field, here.own, here.peer) == ("parameters", "rlwe-8192-141", "rlwe-8192-160")
    assert (there.field, there.own, there.peer) == ("parameters", "rlwe-8192-160", "rlwe-8192-141")


def test_insecure_parameters_are_refused_by_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moiety.crypto.schemes.choose", lambda _: TESTING_ONLY)
    for error in errors_of(label_terms(), data_terms(parameters=TESTING_ONLY.name)):
        assert isinstance(error, InsecureParameterError)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.HELLO])
def test_another_message_in_place_of_hello(kind: Kind) -> None:
    block = Block(kind=kind, step=0, payload=encode_terms(label_terms()))
    with pytest.raises(RemoteProtocolError, match=kind.name):
        DataOwnerHandshake().receive(block)
    with pytest.raises(RemoteProtocolError, match=kind.name):
        LabelOwnerHandshake(label_terms()).receive(block)


@pytest.mark.parametrize(("step", "index", "count"), [(1, 0, 1), (0, 1, 2), (0, 0, 2)])
def test_hello_out_of_place(step: int, index: int, count: int) -> None:
    block = LabelOwnerHandshake(label_terms()).hello()
    with pytest.raises(RemoteProtocolError, match="was due"):
        DataOwnerHandshake().receive(replace(block, step=step, index=index, count=count))


def test_own_hello_reflected_is_refused() -> None:
    label_owner = LabelOwnerHandshake(label_terms())
    with pytest.raises(MalformedMessageError):
        label_owner.receive(label_owner.hello())


def test_malformed_hello() -> None:
    with pytest.raises(MalformedMessageError):
        DataOwnerHandshake().receive(Block(kind=Kind.HELLO, step=0, payload=b"{"))


def test_agree_before_a_proposal_came() -> None:
    with pytest.raises(LocalProtocolError, match="not begun"):
        DataOwnerHandshake().agree(data_terms())


def test_refused_proposal_is_not_agreed_on() -> None:
    data_owner = DataOwnerHandshake()
    with pytest.raises(MalformedMessageError):
        data_owner.receive(Block(kind=Kind.HELLO, step=0, payload=b"{}"))
    with pytest.raises(LocalProtocolError):
        data_owner.agree(data_terms())
