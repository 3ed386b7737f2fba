import json
from pathlib import Path

import pytest

from moiety.cli.check import finding_lines, finding_values, print_findings
from moiety.config import Totals, load_data_owner_run
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, Terms, field_label, flat
from moiety.errors import DataError
from moiety.party.check import check
from moiety.party.disclosure import Disclosure, of_data_owner
from tests.support.parties import Files, configure, make_parties, rewrite_table, run_here, with_column


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path, ids=True)


def learns(path: Path) -> Disclosure:
    return next(each for each in check(path, peer=False) if isinstance(each, Disclosure))


@pytest.mark.parametrize("role", ["label_owner", "data_owner"])
def test_disclosure_names_every_field_of_the_handshake(files: Files, role: str) -> None:
    kinds: dict[str, type[Terms]] = {"label_owner": LabelOwnerTerms, "data_owner": DataOwnerTerms}
    stated = learns(getattr(files, role)).stated
    assert list(stated) == list(kinds[role].model_fields)
    assert all(value not in ("", None) for value in flat(stated).values())


def test_disclosure_has_the_limits_of_the_policy_and_what_was_released(files: Files) -> None:
    configure(files.data_owner, {"policy.released_z_per_row": 77, "policy.wide_layer": True})
    settings = load_data_owner_run(files.data_owner)
    before = Totals(released_z_per_row=5, predictions=6)
    stated = of_data_owner(settings, rows=1, inputs=1, before=before).stated
    policy = stated["policy"]
    assert (policy["released_z_per_row"], policy["wide_layer"]) == (77, True)
    assert stated["before"] == before.model_dump()
    assert (policy["steps"], policy["protocols"], policy["reveals"]) == ("no limit", "blind", "nothing")


def test_disclosure_of_blind_has_no_gradients(files: Files) -> None:
    label, data = learns(files.label_owner).sent, learns(files.data_owner).sent
    assert not any("gradient for each" in each for each in label.values())
    assert "share of W and scaled gradients, encrypted" in label
    assert "activations, encrypted" not in data
    # The label owner answers nothing under encryption.
    assert "masked products and weights" in data
    assert "masked products and weights" not in label


def test_disclosure_of_acml_without_a_bottom_model_has_no_weights_under_own_key(files: Files) -> None:
    for path in (files.label_owner, files.data_owner):
        configure(path, {"protocol": {"name": "acml", "reveals": "gradients"}})
    label, data = learns(files.label_owner).sent, learns(files.data_owner).sent
    assert "activations, encrypted" in data
    assert "own share of W, encrypted" not in data
    assert not any("scaled gradients" in each for each in label)
    assert "masked products and weights" in label


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_disclosure_of_gradients_says_that_they_give_labels_away(files: Files, protocol: str) -> None:
    configure(files.label_owner, {"protocol": {"name": protocol, "reveals": "gradients"}})
    assert "can tell the labels" in learns(files.label_owner).sent["gradients"]
    configure(
        files.data_owner,
        {
            "protocol": {"name": protocol, "reveals": "gradients"},
            "model.bottom": "tests.party.test_check:narrow",
        },
    )
    shown = learns(files.data_owner)
    assert shown.stated["activations"] == "trained"
    assert ("activations, encrypted" in shown.sent) == (protocol == "acml")
    assert "own share of W, encrypted" in shown.sent


@pytest.mark.parametrize(("protocol", "told"), [("blind", "not which one"), ("joint", "which one it is")])
def test_disclosure_says_what_stopping_early_tells(files: Files, protocol: str, told: str) -> None:
    reveals = None if protocol == "blind" else "gradients"
    choice = {"name": protocol, **({"reveals": reveals} if reveals else {})}
    configure(files.label_owner, {"protocol": choice, "train.early_stopping": {"patience": 2}})
    sent = learns(files.label_owner).sent
    assert "depends on the labels" in sent["the last epoch"]
    assert told in sent["the best epoch"]


def test_disclosure_says_whether_ids_are_compared(files: Files) -> None:
    assert "says nothing of ids" in learns(files.data_owner).stated["order_digest"]
    configure(files.data_owner, {"table.id": [], "table.features": ["f0", "f1"]})
    assert "no ids" in learns(files.data_owner).stated["order_digest"]


def test_disclosure_in_lines_speaks_words(files: Files) -> None:
    lines = "\n".join(finding_lines(learns(files.label_owner)))
    assert "units of the layer" in lines
    assert "out_features" not in lines
    assert "may end before all epochs" in lines
    assert "what never leaves this side:" in lines


def test_every_field_of_the_handshake_has_words_of_its_own() -> None:
    for kind in (LabelOwnerTerms, DataOwnerTerms):
        words = [field_label(name) for name in kind.model_fields]
        assert all(field.description for field in kind.model_fields.values())
        assert len(set(words)) == len(words)


def test_findings_as_json_have_everything(files: Files) -> None:
    values = finding_values(check(files.data_owner, peer=False))
    assert json.loads(json.dumps(values)) == values
    assert values["table"]["rows"] == 600
    assert values["table"]["columns"][1] == {
        "name": "f0",
        "use": "feature",
        "type": "number",
        "missing": 0,
        "infinite": 0,
        "distinct": 600,
        "rule": "standard",
        "inputs": 1,
        "clipped": 0.0,
        "remarks": [],
        "problem": None,
        "hint": None,
    }
    assert values["peer_learns"]["peer"] == "bank"
    assert len(values["in_order"]) == 3


def test_findings_as_json_are_printed_although_one_is_an_error(files: Files) -> None:
    rewrite_table(files.data_owner.parent / "features.parquet", with_column("f1", ["text"] * 600))
    configure(files.data_owner, {"prepare.f1": "log"})
    outcome = run_here("check", files.data_owner, "--json")
    assert outcome.code == 3
    column = json.loads(outcome.output)["table"]["columns"][2]
    assert "holds text" in column["problem"]
    assert column["hint"]


def test_profile_in_lines_fits_the_terminal(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rewrite_table(
        files.data_owner.parent / "features.parquet",
        lambda table: table.append_column("[bold]branch", [["north"] * 600]).append_column(
            "note", [[f"note {number}" if number else None for number in range(600)]]
        ),
    )
    printed: list[str] = []
    with pytest.raises(DataError, match="note"):
        print_findings(check(files.data_owner, peer=False), as_json=False, echo=printed.append)
    lines = "\n".join(printed).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert any(line.lstrip().startswith("[bold]") for line in lines)
    assert any("1 (0.2 %)" in line for line in lines)
