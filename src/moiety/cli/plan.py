"""A plan for people, in lines, and for programs, in JSON values. Imported by the command line."""

from dataclasses import asdict
from math import isnan
from typing import Any, Final

from moiety.cli.text import duration, size, table
from moiety.contract.products import Role
from moiety.contract.schedule import Split
from moiety.party.plan.cost import Cost, Line
from moiety.party.plan.plan import Z_LIMIT, Plan

_HEADINGS: Final = (
    "",
    "label owner\nsends",
    "data owner\nsends",
    "round\ntrips",
    "label owner\ncomputes",
    "data owner\ncomputes",
    "transfer",
    "time",
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
    return [*table(_HEADINGS, rows, numbers=_HEADINGS[1:]), ""]


def _cells(cost: Cost, line: Line) -> list[str]:
    return [
        size(cost.label_owner_bytes),
        size(cost.data_owner_bytes),
        str(cost.round_trips),
        duration(cost.label_owner_seconds),
        duration(cost.data_owner_seconds),
        "-" if line == Line() else duration(cost.transfer_seconds(line)),
        duration(cost.seconds(line)),
    ]


def _memory_line(plan: Plan) -> str:
    held = plan.forecast.memory_bytes
    return (
        f"memory of the encrypted layer: label owner {size(held[Role.LABEL_OWNER])}, "
        f"data owner {size(held[Role.DATA_OWNER])}, beside tables, networks and libraries"
    )


def _released_line(plan: Plan) -> str:
    terms = plan.contract.data_owner
    whose = "its policy" if plan.role == "data-owner" else "the usual policy"
    return (
        f"label owner learns: {plan.released_z_per_row} values of z for each training row, after "
        f"{terms.before.released_z_per_row} before; {whose} allows {terms.policy.released_z_per_row}"
    )
