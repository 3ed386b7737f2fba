"""Terms and contract: what is compared, what is derived, and what a bad peer cannot say."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.config import Totals
from moiety.contract.contract import Contract
from moiety.contract.products import SESSION_BYTES, Product, Role
from moiety.contract.terms import (
    FEATURES_LIMIT,
    ROWS_LIMIT,
    WIRE_VERSION,
    DataOwnerTerms,
    LabelOwnerTerms,
    Terms,
    decode_terms,
    encode_terms,
    require_equal,
)
from moiety.crypto.parameters import LISTED
from moiety.errors import ContractMismatchError, MalformedMessageError, ParameterError, PolicyError
from tests.support.pair import contract_of, data_terms, label_terms

SHARED = [
    ("wire_version", WIRE_VERSION, WIRE_VERSION + 1),
    ("run", "test-run", "other-run"),
    ("purpose", "train", "predict"),
    ("rows", 40, 41),
    ("id_columns", 0, 2),
    ("order_digest", "ab" * 32, "cd" * 32),
    ("model", "", "00ff00ff"),
    ("protocol", "blind", "joint"),
    ("scheme", "rlwe", "paillier"),
    ("reveals", "nothing", "gradients"),
    ("resumes", "", "ab" * 16),
    ("order", "", "ab" * 32),
    ("split", "drawn", "label-owner"),
]


def changed(terms: LabelOwnerTerms | DataOwnerTerms, **changes: object) -> bytes:
    return json.dumps({**terms.model_dump(), **changes}).encode()


def test_terms_round_trip() -> None:
    assert decode_terms(encode_terms(label_terms()), LabelOwnerTerms) == label_terms()
    assert decode_terms(encode_terms(data_terms()), DataOwnerTerms) == data_terms()


def test_terms_are_canonical() -> None:
    data = encode_terms(label_terms())
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()


def test_equal_terms_pass() -> None:
    require_equal(label_terms(), data_terms())


@pytest.mark.parametrize(("field", "usual", "other"), SHARED)
def test_differing_field_is_named_with_both_values(field: str, usual: object, other: object) -> None:
    differing = data_terms(**{field: other})
    with pytest.raises(ContractMismatchError) as caught:
        require_equal(label_terms(), differing)
    assert (caught.value.field, caught.value.own, caught.value.peer) == (field, usual, other)
    with pytest.raises(ContractMismatchError) as caught:
        require_equal(differing, label_terms())
    assert (caught.value.field, caught.value.own, caught.value.peer) == (field, other, usual)


def test_every_shared_field_is_compared() -> None:
    assert {field for field, _, _ in SHARED} == set(Terms.model_fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", ""),
        ("run", "x" * 65),
        ("run", "Upper"),
        ("run", "line\nbreak"),
        ("purpose", "steal"),
        ("protocol", "split"),
        ("scheme", "elgamal"),
        ("rows", -1),
        ("rows", ROWS_LIMIT + 1),
        ("rows", 1.5),
        ("rows", "40"),
        ("rows", None),
        ("order_digest", "ab" * 31),
        ("order_digest", "AB" * 32),
        ("model", "xyz"),
        ("model", "0" * 65),
        ("nonce", "11" * 33),
        ("out_features", 0),
        ("out_features", 4097),
        ("epochs", 0),
        ("epochs", 10_001),
        ("batch", 0),
        ("batch", 2**20 + 1),
        ("validation", -0.1),
        ("validation", 1.0),
        ("test", float("nan")),
        ("wire_version", "1"),
    ],
)
def test_label_owner_terms_beyond_a_limit_name_the_field(field: str, value: object) -> None:
    with pytest.raises(MalformedMessageError, match=f"'{field}'") as caught:
        decode_terms(changed(label_terms(), **{field: value}), LabelOwnerTerms)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("in_features", -1),
        ("in_features", FEATURES_LIMIT + 1),
        ("parameters", "x" * 129),
        ("parameters", "\x1b[31mred"),
        ("policy", None),
        ("policy", []),
        ("before", 0),
        ("nonce", ""),
    ],
)
def test_data_owner_terms_beyond_a_limit_name_the_field(field: str, value: object) -> None:
    with pytest.raises(MalformedMessageError, match=f"'{field}'"):
        decode_terms(changed(data_terms(), **{field: value}), DataOwnerTerms)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("policy", "released_z_per_row", "many"),
        ("policy", "released_z_per_row", -1),
        ("policy", "predictions", None),
        ("policy", "predictions", 2**53 + 1),
        ("policy", "steps", 1.5),
        ("policy", "smallest_batch", True),
        ("policy", "smallest_batch", 0),
        ("policy", "wide_layer", 1),
        ("policy", "protocols", []),
        ("policy", "schemes", ["rlwe"] * 17),
        ("policy", "ledger", "ledger"),
        ("before", "released_z_per_row", 0.5),
        ("before", "predictions", []),
        ("before", "runs", -1),
        ("before", "smallest_batch", 1),
    ],
)
def test_policy_beyond_a_limit_names_the_field(part: str, field: str, value: object) -> None:
    changed_part = {**data_terms().model_dump()[part], field: value}
    with pytest.raises(MalformedMessageError, match=rf"'{part}\.{field}"):
        decode_terms(changed(data_terms(), **{part: changed_part}), DataOwnerTerms)


def test_terms_of_another_wire_version_are_told_by_it() -> None:
    """Under wire version 4 limits stood beside the other fields: that it is another one comes first."""
    others = data_terms(wire_version=4).model_dump(exclude={"policy", "before"})
    earlier = {**others, "smallest_batch": 4}
    with pytest.raises(ContractMismatchError) as caught:
        decode_terms(json.dumps(earlier).encode(), DataOwnerTerms)
    assert (caught.value.field, caught.value.own, caught.value.peer) == ("wire_version", WIRE_VERSION, 4)
    assert "same version of moiety" in caught.value.hint
    unlike = json.dumps({**earlier, "wire_version": WIRE_VERSION}).encode()
    with pytest.raises(MalformedMessageError):
        decode_terms(unlike, DataOwnerTerms)


def test_terms_at_their_limits_are_accepted() -> None:
    label_terms(rows=ROWS_LIMIT, out_features=4096, epochs=10_000, batch=2**20, run="x" * 64)
    data_terms(in_features=FEATURES_LIMIT)


def test_unknown_field_is_refused_and_shown_harmlessly() -> None:
    name = "\x1b[2J" + "x" * 1000
    with pytest.raises(MalformedMessageError) as caught:
        decode_terms(changed(label_terms(), **{name: 1}), LabelOwnerTerms)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


def test_missing_field_is_refused() -> None:
    terms = label_terms().model_dump()
    del terms["nonce"]
    with pytest.raises(MalformedMessageError, match="'nonce'"):
        decode_terms(json.dumps(terms).encode(), LabelOwnerTerms)


def test_terms_of_the_own_role_are_refused() -> None:
    with pytest.raises(MalformedMessageError):
        decode_terms(encode_terms(label_terms()), DataOwnerTerms)


@given(st.one_of(st.binary(max_size=100), st.text(max_size=100).map(str.encode)))
def test_decoding_random_bytes_raises_nothing_else(payload: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_terms(payload, LabelOwnerTerms)


def test_decoding_deeply_nested_json_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        decode_terms(b"[" * 2**14, LabelOwnerTerms)


def test_contract_is_the_same_for_both_sides() -> None:
    assert contract_of().digest == contract_of().digest
    assert len(contract_of().session) == SESSION_BYTES


@pytest.mark.parametrize("side", ["label", "data"])
def test_fresh_nonce_changes_everything_drawn_jointly(side: str) -> None:
    usual = contract_of()
    nonce = {"nonce": "33" * 32}
    other = (
        contract_of(label=label_terms(**nonce)) if side == "label" else contract_of(data=data_terms(**nonce))
    )
    for name in ("digest", "session"):
        assert getattr(usual, name) != getattr(other, name), name
    for role in Role:
        assert usual.public_seed(role) != other.public_seed(role)
    assert usual.public_seed(Role.LABEL_OWNER) != usual.public_seed(Role.DATA_OWNER)
    assert usual.schedule.seed != other.schedule.seed


@pytest.mark.parametrize("change", [{"epochs": 3}, {"batch": 8}, {"validation": 0.2}, {"out_features": 2}])
def test_digest_covers_what_only_one_side_states(change: dict[str, object]) -> None:
    assert contract_of().digest != contract_of(label=label_terms(**change)).digest
    assert contract_of().digest != contract_of(data=data_terms(policy={"smallest_batch": 5})).digest


def test_key_seed_order_seed_and_session_are_unrelated() -> None:
    contract = contract_of()
    values = {
        contract.digest,
        contract.public_seed(Role.LABEL_OWNER),
        contract.schedule.seed,
        contract.session.ljust(32),
    }
    assert len(values) == 4
    assert not contract.digest.startswith(contract.session)


def test_data_owner_terms_carry_policy_and_totals() -> None:
    terms = data_terms(
        policy={"released_z_per_row": 7, "predictions": 8, "smallest_batch": 9, "wide_layer": True},
        before={"released_z_per_row": 1, "predictions": 2},
    )
    policy = terms.policy
    assert (policy.released_z_per_row, policy.predictions, policy.smallest_batch) == (7, 8, 9)
    assert policy.wide_layer
    assert terms.before == Totals(released_z_per_row=1, predictions=2)


@pytest.mark.parametrize(
    ("limit", "label", "data"),
    [
        ("wide_layer", {"out_features": 5}, {}),
        ("released_z_per_row", {}, {"policy": {"released_z_per_row": 5}}),
        ("released_z_per_row", {}, {"before": {"released_z_per_row": 95}}),
        ("smallest_batch", {}, {"policy": {"smallest_batch": 15}}),
        ("smallest_batch", {"validation": 0.5, "test": 0.5}, {"policy": {"smallest_batch": 1}}),
    ],
)
def test_run_outside_the_policy(limit: str, label: dict[str, object], data: dict[str, object]) -> None:
    contract_of().check()
    with pytest.raises(PolicyError) as caught:
        contract_of(label=label_terms(**label), data=data_terms(**data)).check()
    assert caught.value.limit == limit


def test_prediction_counts_one_pass_and_has_no_smallest_batch() -> None:
    label = label_terms(purpose="predict", epochs=100)
    data = data_terms(purpose="predict", policy={"released_z_per_row": 3, "smallest_batch": 1000})
    contract = contract_of(label=label, data=data)
    contract.check()
    assert not contract.training


@pytest.mark.slow
def test_parameters_hold_both_products_and_grow_with_them() -> None:
    small = contract_of(production=True)
    assert small.parameters == LISTED[0].name
    for rows in (1, 16):
        assert small.plan(Product.FORWARD, rows).spare_bits >= 40
        assert small.plan(Product.UPDATE, rows).spare_bits >= 40
    rows, words = 2**21, {"protocol": "acml", "reveals": "gradients"}
    long = contract_of(label=label_terms(batch=2**20, rows=rows), data=data_terms(rows=rows), production=True)
    assert long.plan(Product.UPDATE, 2**20).spare_bits >= 40
    # Multipliers of 63 bits, where the label owner's share multiplies the data owner's activations.
    wide = contract_of(label=label_terms(**words), data=data_terms(**words), production=True)
    assert wide.parameters == LISTED[2].name
    assert wide.plan(Product.FORWARD, 16).spare_bits >= 40


def test_plans_have_the_shapes_of_the_two_products() -> None:
    contract = contract_of()
    forward, update = contract.plan(Product.FORWARD, 7).shape, contract.plan(Product.UPDATE, 7).shape
    assert (forward.rows, forward.contraction, forward.kept) == (7, 5, 3)
    assert (update.rows, update.contraction, update.kept) == (5, 7, 3)


def test_units_beyond_the_ring_are_refused() -> None:
    contract = contract_of(production=True)
    with pytest.raises(ParameterError):
        replace(contract, label_owner=label_terms().model_copy(update={"out_features": 2**15})).parameters  # noqa: B018


def test_contract_compares_as_a_value() -> None:
    contract = Contract(label_owner=label_terms(), data_owner=data_terms())
    assert contract == Contract(label_owner=label_terms(), data_owner=data_terms())
