"""`[policy]` of a run file: lists that are left out, and what of it the peer is told."""

from pathlib import Path

import pytest

from moiety.config import DataOwnerRun, Policy, load_data_owner_run
from moiety.errors import ConfigError

HEAD = """\
version = 1
role = "data-owner"
run = "small"
own = { key = "own.key", certificate = "own.crt" }
[[peer]]
name = "bank"
certificate = "bank.crt"
dial = "127.0.0.1:7443"
[table]
source = "features.csv"
"""
ACML = '[protocol]\nname = "acml"\nscheme = "paillier"\nreveals = "gradients"\n'


def loaded(folder: Path, text: str) -> DataOwnerRun:
    path = folder / "run.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return load_data_owner_run(path)


@pytest.mark.parametrize("policy", ["", "[policy]\n", '[policy]\nledger = "elsewhere"\n'])
def test_lists_that_are_left_out_allow_what_the_protocol_names(tmp_path: Path, policy: str) -> None:
    usual = loaded(tmp_path, policy).policy
    assert (usual.protocols, usual.schemes, usual.reveals) == (("blind",), ("rlwe",), ())
    other = loaded(tmp_path, ACML + policy).policy
    assert (other.protocols, other.schemes, other.reveals) == (("acml",), ("paillier",), ("gradients",))


def test_lists_that_are_given_stay(tmp_path: Path) -> None:
    given = '[policy]\nprotocols = ["joint", "acml"]\nreveals = ["gradients"]\n'
    policy = loaded(tmp_path, ACML + given).policy
    assert (policy.protocols, policy.schemes) == (("joint", "acml"), ("paillier",))


@pytest.mark.parametrize(
    ("name", "value"), [("protocols", '["blind"]'), ("schemes", '["rlwe"]'), ("reveals", "[]")]
)
def test_policy_that_forbids_the_own_choice_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"policy.{name} does not allow it") as caught:
        loaded(tmp_path, f"{ACML}[policy]\n{name} = {value}\n")
    assert f"policy.{name}" in caught.value.hint


def test_protocol_that_cannot_be_used_is_what_the_error_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"protocol\.name"):
        loaded(tmp_path, '[protocol]\nname = "other"\n[policy]\nsteps = 5\n')


def test_peer_is_told_every_limit_and_not_where_the_ledger_lies(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[policy]\nledger = "elsewhere"\nsteps = 5\nwide_layer = true\n')
    assert settings.ledger == tmp_path / "elsewhere" / "bank" / "features.jsonl"
    assert type(settings.limits) is Policy
    assert dict(settings.limits) == {name: getattr(settings.policy, name) for name in Policy.model_fields}
    assert (settings.limits.steps, settings.limits.wide_layer) == (5, True)
