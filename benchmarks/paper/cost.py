"""What a training step costs: measured on few rows, counted for more."""

from collections.abc import Mapping
from dataclasses import dataclass

Counts = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A training step that was run under encryption, per row of its batch.

    Args:
        system: who did the work.
        network: what was trained, or the shape of the product.
        key_bits: size of n.
        rows: rows measured.
        seconds_per_row: CPU time of both sides on one core, without what is made ahead of time.
        ahead_per_row: CPU time of randomisers made ahead of time; 0 where the system makes none.
        seconds_per_batch: CPU time that does not grow with the rows: it is shared by a batch.
        seconds: CPU time per row, by operation or stage.
        counts: operations per row.
        predicted_per_row: the same figure from counted operations and the time of each, measured apart; None
            where nothing was predicted.
        largest_error: against the computation in the clear, of results and gradients.
    """

    system: str
    network: str
    key_bits: int
    rows: int
    seconds_per_row: float
    ahead_per_row: float
    seconds_per_batch: float
    seconds: dict[str, float]
    counts: dict[str, float]
    predicted_per_row: float | None
    largest_error: float

    def per_row(self, *, batch: int) -> float:
        """Return the seconds of one row in a batch of this many."""
        return self.seconds_per_row + self.seconds_per_batch / batch


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A training step that was not run: counted operations times the measured time of each."""

    system: str
    network: str
    key_bits: int
    batch: int
    seconds_per_row: float
    counts: dict[str, float]


def per_row(counts: Counts, rows: int) -> dict[str, float]:
    """Share counts or seconds among rows."""
    return {name: value / rows for name, value in counts.items()}


def predicted(counts: Counts, units: Counts) -> float:
    """Return seconds: counted operations times the seconds of one, for the operations that `units` names."""
    return sum(counts.get(name, 0.0) * seconds for name, seconds in units.items())
