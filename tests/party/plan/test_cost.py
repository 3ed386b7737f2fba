"""Seconds: how they add up, what a line takes, and that the measurement does the run's own work."""

from pathlib import Path
from typing import Any

import pytest

from moiety.contract.contract import Contract
from moiety.contract.schedule import RowHandle, RowIndices, Schedule, Split
from moiety.errors import ConfigError
from moiety.party.plan import timing as calibration
from moiety.party.plan.cost import Cost, Line, forecast, parse_line
from moiety.party.plan.timing import Calibration, Work, calibrate
from tests.support.plan_cases import CASES, EPOCHS, LOOPBACK, Case, by_case, files_of, label_options, planned
from tests.support.randomness import RecordedRandomness


def fake_measure(rows: int, *, training: bool) -> Calibration:
    """Seconds that tell which sample they came from."""
    fresh = 10.0 if training else 1.0
    return Calibration(
        opening=Work(label_owner=1000.0, data_owner=2000.0),
        fresh=Work(label_owner=fresh, data_owner=rows * fresh),
        kept=Work(label_owner=fresh / 4, data_owner=0.0),
    )


def test_seconds_add_up_over_the_run(tmp_path: Path) -> None:
    case = CASES[3]
    contract = planned(files_of(tmp_path, case).label_owner, label_options(case)).contract
    made = forecast(contract, fake_measure)
    assert made.handshake.seconds(LOOPBACK) == 3000
    # Three steps of up to 143 rows, and one batch of 61 rows to validate, 122 to test.
    assert made.epoch.label_owner_seconds == 3 * 10 + 1
    assert made.epoch.data_owner_seconds == 3 * 10 * 143 + 61
    assert made.later_epoch.seconds(LOOPBACK) == (3 * 10 + 1) / 4
    assert made.test.seconds(LOOPBACK) == 1 + 122
    assert made.finish.seconds(LOOPBACK) == 0
    expected = 3000 + (31 + 4290 + 61) + (EPOCHS - 1) * 31 / 4 + 123
    assert made.run.seconds(LOOPBACK) == pytest.approx(expected)


def test_transfer_takes_bytes_and_round_trips() -> None:
    cost = Cost(label_owner_bytes=1_000_000, data_owner_bytes=250_000, round_trips=3)
    line = parse_line("10 Mbit/s", "50 ms")
    assert cost.transfer_seconds(line) == pytest.approx(1.0 + 0.15)
    timed = cost + Cost(label_owner_seconds=2.0, data_owner_seconds=4.0)
    assert timed.seconds(line) == pytest.approx(7.15)
    assert timed.seconds(LOOPBACK) == 6.0


@pytest.mark.parametrize(
    ("bandwidth", "bytes_per_second"),
    [("100 Mbit/s", 12.5e6), ("1.5GB/s", 1.5e9), ("64 kbit/s", 8e3), ("800 bit/s", 100.0), ("9 B/s", 9.0)],
)
def test_bandwidth_is_read_with_its_unit(bandwidth: str, bytes_per_second: float) -> None:
    assert parse_line(bandwidth, None) == Line(bytes_per_second=bytes_per_second)


@pytest.mark.parametrize(("latency", "seconds"), [("50 ms", 0.05), ("2s", 2.0), ("0.5 us", 5e-7)])
def test_latency_is_read_with_its_unit(latency: str, seconds: float) -> None:
    assert parse_line(None, latency).round_trip_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("bandwidth", "latency", "option"),
    [
        ("fast", None, "--bandwidth"),
        ("100", None, "--bandwidth"),
        ("0 Mbit/s", None, "--bandwidth"),
        ("-1 Mbit/s", None, "--bandwidth"),
        (None, "50", "--latency"),
        (None, "-5 ms", "--latency"),
    ],
)
def test_a_line_without_number_and_unit_is_refused(
    bandwidth: str | None, latency: str | None, option: str
) -> None:
    with pytest.raises(ConfigError, match=option) as caught:
        parse_line(bandwidth, latency)
    assert "a number and a unit" in caught.value.hint


class Ticks:
    """A clock that moves by a fixed amount each time it is read."""

    def __init__(self, tick: float) -> None:
        self.tick, self.now = tick, 0.0

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now


@by_case
def test_calibration_runs_each_protocol(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = planned(files_of(tmp_path, case).label_owner, label_options(case)).contract
    monkeypatch.setattr(calibration, "time", Ticks(1.0))
    source = RecordedRandomness(b"calibration")
    samples = {
        training: calibrate(contract, 61, training=training, randomness=source, threads=1)
        for training in (True, False)
    }
    # The clock counts the pieces of work: what is kept is neither computed, nor sent, nor taken.
    for training, sample in samples.items():
        kept = case.protocol != "acml" or contract.reuses_activations
        assert (_total(sample.kept) < _total(sample.fresh)) == kept, training
    assert _total(samples[True].fresh) > _total(samples[False].fresh)
    assert min(samples[True].opening.label_owner, samples[True].opening.data_owner) > 0


def _total(work: Work) -> float:
    return work.label_owner + work.data_owner


def test_calibration_has_the_batch_and_the_parameters_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Contract] = []
    pair = calibration._Pair

    def watched(contract: Contract, **arguments: Any) -> Any:
        seen.append(contract)
        return pair(contract, **arguments)

    monkeypatch.setattr(calibration, "_Pair", watched)
    monkeypatch.setattr(calibration, "time", Ticks(0.0))
    contract = planned(files_of(tmp_path, CASES[0]).label_owner, label_options(CASES[0])).contract
    for rows in (143, 1, 150):
        seen.clear()
        calibrate(contract, rows, training=True, randomness=RecordedRandomness(b"sized"), threads=1)
        assert [each.parameters for each in seen] == [contract.parameters] * calibration.REPETITIONS
        assert [[h.rows for h in each.schedule.batches(Split.TRAIN, epoch=1)] for each in seen] == [
            [rows]
        ] * calibration.REPETITIONS


def test_calibration_counts_the_ordering_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = planned(files_of(tmp_path, CASES[0]).label_owner, label_options(CASES[0])).contract
    clock = Ticks(0.0)
    order = Schedule.rows_of

    def slow(schedule: Schedule, handle: RowHandle) -> RowIndices:
        clock.now += 100.0 if schedule.rows == 610 else 0.0
        return order(schedule, handle)

    monkeypatch.setattr(calibration, "time", clock)
    monkeypatch.setattr(Schedule, "rows_of", slow)
    source = RecordedRandomness(b"order")
    sample = calibrate(contract, 143, training=True, randomness=source, threads=1)
    assert sample.fresh == sample.kept == Work(label_owner=100.0, data_owner=100.0)
    # Rows that are not trained are not ordered.
    assert _total(calibrate(contract, 61, training=False, randomness=source, threads=1).fresh) == 0


def test_calibration_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "time", Ticks(calibration.BUDGET_SECONDS))
    contract = planned(files_of(tmp_path, CASES[0]).label_owner, label_options(CASES[0])).contract
    source = RecordedRandomness(b"slow")
    calibrate(contract, 10, training=False, randomness=source, threads=1)
    once = len(source.given)
    monkeypatch.setattr(calibration, "time", Ticks(0.0))
    calibrate(contract, 10, training=False, randomness=source, threads=1)
    assert len(source.given) == once * (1 + calibration.REPETITIONS)
