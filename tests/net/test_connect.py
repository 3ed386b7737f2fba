import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.config.listener import SILENT
from moiety.errors import (
    ConfigError,
    ContractMismatchError,
    MoietyError,
    PeerIdentityError,
    PeerUnreachableError,
    PolicyError,
    RemoteProtocolError,
)
from moiety.net.channel import Channel
from moiety.net.connect import Connector, SessionConnector, connect
from moiety.net.identity import create_identity
from moiety.party.data_owner.provide import provide
from moiety.party.label_owner.train import train
from tests.support.parties import (
    NOBODY,
    Files,
    Settings,
    configure,
    let_data_owner_dial,
    make_certificate_expire,
    make_parties,
    meet,
    rewrite_table,
)
from tests.support.patience import PATIENCE


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path)


def test_connect_carries_frames_both_ways_and_stops_listening(files: Files) -> None:
    with Connector(load_data_owner_run(files.data_owner)) as listening:
        configure(files.label_owner, {"peer.dial": listening.address})
        assert listening.listens
        dialled, connector = connect(load_label_owner_run(files.label_owner))
        accepted = listening.connect(deadline_seconds=PATIENCE)
        dialled.send(b"there")
        accepted.send(b"and back")
        assert accepted.receive(deadline_seconds=PATIENCE) == b"there"
        assert dialled.receive(deadline_seconds=PATIENCE) == b"and back"
        assert (dialled.bytes_sent, dialled.bytes_received) == (5, 8)
        accepted.close()
        dialled.close()
        connector.end()
    with pytest.raises(PeerUnreachableError):
        _dial_quickly(files)


def test_connect_that_listens_frees_the_port_when_it_closes(files: Files) -> None:
    settings = load_data_owner_run(files.data_owner)
    found: queue.Queue[tuple[Channel, SessionConnector]] = queue.Queue()
    with Connector(settings) as probe:
        address = probe.address
    configure(files.data_owner, {"peer.listen": address})
    configure(files.label_owner, {"peer.dial": address})
    settings = load_data_owner_run(files.data_owner)
    thread = threading.Thread(target=lambda: found.put(connect(settings)))
    thread.start()
    dialled, _ = connect(load_label_owner_run(files.label_owner))
    thread.join(PATIENCE)
    accepted, connector = found.get_nowait()
    accepted.close()
    connector.end()
    dialled.close()
    with Connector(settings) as again:
        assert again.address == address


def test_connect_refuses_a_port_in_use(files: Files) -> None:
    with Connector(load_data_owner_run(files.data_owner)) as first:
        configure(files.data_owner, {"peer.listen": first.address})
        with pytest.raises(ConfigError, match="cannot be listened at") as caught:
            provide(files.data_owner, once=True)
        assert first.address.split(":")[1] in caught.value.hint


@pytest.mark.slow
def test_train_says_after_its_deadline_that_nobody_is_there(files: Files) -> None:
    configure(files.label_owner, {"peer.dial": NOBODY, "peer.connect_deadline": 1.0})
    with pytest.raises(PeerUnreachableError, match=f"no connection to {NOBODY} within 1 s") as caught:
        train(files.label_owner)
    for cause in ("started", "firewall", "certificate"):
        assert cause in caught.value.hint


def test_provide_once_says_after_its_deadline_that_nobody_came(files: Files) -> None:
    configure(files.data_owner, {"peer.connect_deadline": 0.5})
    with pytest.raises(PeerUnreachableError, match=r"nobody connected to 127.0.0.1:\d+ within 0.5 s"):
        provide(files.data_owner, once=True, listener=SILENT)


def test_train_that_listens_says_after_its_deadline_that_nobody_came(files: Files) -> None:
    let_data_owner_dial(files, "127.0.0.1:0")
    configure(files.label_owner, {"peer.connect_deadline": 0.5})
    with pytest.raises(PeerUnreachableError, match="nobody connected"):
        train(files.label_owner)


def test_train_refuses_an_expired_own_certificate_before_it_connects(files: Files) -> None:
    make_certificate_expire(files.label_owner.parent)
    with pytest.raises(PeerIdentityError, match=r"bank/own.crt expired on") as caught:
        train(files.label_owner)
    assert "moiety init" in caught.value.hint


def test_provide_refuses_an_expired_pinned_certificate_before_it_listens(files: Files) -> None:
    (files.data_owner.parent / "bank.crt").write_bytes(make_certificate_expire(files.label_owner.parent))
    with pytest.raises(PeerIdentityError, match=r"telco/bank.crt expired on"):
        provide(files.data_owner, once=True, listener=SILENT)


def test_train_refuses_a_key_of_another_certificate(files: Files, tmp_path: Path) -> None:
    create_identity(tmp_path / "other", "bank")
    (files.label_owner.parent / "own.crt").write_bytes((tmp_path / "other" / "own.crt").read_bytes())
    with pytest.raises(PeerIdentityError, match="is not the key of"):
        train(files.label_owner)


@pytest.mark.slow
def test_train_finds_no_peer_behind_another_certificate(files: Files, tmp_path: Path) -> None:
    create_identity(tmp_path / "other", "telco")
    (files.label_owner.parent / "telco.crt").write_bytes((tmp_path / "other" / "own.crt").read_bytes())
    configure(files.label_owner, {"peer.connect_deadline": 1.0})
    configure(files.data_owner, {"peer.connect_deadline": 2.0})
    meeting = meet(files)
    assert isinstance(meeting.label_owner, PeerUnreachableError)
    assert "certificate" in meeting.label_owner.hint
    assert isinstance(meeting.data_owner, PeerUnreachableError)
    assert "certificate" in meeting.data_owner.hint


@pytest.mark.slow
def test_provide_turns_away_another_certificate_than_the_pinned_one(files: Files, tmp_path: Path) -> None:
    create_identity(tmp_path / "other", "bank")
    (files.data_owner.parent / "bank.crt").write_bytes((tmp_path / "other" / "own.crt").read_bytes())
    configure(files.label_owner, {"peer.connect_deadline": 1.0})
    configure(files.data_owner, {"peer.connect_deadline": 2.0})
    meeting = meet(files)
    assert isinstance(meeting.label_owner, PeerIdentityError | PeerUnreachableError)
    assert "compare fingerprints" in meeting.label_owner.hint or "pinned" in meeting.label_owner.hint
    assert isinstance(meeting.data_owner, PeerUnreachableError)
    assert not (files.label_owner.parent / "small").exists()


@pytest.mark.parametrize(
    ("field", "label", "data"),
    [
        ("run", {"run": "another"}, {}),
        ("id_columns", {}, {"table.id": ["f0"]}),
        ("columns", {"table.id": ["target"], "table.duplicates": "first"}, {}),
    ],
)
def test_both_sides_name_the_setting_in_which_they_differ(
    files: Files, field: str, label: Settings, data: Settings
) -> None:
    if data:
        rewrite_table(files.data_owner.parent / "features.parquet", _numbered)
    configure(files.label_owner, label)
    configure(files.data_owner, data)
    _require_mismatch(files, field)


def _numbered(table: Any) -> Any:
    return table.set_column(table.column_names.index("f0"), "f0", [list(range(600))])


def test_both_sides_name_the_rows_in_which_they_differ(files: Files) -> None:
    rewrite_table(files.label_owner.parent / "labels.parquet", lambda table: table.slice(1))
    error = _require_mismatch(files, "rows")
    assert (error.own, error.peer) == (599, 600)
    assert "same rows" in error.hint


def _require_mismatch(files: Files, field: str) -> ContractMismatchError:
    meeting = meet(files)
    here, there = meeting.label_owner, meeting.data_owner
    assert isinstance(here, ContractMismatchError)
    assert isinstance(there, ContractMismatchError)
    assert here.field == there.field == field
    assert (here.own, here.peer) == (there.peer, there.own)
    assert here.own != here.peer
    assert not (files.label_owner.parent / "small").exists()
    return here


@pytest.mark.parametrize(
    ("limit", "label", "data"),
    [
        ("wide_layer", {"model.units": 8}, {}),
        ("released_z_per_row", {}, {"policy.released_z_per_row": 7}),
        ("smallest_batch", {"train.batch": 100}, {"policy.smallest_batch": 256}),
    ],
)
def test_both_sides_name_the_limit_that_refuses_the_run(
    files: Files, limit: str, label: Settings, data: Settings
) -> None:
    configure(files.label_owner, label)
    configure(files.data_owner, data)
    meeting = meet(files)
    for error in (meeting.label_owner, meeting.data_owner):
        assert isinstance(error, PolicyError)
        assert error.limit == limit
        assert limit in error.message
        assert error.hint


def test_both_sides_of_one_role_say_so(files: Files, tmp_path: Path) -> None:
    other = make_parties(tmp_path / "second")
    _exchange_certificates(files.label_owner, other.label_owner)
    with Connector(load_data_owner_run(files.data_owner)) as probe:
        address = probe.address
    configure(files.label_owner, {"peer.dial": None, "peer.listen": address})
    configure(other.label_owner, {"peer.dial": address})
    ended: queue.Queue[MoietyError] = queue.Queue()
    thread = threading.Thread(target=_train_into, args=(files.label_owner, ended))
    thread.start()
    _train_into(other.label_owner, ended)
    thread.join(PATIENCE)
    errors = [ended.get_nowait(), ended.get_nowait()]
    said = [error for error in errors if "both sides say they are the label owner" in error.message]
    assert said
    assert 'role = "data-owner"' in said[0].hint
    assert all(isinstance(error, RemoteProtocolError) for error in errors)


def _train_into(path: Path, ended: "queue.Queue[MoietyError]") -> None:
    try:
        train(path)
    except MoietyError as error:
        ended.put(error)


def _exchange_certificates(first: Path, second: Path) -> None:
    (first.parent / "telco.crt").write_bytes((second.parent / "own.crt").read_bytes())
    (second.parent / "telco.crt").write_bytes((first.parent / "own.crt").read_bytes())


def _dial_quickly(files: Files) -> Channel:
    configure(files.label_owner, {"peer.connect_deadline": 0.5})
    return connect(load_label_owner_run(files.label_owner))[0]
