"""A finished training for people: what came out, what it cost, what each party learnt. Imported by `cli`."""

from typing import TYPE_CHECKING, Final

from moiety.cli.text import duration, size, table
from moiety.contract.products import REVEALS_GRADIENTS
from moiety.party.label_owner.result import Result

if TYPE_CHECKING:
    from moiety.demo.demo import Demonstration

_CLASSES_SHOWN: Final = 12
_METRICS: Final = ("AUC", "KS")
_HEADINGS: Final = ("training", *(f"test {metric}" for metric in _METRICS), "seconds")


def result_lines(result: Result) -> list[str]:
    """Say what came out, what it cost, and what each party learnt."""
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    return [
        *_end_lines(result),
        *_class_lines(result),
        f"test: {metrics or 'no test rows'}{_in_unit(result)}",
        f"time: {duration(result.seconds)} for {result.steps} steps",
        f"traffic: {size(result.bytes_sent)} sent, {size(result.bytes_received)} received",
        _encryption_line(result),
        *_learnt_lines(result),
        f"saved in {result.folder}",
    ]


def demonstration_lines(shown: "Demonstration") -> list[str]:
    """Say how a demonstration's training compares with the same one in the clear, and what it cost."""
    result = shown.comparison.encrypted
    rows = [
        [name, *(f"{row.metrics[metric]:.4f}" for metric in _METRICS), f"{row.seconds:.1f}"]
        for name, row in shown.comparison.rows.items()
    ]
    memory = ", ".join(f"{name} {size(used)}" for name, used in shown.memory_bytes.items())
    return [
        "",
        f"credit card default, {result.rows:,} aligned rows:",
        "",
        *table(_HEADINGS, rows, numbers=_HEADINGS[1:]),
        "",
        f"bank sent {size(result.bytes_sent)} and received {size(result.bytes_received)}",
        f"peak memory: {memory}",
        _encryption_line(result),
        *_learnt_lines(result),
    ]


def _encryption_line(result: Result) -> str:
    """Say which encryption was used, and how far it is from an error."""
    schemes = " and ".join(result.parameters)
    if result.spare_bits is None:
        return f"encryption: {schemes}, exact"
    return (
        f"encryption: {schemes}, {result.spare_bits:.1f} spare bits, session error {result.session_error:.1e}"
    )


def _learnt_lines(result: Result) -> list[str]:
    shown = "row count, schedule, shapes, and that the run finished"
    released = f"{result.released_z_per_row} values of z for each training row"
    return [
        f"data owner learnt: {shown}; " + _label_line(result),
        *(f"agreed on beyond that: {each}" for each in result.disclosed if each != REVEALS_GRADIENTS),
        f"label owner learnt: {released}; from rows it knows it can estimate the features of the others",
    ]


def _in_unit(result: Result) -> str:
    """Say what a regression's error is in the unit of the target: metrics are of standardised values."""
    if "RMSE" not in result.test:
        return ""
    return f", {result.test['RMSE'] * result.target_scale:.4g} in the target's own unit"


def _end_lines(result: Result) -> list[str]:
    """Say why the training ended early, and which epoch's weights were kept."""
    epochs = len(result.validation)
    stopped = [] if result.stopped is None else [f"stopped after epoch {epochs}: {result.stopped}"]
    if result.kept_epoch is None:
        return stopped
    return [*stopped, f"kept: the weights of epoch {result.kept_epoch + 1}, the best of {epochs}"]


def _class_lines(result: Result) -> list[str]:
    if not result.class_counts:
        return []
    shown = ", ".join(f"{split} {_joined(counts)}" for split, counts in result.class_counts.items())
    return [f"rows of each class, known to this side only: {shown}"]


def _joined(counts: list[int]) -> str:
    shown = [str(count) for count in counts[:_CLASSES_SHOWN]]
    return " + ".join(shown if len(counts) <= _CLASSES_SHOWN else [*shown, "..."])


def _label_line(result: Result) -> str:
    if not result.label_leakage:
        return "no label"
    reached = ", ".join(f"{attack} {value:.3f}" for attack, value in result.label_leakage.items())
    return (
        "one gradient for each training row, from which it can tell the labels: AUC of three attacks on "
        f"this run, where 0.5 is guessing: {reached}"
    )
