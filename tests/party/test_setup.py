from pathlib import Path

import pytest

from moiety.config import DataOwnerRun, LabelOwnerRun, load_run
from moiety.errors import ConfigError, MoietyError, PeerIdentityError
from moiety.net.identity import fingerprint, load_identity, load_pinned
from moiety.party.setup import initialise, trust


@pytest.fixture
def parties(tmp_path: Path) -> tuple[Path, Path]:
    bank, telco = tmp_path / "bank", tmp_path / "telco"
    initialise(bank, role="label-owner", name="bank", run="credit")
    initialise(telco, role="data-owner", name="telco", run="credit")
    return bank, telco


@pytest.mark.parametrize(("role", "kind"), [("label-owner", LabelOwnerRun), ("data-owner", DataOwnerRun)])
def test_initialise_writes_a_run_file_that_loads(tmp_path: Path, role: str, kind: type) -> None:
    printed = initialise(tmp_path / "new", role=role, name="bank", run="credit-2026")
    run = load_run(tmp_path / "new" / "run.toml")
    assert isinstance(run, kind)
    assert run.run == "credit-2026"
    load_identity(run.own.key, run.own.certificate)
    assert printed == fingerprint(run.own.certificate.read_bytes())


def test_initialise_makes_the_two_sides_meet(parties: tuple[Path, Path]) -> None:
    bank, telco = (load_run(folder / "run.toml") for folder in parties)
    assert bank.run == telco.run
    assert bank.protocol == telco.protocol
    assert bank.peer[0].listen is not None
    assert telco.peer[0].dial is not None


def test_initialise_with_an_unknown_role_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        initialise(tmp_path, role="boss", name="bank", run="credit")
    assert "label-owner" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["own.key", "own.crt", "run.toml"])
def test_initialise_overwrites_nothing(tmp_path: Path, kept: str) -> None:
    (tmp_path / kept).write_text("kept", encoding="ascii")
    with pytest.raises(ConfigError, match=kept):
        initialise(tmp_path, role="label-owner", name="bank", run="credit")
    assert [path.name for path in tmp_path.iterdir()] == [kept]
    assert (tmp_path / kept).read_text(encoding="ascii") == "kept"


def test_trust_pins_where_the_run_file_expects_it(parties: tuple[Path, Path]) -> None:
    bank, telco = parties
    printed = trust(bank / "run.toml", telco / "own.crt")
    pinned = load_pinned(load_run(bank / "run.toml").peer[0].certificate)
    assert pinned == (telco / "own.crt").read_bytes()
    assert printed == fingerprint(pinned)


def test_trust_of_the_same_certificate_again_is_fine(parties: tuple[Path, Path]) -> None:
    bank, telco = parties
    first = trust(bank / "run.toml", telco / "own.crt")
    assert trust(bank / "run.toml", telco / "own.crt") == first


def test_trust_of_own_certificate_is_refused(parties: tuple[Path, Path]) -> None:
    bank, _ = parties
    with pytest.raises(ConfigError, match="own certificate"):
        trust(bank / "run.toml", bank / "own.crt")
    assert not (bank / "peer.crt").exists()


def test_trust_never_replaces_another_certificate(parties: tuple[Path, Path], tmp_path: Path) -> None:
    bank, telco = parties
    trust(bank / "run.toml", telco / "own.crt")
    initialise(tmp_path / "other", role="data-owner", name="telco", run="credit")
    with pytest.raises(ConfigError, match="pins another certificate") as caught:
        trust(bank / "run.toml", tmp_path / "other" / "own.crt")
    assert "remove" in caught.value.hint
    assert (bank / "peer.crt").read_bytes() == (telco / "own.crt").read_bytes()


def test_trust_of_a_private_key_is_refused(parties: tuple[Path, Path]) -> None:
    bank, telco = parties
    with pytest.raises(MoietyError) as caught:
        trust(bank / "run.toml", telco / "own.key")
    assert isinstance(caught.value, ConfigError | PeerIdentityError)
    assert not (bank / "peer.crt").exists()


def test_trust_of_a_missing_file_names_it(parties: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"absent\.crt"):
        trust(parties[0] / "run.toml", parties[0] / "absent.crt")
