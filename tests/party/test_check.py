import threading
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.data.profile import TableProfile
from moiety.errors import ConfigError, DataError, MoietyError, PeerIdentityError, PeerUnreachableError
from moiety.net.connect import Connector
from moiety.party.check import check
from moiety.party.data_owner.features import open_ledger
from moiety.party.disclosure import Disclosure
from tests.support.parties import (
    NOBODY,
    Files,
    Provider,
    configure,
    let_data_owner_dial,
    make_certificate_expire,
    make_parties,
    rewrite_table,
    with_column,
)
from tests.support.patience import PATIENCE


def narrow(columns: int) -> nn.Module:
    """Make a bottom model with five outputs."""
    return nn.Sequential(nn.Linear(columns, 5), nn.Tanh())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path, ids=True)


def test_check_of_a_data_owner_says_what_is_in_order(files: Files) -> None:
    first, second, profile, learns, last = check(files.data_owner, peer=False)
    assert (first, second, last) == (
        "run file: run.toml, data-owner, run small",
        "certificates: own and the one of bank are valid today",
        "table: 600 rows, 8 prepared columns",
    )
    assert isinstance(profile, TableProfile)
    assert [column.use for column in profile.columns] == ["id", *["feature"] * 8]
    assert (profile.rows, profile.inputs, profile.repeated_ids) == (600, 8, 0)
    assert isinstance(learns, Disclosure)
    assert (learns.peer, learns.stated["in_features"], learns.stated["policy"]["smallest_batch"]) == (
        "bank",
        8,
        64,
    )


def test_check_of_a_label_owner_says_what_is_in_order(files: Files) -> None:
    first, second, profile, learns, last = check(files.label_owner, peer=False)
    assert (first, second, last) == (
        "run file: run.toml, label-owner, run small",
        "certificates: own and the one of telco are valid today",
        "table: 600 rows, target target, binary",
    )
    assert isinstance(profile, TableProfile)
    assert [column.use for column in profile.columns] == ["id", "target"]
    assert isinstance(learns, Disclosure)
    assert (learns.peer, learns.stated["out_features"], learns.stated["epochs"]) == ("telco", 4, 2)


def test_check_of_a_data_owner_with_a_bottom_model_says_how_wide_it_is(files: Files) -> None:
    configure(files.data_owner, {"model.bottom": "tests.party.test_check:narrow", "model.frozen": True})
    learns = next(each for each in check(files.data_owner, peer=False) if isinstance(each, Disclosure))
    assert learns.stated["in_features"] == 5


def test_check_profiles_all_columns_before_it_refuses_the_first(files: Files) -> None:
    rewrite_table(files.data_owner.parent / "features.parquet", with_column("f1", ["text"] * 600))
    rewrite_table(files.data_owner.parent / "features.parquet", with_column("f3", [float("inf")] * 600))
    configure(files.data_owner, {"prepare.f1": "log"})
    findings = check(files.data_owner, peer=False)
    profile = [next(findings) for _ in range(3)][-1]
    with pytest.raises(DataError, match="f1"):
        next(findings)
    assert isinstance(profile, TableProfile)
    assert [column.name for column in profile.columns if column.problem] == ["f1", "f3"]
    assert sum(column.prepared is not None for column in profile.columns) == 6


def test_check_of_a_label_owner_shakes_hands_and_spends_nothing(files: Files) -> None:
    with Provider(files) as provider:
        sentences = list(check(files.label_owner, peer=True))
    assert sentences[-1] == "peer: telco agrees on 8 in_features, rlwe-8192-141"
    assert provider.error is None
    assert provider.reports[-1] == "finished; z released per row so far: 0 of 640"
    ledger = open_ledger(load_data_owner_run(files.data_owner))
    assert ledger.totals().released_z_per_row == 0
    ledger.close()


def test_check_of_a_data_owner_connects(files: Files) -> None:
    let_data_owner_dial(files, "127.0.0.1:0")
    with Connector(load_label_owner_run(files.label_owner)) as listening:
        configure(files.data_owner, {"peer.dial": listening.address})
        accepting = threading.Thread(target=lambda: listening.connect(deadline_seconds=PATIENCE).close())
        accepting.start()
        sentences = list(check(files.data_owner, peer=True))
        accepting.join(PATIENCE)
    assert sentences[-1] == "peer: bank is connected with the pinned certificate"


def test_check_says_that_the_peer_is_not_there(files: Files) -> None:
    configure(files.label_owner, {"peer.dial": NOBODY, "peer.connect_deadline": 0.5})
    sentences = check(files.label_owner, peer=True)
    assert [next(sentences) for _ in range(5)]
    with pytest.raises(PeerUnreachableError, match="no connection"):
        next(sentences)


def test_check_refuses_an_expired_certificate(files: Files) -> None:
    make_certificate_expire(files.data_owner.parent)
    with pytest.raises(PeerIdentityError, match="expired"):
        list(check(files.data_owner, peer=False))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"table.source": "missing.csv"}, ConfigError, "no file"),
        ({"table.target": "label"}, DataError, "no column 'label'"),
        ({"table.target": "customer"}, DataError, "distinct values"),
        ({"own.key": "missing.key"}, ConfigError, "missing.key cannot be read"),
        ({"peer.certificate": "missing.crt"}, ConfigError, "missing.crt cannot be read"),
        ({"peer.certificate": "own.key"}, PeerIdentityError, "not a PEM certificate"),
        ({"model.hidden": None, "model.top": "nowhere:top"}, ConfigError, "nowhere:top"),
    ],
)
def test_check_of_a_label_owner_finds(
    files: Files, change: dict[str, Any], error: type[MoietyError], says: str
) -> None:
    configure(files.label_owner, change)
    with pytest.raises(error, match=says) as caught:
        list(check(files.label_owner, peer=False))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("column", "values", "rule"),
    [
        ("f1", [float("inf")] + [0.0] * 599, "standard"),
        ("f1", ["text"] * 600, "standard"),
        ("f1", ["text"] * 600, "log"),
    ],
)
def test_check_of_a_data_owner_finds_a_bad_column(
    files: Files, column: str, values: list[Any], rule: str
) -> None:
    rewrite_table(files.data_owner.parent / "features.parquet", with_column(column, values))
    configure(files.data_owner, {f"prepare.{column}": rule})
    with pytest.raises(DataError, match=column) as caught:
        list(check(files.data_owner, peer=False))
    assert caught.value.hint
    assert "text" not in caught.value.message.replace("holds text", "").replace("is text", "")


def test_check_refuses_an_empty_table(files: Files) -> None:
    rewrite_table(files.data_owner.parent / "features.parquet", lambda table: table.slice(0, 0))
    with pytest.raises(DataError, match="no rows"):
        list(check(files.data_owner, peer=False))
