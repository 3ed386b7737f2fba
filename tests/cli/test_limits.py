"""Every limit of the policy is said wherever limits are: one that is added later is asked for here too."""

from pathlib import Path

import pytest

from moiety.cli.check import finding_lines
from moiety.cli.contract import contract_lines, contract_values, said
from moiety.cli.ledger import ledger_lines, ledger_values
from moiety.config import LIMITS, Policy, Totals, limit_label, load_data_owner_run
from moiety.contract.policy import exceeded
from moiety.contract.terms import field_label
from moiety.errors import PeerPolicyError
from moiety.party.check import check
from moiety.party.disclosure import Disclosure
from moiety.protocol.messages import abort_block, peer_aborted
from tests.support.parties import make_parties

COUNTED = [name for name in Policy.model_fields if name in Totals.model_fields]
OTHERS = [name for name in Policy.model_fields if name not in Totals.model_fields]


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_parties(tmp_path_factory.mktemp("limits")).data_owner


@pytest.fixture(scope="module")
def limits(run_file: Path) -> Policy:
    return load_data_owner_run(run_file).limits


def words(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize("limit", COUNTED)
def test_ledger_has_every_limit_that_counts(run_file: Path, limits: Policy, limit: str) -> None:
    allowed = getattr(limits, limit)
    counted = {"total": 0, "limit": allowed, "left": allowed}
    assert ledger_values(run_file)["totals"][limit] == counted
    row = f"{limit_label(limit)} 0 {said(allowed)} {said(allowed)}"
    assert row in words(ledger_lines(run_file))


@pytest.mark.parametrize("limit", OTHERS)
def test_ledger_has_every_other_limit(run_file: Path, limits: Policy, limit: str) -> None:
    assert ledger_values(run_file)["limits"][limit] == getattr(limits, limit)
    assert f"{limit_label(limit)} {said(getattr(limits, limit))}" in words(ledger_lines(run_file))


@pytest.mark.parametrize("limit", Policy.model_fields)
def test_contract_has_every_limit(run_file: Path, limits: Policy, limit: str) -> None:
    own = contract_values(run_file)["own"]
    assert own["policy"][limit] == limits.model_dump(mode="json")[limit]
    row = f"{field_label(f'policy.{limit}')} {said(getattr(limits, limit))}"
    assert row in words(contract_lines(run_file))


def test_check_discloses_every_limit_and_total(run_file: Path) -> None:
    (told,) = (each for each in check(run_file, peer=False) if isinstance(each, Disclosure))
    lines = words(finding_lines(told))
    for part, kind in (("policy", Policy), ("before", Totals)):
        assert set(told.stated[part]) == set(kind.model_fields)
        for name, value in told.stated[part].items():
            shown = str(value).lower() if isinstance(value, bool) else value
            assert f"{field_label(f'{part}.{name}')} {shown}" in lines


@pytest.mark.parametrize("limit", Policy.model_fields)
def test_errors_on_both_sides_name_the_limit_in_words(limit: str) -> None:
    error = exceeded(limit, allowed=1, asked=2)
    told = peer_aborted(abort_block(error).payload)
    assert isinstance(told, PeerPolicyError)
    for each in (error, told):
        assert each.limit == limit
        assert limit in each.message
        assert f"({limit_label(limit)})" in each.message
        assert each.hint.startswith(LIMITS[limit].remedy)
        assert each.hint.endswith(f"a different {limit}")
