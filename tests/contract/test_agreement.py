"""The contract that is signed: the same on both sides and in each session, whole, and kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moiety.cli.contract import contract_lines, contract_values
from moiety.config import Totals, load_data_owner_run, load_label_owner_run
from moiety.contract.agreement import PER_SESSION, canonical, common_of, content_digest, content_of, grouped
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, Terms
from moiety.demo.local import simulate
from moiety.errors import CheckpointCorruptError, CheckpointError, ContractMismatchError
from moiety.protocol.simulate import handshake
from moiety.store.contract import Kept, keep_contract, kept_contract
from tests.support.pair import contract_of, data_terms, label_terms
from tests.support.parties import Files, configure, make_parties, score


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path)


def kept(run_file: Path, purpose: str = "train") -> Kept:
    found = kept_contract(run_file.parent / "small", purpose=purpose)
    assert found is not None
    return found


def test_content_has_every_field_of_both_sides_once() -> None:
    content = content_of(contract_of())
    assert set(content["both"]) | PER_SESSION >= set(Terms.model_fields)
    for part, kind in (("label_owner", LabelOwnerTerms), ("data_owner", DataOwnerTerms)):
        own = set(kind.model_fields) - set(Terms.model_fields)
        assert set(content[part]) == own - PER_SESSION
    stated = {*LabelOwnerTerms.model_fields, *DataOwnerTerms.model_fields}
    assert stated >= PER_SESSION


def test_digest_is_independent_of_nonces_and_earlier_runs() -> None:
    first = contract_of()
    resumed: dict[str, object] = {"resumes": "ab" * 16, "order": "cd" * 32}
    label = label_terms(nonce="33" * 32, epochs_done=1, **resumed)
    data = data_terms(nonce="44" * 32, **resumed, before=dict.fromkeys(Totals.model_fields, 3))
    second = contract_of(label=label, data=data)
    assert content_digest(content_of(first)) == content_digest(content_of(second))
    assert first.digest != second.digest  # frames stay bound to both nonces
    assert first.session != second.session


@pytest.mark.parametrize(
    ("side", "changes"),
    [
        ("label", {"epochs": 3}),
        ("label", {"batch": 15}),
        ("label", {"software": "9.9"}),
        ("data", {"policy": {"steps": 10**6}}),
        ("data", {"policy": {"protocols": ("blind",)}}),
        ("data", {"policy": {"wide_layer": True}}),
        ("data", {"software": "9.9"}),
    ],
)
def test_digest_depends_on_what_each_side_states(side: str, changes: dict[str, object]) -> None:
    label = label_terms(**(changes if side == "label" else {}))
    data = data_terms(**(changes if side == "data" else {}))
    assert content_digest(content_of(contract_of(label=label, data=data))) != content_digest(
        content_of(contract_of())
    )


def test_versions_of_moiety_may_differ_and_wire_versions_may_not() -> None:
    agreed = handshake(label_terms(software="1.2"), data_terms(software="1.3+local"))
    assert (agreed.label_owner.software, agreed.data_owner.software) == ("1.2", "1.3+local")
    with pytest.raises(ContractMismatchError) as caught:
        handshake(label_terms(wire_version=3), data_terms())
    assert caught.value.field == "wire_version"


def test_canonical_json_is_the_same_in_any_order() -> None:
    assert canonical({"b": 1, "a": [0.1, None]}) == b'{"a":[0.1,null],"b":1}'
    assert content_digest({"b": 1, "a": 2}) == content_digest({"a": 2, "b": 1})


def test_both_sides_keep_the_same_contract_in_every_run(files: Files) -> None:
    found = []
    for _ in range(2):
        simulate(files.label_owner, files.data_owner)
        found += [kept(path) for path in (files.label_owner, files.data_owner)]
    assert len({each.digest for each in found}) == 1
    assert len({each.session for each in found}) == 2
    assert found[0].content == found[3].content
    follows = found[0].content["follows"]
    assert (follows["steps"], follows["values_of_z_for_a_row"]) == (4, 8)


def test_both_run_files_give_the_common_part_before_they_meet(files: Files) -> None:
    label, data = (contract_values(path) for path in (files.label_owner, files.data_owner))
    assert label["common"] == data["common"]
    assert label["common_digest"] == data["common_digest"]
    assert label["agreed"] is None
    simulate(files.label_owner, files.data_owner)
    assert contract_values(files.data_owner)["agreed"]["content"]["both"] == label["common"]
    configure(files.data_owner, {"protocol.scheme": "paillier"})
    assert contract_values(files.data_owner)["common_digest"] != label["common_digest"]


def test_common_part_of_tables_to_align_needs_no_alignment(files: Files) -> None:
    for path in (files.label_owner, files.data_owner):
        configure(path, {"table.id": ["customer"]})
    label, data = (contract_values(path) for path in (files.label_owner, files.data_owner))
    assert label["common_digest"] == data["common_digest"]
    assert not {"rows", "order_digest"} & set(label["common"])
    assert label["common"]["id_columns"] == 1


def test_common_part_is_what_terms_state(files: Files) -> None:
    for settings in (load_label_owner_run(files.label_owner), load_data_owner_run(files.data_owner)):
        assert set(common_of(settings, rows=1, order_digest="ab")) == set(Terms.model_fields) - PER_SESSION


def test_prediction_has_a_contract_of_its_own(files: Files, tmp_path: Path) -> None:
    simulate(files.label_owner, files.data_owner)
    trained = kept(files.label_owner)
    score(files, tmp_path / "scores.csv")
    for path in (files.label_owner, files.data_owner):
        assert kept(path).digest == trained.digest
        assert kept(path, "predict").content["follows"] == {"scored_rows": 600, "values_of_z_for_a_row": 4}
    assert any("agreed with telco for a prediction" in line for line in contract_lines(files.label_owner))


def test_contract_names_what_has_changed_since(files: Files) -> None:
    simulate(files.label_owner, files.data_owner)
    assert not any("changed since" in line for line in contract_lines(files.label_owner))
    configure(files.label_owner, {"protocol.scheme": "paillier"})
    (line,) = [line for line in contract_lines(files.label_owner) if "changed since" in line]
    assert line.endswith("encryption is paillier now")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda values: values["content"]["label_owner"].update(epochs=99), "does not match its digest"),
        (lambda values: values.update(version=2), "is not of version 1"),
        (lambda values: values.pop("session"), "is no contract"),
        (lambda values: values.update(at="\x1b[2J"), "is no contract"),
        (lambda values: values["content"].pop("both"), "does not match its digest"),
        (lambda values: values.update(content={}, digest=content_digest({})), "is no contract"),
        (lambda values: values.pop("content"), "has nothing that its digest is of"),
        (lambda values: values.update(more=1), "is no contract"),
    ],
)
def test_contract_that_was_changed_is_refused(
    tmp_path: Path, damage: Callable[[dict[str, Any]], object], why: str
) -> None:
    keep_contract(tmp_path, contract_of())
    path = tmp_path / "contract.json"
    values = json.loads(path.read_text())
    damage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointCorruptError, match=f"contract.json {why}") as caught:
        kept_contract(tmp_path)
    assert caught.value.hint


def test_contract_that_cannot_be_kept_stops_the_session(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        keep_contract(tmp_path / "file", contract_of())


def test_digest_is_grouped_for_the_telephone() -> None:
    groups = grouped(content_digest(content_of(contract_of()))).split()
    assert [len(group) for group in groups] == [4] * 16


def test_contract_says_its_encryption() -> None:
    assert "rlwe-8192-141" in str(content_of(contract_of(production=True))["follows"]["encryption"])
