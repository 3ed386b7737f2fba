import threading
from pathlib import Path
from typing import Any

import pytest

from moiety.check import check
from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.data_owner import open_ledger
from moiety.errors import ConfigError, DataError, MoietyError, PeerIdentityError, PeerUnreachableError
from moiety.peer import Connector
from tests.parties import (
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


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path)


def test_check_of_a_data_owner_says_what_is_in_order(files: Files) -> None:
    assert list(check(files.data_owner, peer=False)) == [
        "run file: run.toml, data-owner, run small",
        "certificates: own and the one of bank are valid today",
        "table: 600 rows, 8 prepared columns",
        "policy: up to 640 values of z a row, 100000 predictions, batches of 64 rows or more",
    ]


def test_check_of_a_label_owner_says_what_is_in_order(files: Files) -> None:
    assert list(check(files.label_owner, peer=False)) == [
        "run file: run.toml, label-owner, run small",
        "certificates: own and the one of telco are valid today",
        "table: 600 rows, target target, binary",
    ]


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
        accepting = threading.Thread(target=lambda: listening.connect(deadline_seconds=20.0).close())
        accepting.start()
        sentences = list(check(files.data_owner, peer=True))
        accepting.join(20.0)
    assert sentences[-1] == "peer: bank is connected with the pinned certificate"


def test_check_says_that_the_peer_is_not_there(files: Files) -> None:
    configure(files.label_owner, {"peer.dial": NOBODY, "peer.connect_deadline": 0.5})
    sentences = check(files.label_owner, peer=True)
    assert [next(sentences) for _ in range(3)]
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
        ("f1", [float("nan")] + [0.0] * 599, "standard"),
        ("f1", [float("inf")] + [0.0] * 599, "standard"),
        ("f1", [None] + [0.0] * 599, "quantile"),
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
