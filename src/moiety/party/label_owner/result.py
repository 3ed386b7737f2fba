"""What a training gave, what it cost and what it released. Imported by training, and by what shows it."""

import resource
from dataclasses import dataclass, field
from math import isinf
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from moiety.contract.agreement import revealed_lines
from moiety.contract.products import Product, Role
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
