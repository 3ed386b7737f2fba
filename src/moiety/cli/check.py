"""What a check found, for people in lines and tables, and for programs in JSON values.

Imported by the command line.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moiety.contract.terms import field_label, flat
from moiety.data.profile import ColumnProfile, TableProfile
from moiety.party.disclosure import Disclosure, Finding

_HEADINGS = ("column", "used as", "type", "missing", "distinct", "prepared", "clipped", "remarks")
_NUMBERS = ("missing", "distinct", "clipped")


def print_findings(findings: Iterable[Finding], *, as_json: bool, echo: Callable[[str], object]) -> None:
    """Print findings as they come; as JSON all at once, also when one of them raises."""
    found: list[Finding] = []
    try:
        for finding in findings:
            found.append(finding)
            if not as_json:
                echo("\n".join(finding_lines(finding)))
    finally:
        if as_json:
            echo(json.dumps(finding_values(found), indent=1))


def finding_lines(finding: Finding) -> list[str]:
    """Say what was found."""
    if isinstance(finding, TableProfile):
        return _profile_lines(finding)
    if isinstance(finding, Disclosure):
        return _disclosure_lines(finding)
    return [finding]


def finding_values(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return everything that was found as JSON values."""
    values: dict[str, Any] = {"in_order": []}
    for finding in findings:
        if isinstance(finding, TableProfile):
            values["table"] = {
                "rows": finding.rows,
                "inputs": finding.inputs,
                "repeated_ids": finding.repeated_ids,
                "columns": [_column_values(column) for column in finding.columns],
            }
        elif isinstance(finding, Disclosure):
            values["peer_learns"] = {
                "peer": finding.peer,
                "stated": dict(finding.stated),
                "sent": dict(finding.sent),
                "kept": list(finding.kept),
            }
        else:
            values["in_order"].append(finding)
    return values


def _column_values(column: ColumnProfile) -> dict[str, Any]:
    prepared, problem = column.prepared, column.problem
    return {
        "name": column.name,
        "use": column.use,
        "type": column.kind,
        "missing": column.missing,
        "infinite": column.infinite,
        "distinct": column.distinct,
        "rule": prepared and prepared.rule,
        "inputs": prepared and prepared.inputs,
        "clipped": prepared and prepared.clipped,
        "remarks": list(column.remarks),
        "problem": problem and problem.message,
        "hint": problem and problem.hint,
    }


def _profile_lines(profile: TableProfile) -> list[str]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS:
        number = heading in _NUMBERS
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for column in profile.columns:
        table.add_row(*(Text(cell) for cell in _cells(column, profile.rows)))
    repeated = f"{profile.repeated_ids} rows repeat the ids of another one"
    return [
        "",
        f"the table has {profile.rows} rows:",
        *_rendered(table),
        *([repeated] if profile.repeated_ids else []),
    ]


def _cells(column: ColumnProfile, rows: int) -> list[str]:
    prepared = column.prepared
    becomes = ["", ""]
    if prepared is not None:
        several = f" x {prepared.inputs}" if prepared.inputs > 1 else ""
        becomes = [prepared.rule + several, _share(prepared.clipped)]
    remarks = list(column.remarks)
    if column.problem is not None:
        becomes[0] = "impossible"
        remarks.append(column.problem.message)
    missing = f"{column.missing} ({_share(column.missing / rows)})" if column.missing else "0"
    return [column.name, column.use, column.kind, missing, str(column.distinct), *becomes, "; ".join(remarks)]


def _share(value: float) -> str:
    """Write a share in percent: neither a few as none, nor all but a few as all."""
    if value in {0, 1}:
        return "0" if value == 0 else "100 %"
    return f"{min(max(100 * value, 0.1), 99.9):.1f} %"


def _disclosure_lines(disclosure: Disclosure) -> list[str]:
    stated = flat(disclosure.stated)
    return [
        f"what {disclosure.peer} will be told in the handshake:",
        *_pairs({field_label(name): value for name, value in stated.items()}),
        f"what {disclosure.peer} will be sent after it:",
        *_pairs(disclosure.sent),
        "what never leaves this side:",
        *(f"  {kept}" for kept in disclosure.kept),
        "",
    ]


def _pairs(pairs: Mapping[str, Any]) -> list[str]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        table.add_row(Text("  " + name), Text(shown or "none"))
    return [*_rendered(table), ""]


def _rendered(table: Table) -> list[str]:
    console = Console(
        file=StringIO(),
        width=shutil.get_terminal_size((100, 24)).columns,
        color_system=None,
        legacy_windows=False,
    )
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]
