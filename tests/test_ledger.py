"""A ledger that never forgets: grows, survives, and fails closed."""

from contextlib import closing
from pathlib import Path

import pytest

from moiety.errors import CheckpointCorruptError, ConfigError
from moiety.ledger import Ledger
from moiety.policy import Totals


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
