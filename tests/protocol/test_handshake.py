"""The handshake: both sides come to one contract, or both name what they differ in."""

from dataclasses import replace
from typing import Any

import pytest

from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.terms import WIRE_VERSION, DataOwnerTerms, LabelOwnerTerms, encode_terms
from moiety.crypto.parameters import TESTING_ONLY
from moiety.errors import (
    ConfigError,
    ContractMismatchError,
    InsecureParameterError,
    LocalProtocolError,
    MalformedMessageError,
    MoietyError,
    PolicyError,
    RemoteProtocolError,
)
from moiety.protocol.handshake import (
    DataOwnerHandshake,
    LabelOwnerHandshake,
    make_keys,
    public_key,
    read_public_key,
)
from moiety.protocol.messages import Block, Kind
from moiety.protocol.simulate import handshake
from tests.support.pair import data_terms, label_terms
from tests.support.randomness import RecordedRandomness


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
        ("wire_version", WIRE_VERSION + 1),
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
        ("wide_layer", {"in_features": 3}),
        ("released_z_per_row", {"policy": {"released_z_per_row": 5}}),
        ("smallest_batch", {"policy": {"smallest_batch": 100}}),
    ],
)
def test_policy_is_enforced_on_both_sides(limit: str, data: dict[str, object]) -> None:
    for error in errors_of(label_terms(), data_terms(**data)):
        assert isinstance(error, PolicyError)
        assert error.limit == limit


def test_differing_field_comes_before_the_policy() -> None:
    here, _ = errors_of(label_terms(), data_terms(run="other-run", policy={"smallest_batch": 100}))
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
    with pytest.raises(RemoteProtocolError, match="was expected"):
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


# --- public keys ---

TRAINED = {"protocol": "joint", "reveals": "gradients"}


def joint_contract() -> Contract:
    return Contract(
        label_owner=label_terms(**TRAINED), data_owner=data_terms(**TRAINED, activations="trained")
    )


def acml_contract() -> Contract:
    terms = {"protocol": "acml", "reveals": "gradients"}
    return Contract(label_owner=label_terms(**terms), data_owner=data_terms(**terms))


@pytest.mark.parametrize("role", list(Role))
def test_public_key_makes_an_evaluator(role: Role) -> None:
    contract = joint_contract()
    block = public_key(make_keys(contract, role, randomness=RecordedRandomness(b"keys")))
    assert (block.kind, block.step, block.index, block.count) == (Kind.PUBLIC_KEY, 0, 0, 1)
    assert len(block.payload) == contract.schemes[role].public_key_bytes
    assert read_public_key(contract, role, block) is not None


def test_party_without_a_key_shows_an_empty_one() -> None:
    contract = acml_contract()
    keys = make_keys(contract, Role.LABEL_OWNER, randomness=RecordedRandomness(b"keys"))
    assert keys is None
    assert public_key(keys) == Block(kind=Kind.PUBLIC_KEY, step=0, payload=b"")
    assert read_public_key(contract, Role.LABEL_OWNER, public_key(keys)) is None


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("role", list(Role))
def test_public_key_of_another_size(role: Role, change: int) -> None:
    for contract in (joint_contract(), acml_contract()):
        size = contract.schemes[role].public_key_bytes if role in contract.schemes else 0
        if size + change < 0:
            continue
        block = Block(kind=Kind.PUBLIC_KEY, step=0, payload=bytes(size + change))
        with pytest.raises(MalformedMessageError, match=f"{size + change} bytes came instead of {size}"):
            read_public_key(contract, role, block)


def test_public_key_that_is_none() -> None:
    contract = joint_contract()
    size = contract.schemes[Role.DATA_OWNER].public_key_bytes
    with pytest.raises(MalformedMessageError):
        read_public_key(
            contract, Role.DATA_OWNER, Block(kind=Kind.PUBLIC_KEY, step=0, payload=b"\xff" * size)
        )


@pytest.mark.parametrize(("name", "value"), [("kind", Kind.REQUEST), ("step", 1), ("index", 1), ("count", 2)])
def test_public_key_out_of_place(name: str, value: int) -> None:
    contract = joint_contract()
    block = public_key(make_keys(contract, Role.DATA_OWNER, randomness=RecordedRandomness(b"keys")))
    changes: dict[str, Any] = {"count": 2, name: value}
    with pytest.raises(RemoteProtocolError, match="where PUBLIC_KEY was expected"):
        read_public_key(contract, Role.DATA_OWNER, replace(block, **changes))


def test_public_key_under_the_other_partys_seed_is_another() -> None:
    contract = joint_contract()
    seeds = [contract.public_seed(role) for role in Role]
    halves = [
        contract.schemes[Role.LABEL_OWNER].key_holder(public_seed=seed, randomness=RecordedRandomness(b"k"))
        for seed in seeds
    ]
    assert halves[0].public_key() != halves[1].public_key()


def test_blind_with_a_bottom_model_to_train_is_refused_by_both() -> None:
    for error in errors_of(label_terms(), data_terms(activations="trained")):
        assert isinstance(error, ConfigError)
        assert "frozen" in error.hint


def test_reveals_on_one_side_only_is_named() -> None:
    terms = {"protocol": "joint"}
    here, there = errors_of(label_terms(**terms, reveals="gradients"), data_terms(**terms))
    assert isinstance(here, ContractMismatchError)
    assert isinstance(there, ContractMismatchError)
    assert (here.field, here.own, here.peer) == ("reveals", "gradients", "nothing")
    assert (there.field, there.own, there.peer) == ("reveals", "nothing", "gradients")
    assert "reveals" in here.hint


def test_handshake_over_two_keys_agrees_on_both_parameters() -> None:
    data = data_terms(**TRAINED, activations="trained", parameters="rlwe-8192-141+rlwe-8192-160")
    assert handshake(label_terms(**TRAINED), data).trains_bottom
    error, _ = errors_of(label_terms(**TRAINED), data_terms(**TRAINED, activations="trained"))
    assert isinstance(error, ContractMismatchError)
    assert (error.field, error.own) == ("parameters", "rlwe-8192-141+rlwe-8192-160")
