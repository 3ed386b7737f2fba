"""A plan for people, in lines, and for programs, in JSON values. Imported by the command line."""

from dataclasses import asdict
from math import isnan
from typing import Any, Final

from moiety.contract.products import Role
from moiety.contract.schedule import Split
from moiety.party.plan.cost import Cost, Line
from moiety.party.plan.plan import Z_LIMIT, Plan

_SIZES: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
_TIMES: Final = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
_HEADINGS: Final = (
    "",
    "label owner\nsends",
    "data owner\nsends",
    "round\ntrips",
    "label owner\ncomputes",
    "data owner\ncomputes",
    "transfer\n",
    "time\n",
)


def plan_lines(plan: Plan) -> list[str]:
    """Say what a run will cost and release."""
    return [
        *_run_lines(plan),
        *_table(plan),
        _memory_line(plan),
        _released_line(plan),
        *(f"assumed: {sentence}" for sentence in plan.assumed),
        *(f"warning: {sentence}" for sentence in plan.warnings),
    ]


def plan_values(plan: Plan) -> dict[str, Any]:
    """Return everything in a plan as JSON values; null where seconds are not forecast."""
    contract = plan.contract
    return {
        "run": contract.label_owner.run,
        "role": plan.role,
        "protocol": contract.label_owner.protocol,
        "activations": contract.data_owner.activations,
        "rows": {split.name.lower(): plan.rows_of(split) for split in Split if split is not Split.ALL},
        "in_features": contract.in_features,
        "out_features": contract.out_features,
        "batch": contract.label_owner.batch,
        "epochs": contract.label_owner.epochs,
        "steps": plan.steps,
        "parameters": plan.parameters,
        "spare_bits": {product.name.lower(): bits for product, bits in plan.spare_bits.items()},
        "bytes_per_second": None if plan.line == Line() else plan.line.bytes_per_second,
        "round_trip_seconds": plan.line.round_trip_seconds,
        "parts": {name: _cost_values(cost, plan.line) for name, cost in _parts(plan).items()},
        "memory_bytes": {role.name.lower(): size for role, size in plan.forecast.memory_bytes.items()},
        "released_z_per_row": plan.released_z_per_row,
        "released_z_per_row_before": contract.data_owner.before.released_z_per_row,
        "released_z_per_row_limit": contract.data_owner.policy.released_z_per_row,
        "largest_z": plan.largest_z,
        "largest_z_limit": Z_LIMIT,
        "assumed": list(plan.assumed),
        "warnings": list(plan.warnings),
    }


def _run_lines(plan: Plan) -> list[str]:
    contract = plan.contract
    train, validation, test = (plan.rows_of(each) for each in (Split.TRAIN, Split.VALIDATION, Split.TEST))
    largest = max(each.rows for each in contract.schedule.batches(Split.TRAIN, epoch=0))
    about = f"protocol {contract.label_owner.protocol}, {contract.data_owner.activations} activations"
    split = f"{train} to train, {validation} to validate, {test} to test"
    shape = f"{contract.in_features} in_features, {contract.out_features} out_features"
    return [
        f"run {contract.label_owner.run}: {about}, from the {plan.role.replace('-', ' ')}'s run file",
        f"rows: {split}; {shape}",
        f"steps: {plan.steps} of up to {largest} rows in {contract.label_owner.epochs} epochs"
        + (", or fewer: it may stop early" if contract.label_owner.may_stop else ""),
        _encryption_line(plan),
        "",
    ]


def _encryption_line(plan: Plan) -> str:
    known = {product: bits for product, bits in plan.spare_bits.items() if bits is not None}
    spare = ", ".join(f"{product.name.lower()} {bits:.1f}" for product, bits in known.items())
    return f"encryption: {' and '.join(plan.parameters)}; " + (f"spare bits: {spare}" if spare else "exact")


def _parts(plan: Plan) -> dict[str, Cost]:
    """Return the parts of a run; a later step and epoch only where there is one and it differs."""
    made = plan.forecast
    known = {
        "handshake": made.handshake,
        "step": made.step,
        "later_step": made.later_step,
        "epoch": made.epoch,
        "later_epoch": made.later_epoch,
        "test": made.test,
        "finish": made.finish,
        "run": made.run,
    }
    return {name: cost for name, cost in known.items() if _differs(plan, name, cost, known)}


def _differs(plan: Plan, name: str, cost: Cost, known: dict[str, Cost]) -> bool:
    if not name.startswith("later_"):
        return True
    first = known[name.removeprefix("later_")]
    same = (cost.label_owner_bytes, cost.data_owner_bytes) == (
        first.label_owner_bytes,
        first.data_owner_bytes,
    )
    return plan.contract.label_owner.epochs > 1 and not same


def _cost_values(cost: Cost, line: Line) -> dict[str, Any]:
    values = {
        **asdict(cost),
        "transfer_seconds": cost.transfer_seconds(line),
        "seconds": cost.seconds(line),
    }
    return {name: None if isnan(value) else value for name, value in values.items()}


def _table(plan: Plan) -> list[str]:
    rows = [[name.replace("_", " "), *_cells(cost, plan.line)] for name, cost in _parts(plan).items()]
    heads = [[*heading.split("\n"), ""] for heading in _HEADINGS]
    table = [[head[0] for head in heads], [head[1] for head in heads], *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS))]
    return [*(_aligned(row, widths) for row in table), ""]


def _aligned(row: list[str], widths: list[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()


def _cells(cost: Cost, line: Line) -> list[str]:
    return [
        _size(cost.label_owner_bytes),
        _size(cost.data_owner_bytes),
        str(cost.round_trips),
        _time(cost.label_owner_seconds),
        _time(cost.data_owner_seconds),
        "-" if line == Line() else _time(cost.transfer_seconds(line)),
        _time(cost.seconds(line)),
    ]


def _memory_line(plan: Plan) -> str:
    held = plan.forecast.memory_bytes
    return (
        f"memory of the encrypted layer: label owner {_size(held[Role.LABEL_OWNER])}, "
        f"data owner {_size(held[Role.DATA_OWNER])}, beside tables, networks and libraries"
    )


def _released_line(plan: Plan) -> str:
    terms = plan.contract.data_owner
    whose = "its policy" if plan.role == "data-owner" else "the usual policy"
    return (
        f"label owner learns: {plan.released_z_per_row} values of z for each training row, after "
        f"{terms.before.released_z_per_row} before; {whose} allows {terms.policy.released_z_per_row}"
    )


def _size(count: float) -> str:
    """Write a number of bytes.

    >>> _size(1_234_567), _size(92)
    ('1.2 MB', '92 B')
    """
    unit, name = next((each for each in _SIZES if count >= each[0]), _SIZES[-1])
    return f"{count / unit:.1f} {name}" if unit > 1 else f"{count:.0f} {name}"


def _time(seconds: float) -> str:
    """Write a duration; a dash where it is not known.

    >>> _time(0.0123), _time(90.0)
    ('12.3 ms', '1.5 min')
    """
    if isnan(seconds):
        return "-"
    unit, name = next((each for each in _TIMES if seconds >= each[0]), _TIMES[-1])
    return f"{seconds / unit:.1f} {name}"
