"""What a run costs, part by part: bytes from `traffic`, seconds from `calibration` and a given line.

An epoch is the training steps and the validation pass after them. What the evaluator keeps makes later epochs
cheaper than the first. Seconds add up one after the other, as the parties wait for
each other; what they compute while blocks are on their way is not taken off. Imported by `plan`.
"""

import re
from collections import Counter
from dataclasses import dataclass
from math import inf, nan
from typing import Final, Protocol

from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.schedule import Split
from moiety.crypto.sampling import Randomness
from moiety.errors import ConfigError
from moiety.party.plan.timing import Calibration, Work, calibrate
from moiety.party.plan.traffic import (
    NOTHING,
    Course,
    Held,
    Message,
    exchange,
    finish,
    going_back,
    memory,
    opening,
    reusable,
    round_trips,
    sent_by,
)

_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)(bit|B)/s")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)")
_FACTORS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_UNKNOWN: Final = Work(label_owner=nan, data_owner=nan)
_NO_WORK: Final = Work(label_owner=0.0, data_owner=0.0)
_SPLITS: Final = (Split.TRAIN, Split.VALIDATION, Split.TEST)


class Measure(Protocol):
    """Tells what a batch of so many rows takes, with an update or forward only."""

    def __call__(self, rows: int, *, training: bool) -> Calibration:
        """Return the seconds of both parties."""
        ...


@dataclass(frozen=True, kw_only=True)
class Line:
    """The connection between the parties.

    Args:
        bytes_per_second: in each direction.
        round_trip_seconds: as `ping` shows it.
    """

    bytes_per_second: float = inf
    round_trip_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a part of a run costs; seconds are not a number where they were not measured.

    Args:
        label_owner_bytes: what it sends.
        data_owner_bytes: what it sends.
        round_trips: how often the label owner waits for the data owner.
        label_owner_seconds: what it computes.
        data_owner_seconds: what it computes.
    """

    label_owner_bytes: int = 0
    data_owner_bytes: int = 0
    round_trips: int = 0
    label_owner_seconds: float = 0.0
    data_owner_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """Add part by part."""
        return Cost(
            label_owner_bytes=self.label_owner_bytes + other.label_owner_bytes,
            data_owner_bytes=self.data_owner_bytes + other.data_owner_bytes,
            round_trips=self.round_trips + other.round_trips,
            label_owner_seconds=self.label_owner_seconds + other.label_owner_seconds,
            data_owner_seconds=self.data_owner_seconds + other.data_owner_seconds,
        )

    def times(self, count: int) -> "Cost":
        """Return the cost of so many of these."""
        return Cost(
            label_owner_bytes=count * self.label_owner_bytes,
            data_owner_bytes=count * self.data_owner_bytes,
            round_trips=count * self.round_trips,
            label_owner_seconds=count * self.label_owner_seconds,
            data_owner_seconds=count * self.data_owner_seconds,
        )

    def transfer_seconds(self, line: Line) -> float:
        """Return how long the bytes and the round trips take on a line."""
        sent = self.label_owner_bytes + self.data_owner_bytes
        return sent / line.bytes_per_second + self.round_trips * line.round_trip_seconds

    def seconds(self, line: Line) -> float:
        """Return the time from beginning to end."""
        return self.label_owner_seconds + self.data_owner_seconds + self.transfer_seconds(line)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run costs, part by part, in the order in which it happens.

    Args:
        handshake: terms, keys and W_0.
        step: of the largest training batch, in the first epoch.
        later_step: the same in later epochs.
        epoch: training and validation.
        later_epoch: the same in later epochs.
        test: the forward pass over the test rows, and before it the choice of the best epoch, where that is
            kept; its bytes, and no seconds.
        finish: both sides save.
        run: all of it.
        memory_bytes: of ciphertexts and shares, held at once at most.
    """

    handshake: Cost
    step: Cost
    later_step: Cost
    epoch: Cost
    later_epoch: Cost
    test: Cost
    finish: Cost
    run: Cost
    memory_bytes: dict[Role, int]


def forecast(contract: Contract, measure: Measure | None) -> Forecast:
    """Add up what a training costs.

    Args:
        contract: what is to be agreed on.
        measure: of this machine; None leaves seconds out.

    Raises:
        ConfigError: there are no training rows.
    """
    parts = _Parts(contract, measure)
    largest = parts.largest[Split.TRAIN]
    if not largest:
        raise ConfigError("no training rows remain", hint="give --rows more, or --validation and --test less")
    handshake, end = _cost(opening(contract), parts.opening), _cost(finish(), _NO_WORK)
    first, later = parts.epoch(), parts.epoch()  # a third would be as the second
    test = parts.test()
    return Forecast(
        handshake=handshake,
        step=parts.exchange(largest, Split.TRAIN, held=NOTHING),
        later_step=parts.exchange(largest, Split.TRAIN, held=reusable(contract)),
        epoch=first,
        later_epoch=later,
        test=test,
        finish=end,
        run=handshake + first + later.times(contract.label_owner.epochs - 1) + test + end,
        memory_bytes={role: _memory(contract, role, largest) for role in Role},
    )


def measure_here(contract: Contract, *, randomness: Randomness, threads: int) -> Measure:
    """Return a measure of this machine, which runs each kind of batch once it is asked for."""

    def measure(rows: int, *, training: bool) -> Calibration:
        return calibrate(contract, rows, training=training, randomness=randomness, threads=threads)

    return measure


def parse_line(bandwidth: str | None, latency: str | None) -> Line:
    """Read a bandwidth and a round trip; what is left out costs nothing, as on loopback.

    Raises:
        ConfigError: not a positive number with one of the units.

    >>> parse_line("100 Mbit/s", "50 ms")
    Line(bytes_per_second=12500000.0, round_trip_seconds=0.05)
    """
    line = Line()
    if bandwidth is not None:
        match = _RATE.fullmatch(bandwidth.strip())
        rate = float(match[1]) * _FACTORS[match[2]] / (8 if match[3] == "bit" else 1) if match else 0.0
        if rate == 0:
            raise ConfigError("--bandwidth is not a rate", hint='write a number and a unit: "100 Mbit/s"')
        line = Line(bytes_per_second=rate)
    if latency is None:
        return line
    match = _DURATION.fullmatch(latency.strip())
    if match is None:
        raise ConfigError("--latency is not a time", hint='write a number and a unit: "50 ms"')
    seconds = float(match[1]) * _SECONDS[match[2]]
    return Line(bytes_per_second=line.bytes_per_second, round_trip_seconds=seconds)


class _Parts:
    """Adds up the exchanges of a run in their order."""

    def __init__(self, contract: Contract, measure: Measure | None) -> None:
        self._contract = contract
        self._course = Course(contract)
        sizes = {split: {rows for rows, _ in Course(contract).one_pass(split)} for split in _SPLITS}
        self.largest = {split: max(rows, default=0) for split, rows in sizes.items()}
        self._times = {split: self._measured(measure, split) for split in _SPLITS}

    def _measured(self, measure: Measure | None, split: Split) -> Calibration:
        """Measure the largest batch of a split; all are of that size up to one row."""
        if measure is None or not self.largest[split]:
            return Calibration(opening=_UNKNOWN, fresh=_UNKNOWN, kept=_UNKNOWN)
        return measure(self.largest[split], training=split is Split.TRAIN)

    @property
    def opening(self) -> Work:
        """What keys and W_0 take."""
        return self._times[Split.TRAIN].opening

    def exchange(self, rows: int, split: Split, *, held: Held) -> Cost:
        """Return the cost of one batch."""
        messages = exchange(self._contract, rows, training=split is Split.TRAIN, held=held)
        times = self._times[split]
        return _cost(messages, times.kept if held else times.fresh)

    def one_pass(self, split: Split) -> Cost:
        """Return the cost of the next pass over a split."""
        # Counted: a pass of ten thousand batches has a few kinds of them.
        kinds = Counter(self._course.one_pass(split))
        parts = (self.exchange(rows, split, held=held).times(count) for (rows, held), count in kinds.items())
        return sum(parts, Cost())

    def epoch(self) -> Cost:
        """Return the cost of the next training steps and the validation pass after them."""
        return self.one_pass(Split.TRAIN) + self.one_pass(Split.VALIDATION)

    def test(self) -> Cost:
        """Return the cost of what follows the last epoch."""
        self._course.go_back()
        return _cost(going_back(self._contract), _NO_WORK) + self.one_pass(Split.TEST)


def _cost(messages: list[Message], work: Work) -> Cost:
    return Cost(
        label_owner_bytes=sent_by(Role.LABEL_OWNER, messages),
        data_owner_bytes=sent_by(Role.DATA_OWNER, messages),
        round_trips=round_trips(messages),
        label_owner_seconds=work.label_owner,
        data_owner_seconds=work.data_owner,
    )


def _memory(contract: Contract, role: Role, rows: int) -> int:
    return memory(contract, role, exchange(contract, rows, training=True), rows=rows)
