"""What a training gave, what it cost and what it released. Imported by training, the report and the demo."""

import resource
from dataclasses import dataclass, field
from math import isinf
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from moiety.contract.agreement import revealed_lines
from moiety.contract.products import REVEALS_GRADIENTS, Product, Role
from moiety.contract.schedule import Split
from moiety.crypto.parameters import session_error
from moiety.nn.stopping import Fitted
from moiety.party.label_owner.run import LabelOwnerRun

RESULT_FILE: Final = "result.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training gave, what it cost, and what it released.

    Args:
        target_scale: what 1 of a regression's metrics is in the unit of the target; 1 for classes.
        class_counts: rows of each class in each split, in ascending order of the classes; empty for a
            regression.
        disclosed: what this run revealed beyond what every run does, in sentences.
        kept_epoch: the best epoch, from 0, whose weights were saved; None: those of the last one.
        stopped: why the training ended before the agreed epochs; None where it did not.
        label_leakage: AUC of each attack on labels from what the data owner was shown, the largest of all
            epochs; empty where it was shown no gradients.
    """

    test: dict[str, float]
    validation: list[dict[str, float]]
    seconds: float
    bytes_sent: int
    bytes_received: int
    protocol: str
    parameters: list[str]
    spare_bits: float | None
    session_error: float
    in_features: int
    out_features: int
    rows: int
    steps: int
    clipped_gradients: int
    target_scale: float
    class_counts: dict[str, list[int]]
    disclosed: list[str]
    kept_epoch: int | None
    stopped: str | None
    released_z_per_row: int
    peak_memory_bytes: int
    label_leakage: dict[str, float]
    folder: str = field(default="")


def training_rows(run: LabelOwnerRun) -> Tensor:
    """Return the row numbers of the training split."""
    return torch.from_numpy(run.schedule.split_rows(Split.TRAIN))


def least_spare(run: LabelOwnerRun, product: Product) -> float:
    """Return the fewest spare bits of a product, over every batch size of the run."""
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST) if product is Product.FORWARD else (Split.TRAIN,)
    batches = (each for split in splits for each in run.schedule.batches(split, epoch=0))
    return min(run.contract.plan(product, rows).spare_bits for rows in {each.rows for each in batches})


def opened_values(run: LabelOwnerRun, product: Product) -> int:
    """Count the values of a product whose shares were formed: of z in every pass, of W, of da."""
    contract = run.contract
    rows, epochs = run.schedule.split_rows, contract.label_owner.epochs
    trained = epochs * len(rows(Split.TRAIN))
    passes = trained + epochs * len(rows(Split.VALIDATION)) + len(rows(Split.TEST))
    return {
        Product.FORWARD: contract.out_features * passes,
        Product.UPDATE: contract.out_features * contract.in_features * run.updates,
        Product.INPUT_GRADIENT: contract.in_features * trained,
        Product.INITIAL: contract.in_features * contract.out_features,
        Product.CHOICE: contract.in_features * contract.out_features,
    }[product]


def result_of(
    run: LabelOwnerRun,
    *,
    test: dict[str, float],
    fitted: Fitted,
    seconds: float,
    leakage: dict[str, float],
    counts: dict[str, list[int]],
) -> Result:
    """Gather the result of a finished run."""
    contract, steps = run.contract, run.updates
    spares = {product: least_spare(run, product) for product in contract.products}
    errors = [
        session_error(opened=opened_values(run, product), spare=spare) for product, spare in spares.items()
    ]
    facts: dict[str, Any] = {
        "protocol": contract.label_owner.protocol,
        "parameters": sorted({scheme.description for scheme in contract.schemes.values()}),
        "spare_bits": None if isinf(min(spares.values())) else min(spares.values()),
        "session_error": sum(errors),
        "label_leakage": leakage,
    }
    return Result(
        test=test,
        validation=fitted.validation,
        target_scale=run.target.scale,
        class_counts=counts,
        disclosed=list(revealed_lines(contract, Role.LABEL_OWNER)),
        kept_epoch=fitted.kept_epoch,
        stopped=fitted.stopped,
        seconds=seconds,
        bytes_sent=run.session.bytes_sent,
        bytes_received=run.session.bytes_received,
        in_features=contract.in_features,
        out_features=contract.out_features,
        rows=contract.label_owner.rows,
        steps=steps,
        clipped_gradients=run.link.clipped,
        released_z_per_row=contract.out_features * len(fitted.validation),
        peak_memory_bytes=_peak_memory_bytes(),
        folder=str(run.settings.folder),
        **facts,
    )


def _peak_memory_bytes() -> int:
    """Return the largest resident set of this process.

    `ru_maxrss` begins with that of whoever started the process; the mark in /proc begins with the program.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


MEGABYTE = 1e6
_CLASSES_SHOWN = 12


def result_lines(result: Result) -> list[str]:
    """Say what came out, what it cost, and what each party learnt."""
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    sent, received = result.bytes_sent / MEGABYTE, result.bytes_received / MEGABYTE
    return [
        *_end_lines(result),
        *_class_lines(result),
        f"test: {metrics or 'no test rows'}{_in_unit(result)}",
        f"time: {result.seconds:.1f} s for {result.steps} steps",
        f"traffic: {sent:.1f} MB sent, {received:.1f} MB received",
        parameter_line(result),
        *learnt_lines(result),
        f"saved in {result.folder}",
    ]


def parameter_line(result: Result) -> str:
    """Say which encryption was used, and how far it is from an error."""
    schemes = " and ".join(result.parameters)
    if result.spare_bits is None:
        return f"encryption: {schemes}, exact"
    return (
        f"encryption: {schemes}, {result.spare_bits:.1f} spare bits, session error {result.session_error:.1e}"
    )


def learnt_lines(result: Result) -> list[str]:
    """Say what each party learnt."""
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
