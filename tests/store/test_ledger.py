"""A ledger that never forgets: grows, survives, and fails closed."""

import os
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from moiety.config import Totals
from moiety.errors import CheckpointCorruptError, CheckpointError, ConfigError, PolicyError
from moiety.party.data_owner.release import Release
from moiety.protocol.messages import Request
from moiety.store.ledger import Entries, Ledger, read_ledger
from tests.support.pair import contract_of, data_terms, training_handles


def totals_in(path: Path) -> Totals:
    with closing(Ledger(path)) as ledger:
        return ledger.totals()


def record(path: Path, *records: Totals) -> None:
    with closing(Ledger(path)) as ledger:
        for totals in records:
            ledger.record(totals)
            assert path.read_text().endswith("\n")  # on record before `record` returns


def test_ledger_grows_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "ledger.jsonl"
    assert totals_in(path) == Totals()
    for released in (32, 64, 96):
        totals = Totals(released_z_per_row=released, predictions=released // 32)
        record(path, totals)
        assert totals_in(path) == totals
    assert len(path.read_text().splitlines()) == 3


def test_ledger_writes_nothing_where_nothing_grew(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    totals = Totals(released_z_per_row=32)
    record(path, totals, totals)
    record(path, totals)
    assert len(path.read_text().splitlines()) == 1


def test_ledger_never_falls_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    record(
        path,
        Totals(released_z_per_row=64, predictions=1),
        Totals(released_z_per_row=32, predictions=5),
    )
    assert totals_in(path) == Totals(released_z_per_row=64, predictions=5)


def test_ledger_is_on_disk_before_record_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.jsonl"
    synced: list[int] = []
    with closing(Ledger(path)) as ledger:
        monkeypatch.setattr("os.fsync", lambda _: synced.append(path.stat().st_size))
        ledger.record(Totals(released_z_per_row=32))
    assert synced == [path.stat().st_size]
    assert synced[0] > 0


def test_ledger_is_open_in_one_place_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with closing(Ledger(path)), pytest.raises(ConfigError, match="another process") as caught:
        Ledger(path)
    assert caught.value.hint
    assert totals_in(path) == Totals()


GOOD = '{"released_z_per_row": 64, "predictions": 1}\n'


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "\n",
        "null\n",
        "[64, 1]\n",
        '{"released_z_per_row": "64", "predictions": 1}\n',
        '{"released_z_per_row": NaN, "predictions": 1}\n',
        '{"released_z_per_row": 1.5, "predictions": 1}\n',
        '{"released_z_per_row": true, "predictions": 1}\n',
        '{"released_z_per_row": -1, "predictions": 1}\n',
        '{"released_z_per_row": 64, "predictions": 1, "more": 1}\n',
        '{"released_z_per_row": 64, "predictions": 1}',
        GOOD[:-3],
        "\x00\x00\x00\n",
        '{"steps": -1}\n',
        '{"runs": 1.0}\n',
        '{"at": 1, "steps": 1}\n',
        '{"run": "\\u001b[2J", "steps": 1}\n',
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_ledger_with_a_damaged_line_fails_closed(tmp_path: Path, line: str, *, last: bool) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(GOOD + line if last else line + GOOD)
    for _ in range(2):  # the lock of a ledger that was refused is given back
        with pytest.raises(CheckpointCorruptError, match="damaged line") as caught:
            Ledger(path)
    assert caught.value.hint


def test_ledger_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"\xff\xfe" + GOOD.encode())
    with pytest.raises(CheckpointCorruptError):
        Ledger(path)


def test_ledger_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorruptError, match="cannot be opened") as caught:
        Ledger(tmp_path)
    assert caught.value.hint


# --- what stands in a record, and reading without the lock ---


def test_ledger_reads_records_of_earlier_versions(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(GOOD)
    assert totals_in(path) == Totals(released_z_per_row=64, predictions=1)
    record(path, Totals(released_z_per_row=64, predictions=1, steps=3, runs=1))
    assert totals_in(path) == Totals(released_z_per_row=64, predictions=1, steps=3, runs=1)


def test_ledger_says_when_and_for_which_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with closing(Ledger(path)) as ledger:
        ledger.record(Totals(steps=64, runs=1), run="credit-2026")
    entries = read_ledger(path)
    assert (entries.totals, entries.lines, entries.run) == (Totals(steps=64, runs=1), 1, "credit-2026")
    assert datetime.fromisoformat(entries.at).tzinfo is not None


def test_ledger_is_read_while_another_process_counts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with closing(Ledger(path)) as ledger:
        ledger.record(Totals(steps=1))
        assert read_ledger(path).totals == Totals(steps=1)
        ledger.record(Totals(steps=2))
    assert read_ledger(path).totals == Totals(steps=2)


def test_reader_of_no_ledger_makes_none(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "ledger" / "a.jsonl") == Entries(totals=Totals(), lines=0)
    assert not (tmp_path / "ledger").exists()


def test_reader_looks_again_at_a_line_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(GOOD)
    versions = [GOOD.encode() + b'{"rel', GOOD.encode() + GOOD.encode()]
    monkeypatch.setattr(
        "moiety.store.ledger.read", lambda _: versions[0] if len(versions) == 1 else versions.pop(0)
    )
    assert read_ledger(path).lines == 2


def test_reader_of_a_damaged_ledger_fails_closed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(GOOD[:-3])
    with pytest.raises(CheckpointCorruptError, match="damaged line"):
        read_ledger(path)


def test_ledger_on_a_full_disk_refuses_and_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    record(path, Totals(steps=1))
    before = path.read_bytes()
    with closing(Ledger(path)) as ledger:
        whole = os.write
        monkeypatch.setattr("os.write", lambda file, data: whole(file, data[:9]))
        with pytest.raises(CheckpointError, match="the disk is full") as caught:
            ledger.record(Totals(steps=2))
        monkeypatch.undo()
        assert caught.value.hint
        assert path.read_bytes() == before
        ledger.record(Totals(steps=2))
    assert totals_in(path) == Totals(steps=2)


def test_ledger_that_cannot_be_flushed_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(CheckpointError, match="Input/output error"):
            ledger.record(Totals(steps=1))


def test_release_is_recorded_before_it_is_answered(tmp_path: Path) -> None:
    contract = contract_of(data=data_terms(policy={"steps": 3, "released_z_per_row": 10**6}))
    path = tmp_path / "ledger.jsonl"
    request = Request(handle=training_handles(contract)[0], training=True, updates=0)
    with closing(Ledger(path)) as ledger:
        release = Release(contract, ledger)
        for _ in range(3):
            release(request, np.arange(4))
            assert read_ledger(path).totals == release.totals
        with pytest.raises(PolicyError, match="steps 3, and 4"):
            release(request, np.arange(4))
    assert read_ledger(path).run == contract.data_owner.run
