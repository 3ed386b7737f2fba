import json
import math
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from pyarrow import csv, parquet

from moiety.config import DataOwnerRun as Settings
from moiety.config import Totals, load_data_owner_run
from moiety.contract.products import Role
from moiety.contract.terms import encode_terms
from moiety.crypto.sampling import Seed
from moiety.data.preparation import Preparation
from moiety.errors import (
    CheckpointError,
    ConfigError,
    ContractMismatchError,
    DataError,
    LocalProtocolError,
    MalformedMessageError,
    PeerAbortedError,
    PeerIdentityError,
    PeerUnreachableError,
    PolicyError,
    RemoteProtocolError,
)
from moiety.net.channel import memory_pair
from moiety.net.identity import create_identity
from moiety.net.session import Session
from moiety.nn import bottom
from moiety.party.data_owner import activations
from moiety.party.data_owner import prepared as prepared_module
from moiety.party.data_owner.activations import ActivationTable
from moiety.party.data_owner.features import (
    fixed_features,
    open_ledger,
    read_features,
    wanted_features,
)
from moiety.party.data_owner.party import DataOwnerParty
from moiety.party.data_owner.prepared import prepare
from moiety.party.data_owner.provide import provide
from moiety.party.data_owner.session import DataOwnerSession
from moiety.party.data_owner.start import Start
from moiety.protocol.handshake import LabelOwnerHandshake
from moiety.protocol.messages import Block, Kind
from moiety.store import model as checkpoint
from moiety.store.checkpoints import open_checkpoints
from tests.support.pair import contract_of, data_terms, label_terms
from tests.support.parties import (
    NOBODY,
    Files,
    configure,
    let_data_owner_dial,
    make_parties,
    meet,
    rewrite_table,
    with_column,
)
from tests.support.randomness import RecordedRandomness


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_parties(tmp_path)


def session_of(files: Files, reports: list[str]) -> DataOwnerSession:
    settings = load_data_owner_run(files.data_owner)
    party = DataOwnerParty(
        settings=settings,
        table=read_features(settings),
        ledger=None,
        randomness=RecordedRandomness(b"party"),
        report=reports.append,
        checkpoints=open_checkpoints(settings.folder, settings.checkpoint, report=reports.append),
    )
    return DataOwnerSession(party, Session(memory_pair()[1], role=Role.DATA_OWNER, deadline_seconds=0.0))


def block(kind: Kind, payload: bytes = b"") -> Block:
    return Block(kind=kind, step=0, payload=payload)


def order_digest(files: Files) -> str:
    settings = load_data_owner_run(files.data_owner)
    return read_features(settings).id_digest(settings.table.id).hex()


def hello(files: Files, **changes: object) -> Block:
    terms = label_terms(
        **{
            "run": "small",
            "rows": 600,
            "order_digest": order_digest(files),
            "batch": 256,
            "out_features": 4,
            **changes,
        }
    )
    return block(Kind.HELLO, encode_terms(terms))


@pytest.mark.parametrize("kind", [Kind.PUBLIC_KEY, Kind.REQUEST, Kind.FINISH, Kind.INITIAL_SHARE])
def test_party_refuses_to_begin_without_hello(files: Files, kind: Kind) -> None:
    with pytest.raises(RemoteProtocolError, match="HELLO"):
        list(session_of(files, []).receive(block(kind)))


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.REQUEST, Kind.WEIGHTS])
def test_party_refuses_everything_but_the_key_after_hello(files: Files, kind: Kind) -> None:
    session = session_of(files, [])
    list(session.receive(hello(files)))
    with pytest.raises(RemoteProtocolError, match="PUBLIC_KEY was due"):
        list(session.receive(block(kind)))


def test_party_refuses_a_key_that_is_none(files: Files) -> None:
    session = session_of(files, [])
    list(session.receive(hello(files)))
    with pytest.raises(MalformedMessageError):
        list(session.receive(block(Kind.PUBLIC_KEY, b"short")))


def test_party_says_what_was_agreed(files: Files) -> None:
    reports: list[str] = []
    session = session_of(files, reports)
    (answer,) = session.receive(hello(files))
    assert answer.kind is Kind.HELLO
    drift, agreed = reports
    assert drift.startswith(
        "drift of 180 rows kept from training against the training rows: 0 values missing"
    )
    assert agreed == "train: 600 rows, 8 in_features, 4 out_features, rlwe-8192-141"


def test_party_saves_nothing_if_only_a_handshake_was_made(files: Files) -> None:
    session = session_of(files, [])
    list(session.receive(hello(files)))
    (answer,) = session.receive(block(Kind.FINISH))
    assert answer.kind is Kind.FINISH
    assert session.finished
    assert not (files.data_owner.parent / "small").exists()


def test_party_reports_how_many_values_were_clipped(files: Files) -> None:
    rewrite_table(files.data_owner.parent / "features.parquet", with_column("f2", [99.0] + [0.0] * 599))
    configure(files.data_owner, {"prepare.f2": "none"})
    reports: list[str] = []
    list(session_of(files, reports).receive(hello(files)))
    assert "1 of 4800 activations lie beyond 8 and were clipped" in reports


def test_session_keeps_its_prepared_table(files: Files) -> None:
    settings = load_data_owner_run(files.data_owner)
    table = read_features(settings)
    draft = contract_of(label=label_terms(rows=600), data=data_terms(rows=600))
    start = Start(weight_seed=Seed(bytes(32)))
    with closing(prepare(settings, table, draft=draft, start=start, report=lambda _: None)) as prepared:
        kept = prepared.activations
        assert isinstance(kept, ActivationTable)
        expected, _ = fixed_features(prepared.preparation.transform(table))
        rows = np.array([599, 3, 3, 0])
        for found, wanted in zip(
            kept.batch(rows, training=True), expected.batch(rows, training=True), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("units", [7, 8])
def test_session_removes_the_prepared_table_at_its_end(
    files: Files, monkeypatch: pytest.MonkeyPatch, units: int
) -> None:
    """After a training, and where the layer turns out to be as wide as the table."""
    kept: list[ActivationTable] = []  # keeps them from being collected

    class Recorded(ActivationTable):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            kept.append(self)

    monkeypatch.setattr(activations, "MEMORY_BYTES", 0)
    monkeypatch.setattr(prepared_module, "ActivationTable", Recorded)
    configure(files.label_owner, {"model.units": units})
    assert (meet(files).data_owner is None) == (units == 7)
    (rows,) = [each._rows for each in kept]
    assert isinstance(rows, activations._MappedRows)
    assert rows._map.closed


def test_session_ends_when_the_prepared_table_cannot_be_kept(files: Files) -> None:
    (files.data_owner.parent / "small").write_bytes(b"")
    meeting = meet(files)
    assert isinstance(meeting.data_owner, CheckpointError)
    assert "small cannot be written" in meeting.data_owner.message
    assert isinstance(meeting.label_owner, PeerAbortedError)


def test_provide_takes_a_csv_file_and_a_folder_of_parquet_files(files: Files) -> None:
    path = files.data_owner.parent / "features.parquet"
    table = parquet.read_table(path)
    settings = load_data_owner_run(files.data_owner)
    expected = fitted(settings)
    csv.write_csv(table, path.with_suffix(".csv"))
    configure(files.data_owner, {"table.source": "features.csv"})
    assert fitted(load_data_owner_run(files.data_owner)) == expected
    path.unlink()
    path.mkdir()
    for name, part in (("a", table.slice(0, 250)), ("b", table.slice(250))):
        parquet.write_table(part, path / f"{name}.parquet")
    assert fitted(settings) == expected


def fitted(settings: Settings) -> tuple[str, str]:
    table = read_features(settings)
    wanted = wanted_features(settings, table)
    preparation = Preparation.fit(table, features=wanted.features, rules=wanted.rules, rows=np.arange(400))
    return table.id_digest(settings.table.id).hex(), preparation.to_json()


def test_bottom_model_is_checked_with_two_rows(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(bottom, "check_bottom", lambda _, values_NC: shapes.append(values_NC.shape))
    configure(files.data_owner, {"model.bottom": "some:bottom", "model.frozen": True})
    read_features(load_data_owner_run(files.data_owner))
    assert shapes == [(2, 8)]


@pytest.mark.parametrize(
    ("change", "own"),
    [({"rows": 599}, 600), ({"scheme": "paillier"}, "rlwe"), ({"run": "other"}, "small")],
)
def test_party_answers_without_a_width_before_it_refuses_other_terms(
    files: Files, change: dict[str, Any], own: object
) -> None:
    ((field, peer),) = change.items()
    answers = session_of(files, []).receive(hello(files, **change))
    terms = json.loads(next(answers).payload)
    assert (terms[field], terms["in_features"]) == (own, 0)
    with pytest.raises(ContractMismatchError, match=f"{field}: own {own}, peer {peer}"):
        next(answers)


@pytest.mark.parametrize(
    ("policy", "proposal", "limit"),
    [
        ({"runs": 0}, {}, "runs"),
        ({"steps": 3}, {}, "steps"),
        ({"released_z_per_row": 7}, {}, "released_z_per_row"),
        ({"smallest_batch": 211}, {}, "smallest_batch"),
        ({"early_stopping": False}, {"may_stop": True}, "early_stopping"),
    ],
)
def test_policy_is_asked_before_the_table_is_prepared(
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    policy: dict[str, Any],
    proposal: dict[str, Any],
    limit: str,
) -> None:
    """The answer to a refused proposal says nothing of the prepared table, not even its width."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the table was prepared")

    monkeypatch.setattr("moiety.party.data_owner.session.prepare", never)
    configure(files.data_owner, {f"policy.{name}": value for name, value in policy.items()})
    answers = session_of(files, []).receive(hello(files, **proposal))
    payload = next(answers).payload
    assert json.loads(payload)["in_features"] == 0
    with pytest.raises(PolicyError) as caught:
        next(answers)
    assert caught.value.limit == limit
    label = label_terms(
        run="small", rows=600, order_digest=order_digest(files), batch=256, out_features=4, **proposal
    )
    handshake = LabelOwnerHandshake(label)
    with pytest.raises(PolicyError) as told:
        handshake.receive(block(Kind.HELLO, payload))
    assert (told.value.limit, told.value.asked) == (limit, caught.value.asked)


def test_session_is_over_after_a_block_that_was_not_expected(files: Files) -> None:
    session = session_of(files, [])
    with pytest.raises(RemoteProtocolError):
        list(session.receive(block(Kind.REQUEST)))
    with pytest.raises(LocalProtocolError, match="over"):
        list(session.receive(hello(files)))
    assert not session.finished


def test_session_is_over_after_its_end(files: Files) -> None:
    session = session_of(files, [])
    for each in (hello(files), block(Kind.FINISH)):
        list(session.receive(each))
    with pytest.raises(LocalProtocolError, match="over"):
        list(session.receive(hello(files)))


def test_session_takes_no_block_before_the_answer_to_the_last_was_taken(files: Files) -> None:
    session = session_of(files, [])
    unfinished = session.receive(hello(files))
    next(unfinished)
    with pytest.raises(LocalProtocolError):
        list(session.receive(block(Kind.FINISH)))


@pytest.mark.parametrize("kind", [Kind.ALIGNMENT, Kind.BLINDED_IDS, Kind.CHECKPOINT, Kind.RESUME])
def test_party_refuses_what_belongs_elsewhere_after_hello(files: Files, kind: Kind) -> None:
    session = session_of(files, [])
    list(session.receive(hello(files)))
    with pytest.raises(RemoteProtocolError, match="PUBLIC_KEY was due"):
        list(session.receive(block(kind)))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"table.source": "missing.parquet"}, ConfigError, "no file"),
        ({"table.features": ["f0", "g1"]}, DataError, "no column 'g1'"),
        ({"prepare.f9": "log"}, ConfigError, "f9"),
        ({"table.features": ["f0", "note"], "prepare.note": "standard"}, DataError, "note"),
    ],
)
def test_provide_refuses_a_table_that_does_not_suit(
    files: Files, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    rewrite_table(
        files.data_owner.parent / "features.parquet",
        lambda table: table.append_column("note", pa.array(["a text"] * 600)),
    )
    configure(files.data_owner, {"table.features": ["f0"], **change})
    with pytest.raises(error, match=says):
        provide(files.data_owner, once=True, report=lambda _: None)


def test_provide_refuses_infinite_values(files: Files) -> None:
    rewrite_table(
        files.data_owner.parent / "features.parquet", with_column("f5", [math.inf, -math.inf] + [0.5] * 598)
    )
    with pytest.raises(DataError, match=r"f5.*2") as caught:
        provide(files.data_owner, once=True, report=lambda _: None)
    assert caught.value.hint


def test_provide_counts_what_it_releases_over_all_runs(files: Files) -> None:
    configure(files.data_owner, {"policy.released_z_per_row": 12})
    first = meet(files)
    assert first.result is not None
    assert first.reports[-1] == "finished; z released per row so far: 8 of 12"
    ledger = open_ledger(load_data_owner_run(files.data_owner))
    totals = ledger.totals()
    ledger.close()
    assert totals == Totals(released_z_per_row=8, predictions=0, steps=4, runs=1)
    again = meet(files)
    for error in (again.label_owner, again.data_owner):
        assert isinstance(error, PolicyError)
        assert (error.limit, error.allowed, error.asked) == ("released_z_per_row", 12, 16)


def test_provide_keeps_its_ledger_when_the_run_gets_another_name(files: Files) -> None:
    configure(files.data_owner, {"policy.released_z_per_row": 8})
    assert meet(files).result is not None
    for path in (files.label_owner, files.data_owner):
        configure(path, {"run": "renamed"})
    assert isinstance(meet(files).data_owner, PolicyError)


@pytest.mark.parametrize(("limit", "allowed"), [("runs", 1), ("steps", 7)])
def test_provide_counts_runs_and_steps_over_all_runs(files: Files, limit: str, allowed: int) -> None:
    configure(files.data_owner, {f"policy.{limit}": allowed})
    assert meet(files).result is not None
    again = meet(files)
    for error in (again.label_owner, again.data_owner):
        assert isinstance(error, PolicyError)
        assert (error.limit, error.allowed, error.asked) == (limit, allowed, 2 if limit == "runs" else 8)


def test_provide_keeps_its_ledger_when_certificate_and_table_move(files: Files) -> None:
    """What the peer can change, a certificate, and where files lie do not start a new count."""
    configure(files.data_owner, {"policy.runs": 1})
    assert meet(files).result is not None
    bank, telco = files.label_owner.parent, files.data_owner.parent
    create_identity(bank / "new", "bank")
    (bank / "new" / "own.key").replace(bank / "own.key")
    (telco / "bank.crt").write_bytes((bank / "new" / "own.crt").read_bytes())
    (bank / "new" / "own.crt").replace(bank / "own.crt")
    (telco / "archive").mkdir()
    (telco / "features.parquet").rename(telco / "archive" / "features.parquet")
    configure(files.data_owner, {"table.source": "archive/features.parquet"})
    assert isinstance(meet(files).data_owner, PolicyError)


def test_ledger_of_an_earlier_version_is_taken_over(files: Files) -> None:
    settings = load_data_owner_run(files.data_owner)
    certificate = x509.load_pem_x509_certificate(settings.peer[0].certificate.read_bytes())
    peer = certificate.fingerprint(SHA256()).hex()[:16]
    assert isinstance(settings.table.source, Path)
    table = sha256(str(settings.table.source.resolve()).encode()).hexdigest()[:16]
    earlier = files.data_owner.parent / "ledger" / f"{peer}-{table}.jsonl"
    earlier.parent.mkdir()
    earlier.write_text('{"released_z_per_row": 635, "predictions": 7}\n', encoding="utf-8")
    with closing(open_ledger(settings)) as ledger:
        assert ledger.totals() == Totals(released_z_per_row=635, predictions=7)
    assert not earlier.exists()
    with closing(open_ledger(settings)) as ledger:
        assert ledger.totals().predictions == 7


def test_provide_refuses_a_damaged_ledger(files: Files) -> None:
    assert meet(files).result is not None
    path = load_data_owner_run(files.data_owner).ledger
    path.write_bytes(path.read_bytes()[:-4])
    meeting = meet(files)
    assert meeting.data_owner is not None
    assert meeting.data_owner.exit_code == 7
    assert "damaged" in meeting.data_owner.message


def test_provide_saves_what_predicting_needs(files: Files) -> None:
    assert meet(files).result is not None
    arrays, facts = checkpoint.load_model(files.data_owner.parent / "small")
    assert set(arrays) == {"share", "dither_key", "weight_seed"}
    assert facts["updates"] == 4


def test_provide_once_gives_up_when_nobody_listens(files: Files) -> None:
    let_data_owner_dial(files, NOBODY)
    configure(files.data_owner, {"peer.connect_deadline": 0.5})
    reports: list[str] = []
    with pytest.raises(PeerUnreachableError, match="no connection to") as caught:
        provide(files.data_owner, once=True, report=reports.append)
    assert "firewall" in caught.value.hint
    assert reports == [f"600 rows ready; dialling {NOBODY} for bank"]


def test_provide_ends_for_good_when_the_peer_refuses_its_certificate(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PeerIdentityError("another certificate is pinned")

    let_data_owner_dial(files, NOBODY)
    monkeypatch.setattr("moiety.net.connect.dial", refuse)
    # Without `once`, every other error is reported and the next session waited for.
    with pytest.raises(PeerIdentityError):
        provide(files.data_owner, report=lambda _: None)
