"""The one way to print tables and lists of names with values: plain text, in columns, within the terminal.

Cells are printed as they are: nothing in them is markup, and what a terminal could obey is written as an
escape. On a terminal, cells are wrapped to its width; into a file or a pipe a row stays one line, unless
COLUMNS says how long. Imported by the modules that print.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from math import isnan
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP: Final = 2
"""Spaces between two columns, and in front of what belongs to the line above."""
_SIZES: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
_TIMES: Final = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
_UNLIMITED: Final = 100_000
_LEAST_WIDTH: Final = 20


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[str] = ()
) -> list[str]:
    """Return the lines of a table.

    Args:
        headings: of the columns; a heading may have several lines.
        rows: their cells.
        numbers: headings of the columns to align right, which are not wrapped.
    """
    right = frozenset(numbers)
    grid = _grid(show_header=True)
    for heading in headings:
        number = heading in right
        grid.add_column(Text(heading), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        grid.add_row(*map(_cell, row))
    return _lines(grid)


def pairs(content: Mapping[str, Any], *, indent: int = GAP) -> list[str]:
    """Return a line for each name with its value, below the line that says what they are of."""
    grid = _grid(show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in content.items():
        grid.add_row(_cell(" " * indent + name), _cell(said(value)))
    return _lines(grid)


def said(value: Any) -> str:
    """Write a value as a person reads it.

    >>> said(True), said(("joint", "acml")), said([]), said(None), said({"train": 420, "test": 120})
    ('yes', 'joint, acml', 'nothing', 'no limit', 'train 420, test 120')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return "no limit" if value is None else str(value) or "none"


def size(count: float) -> str:
    """Write a number of bytes.

    >>> size(1_234_567), size(92)
    ('1.2 MB', '92 B')
    """
    unit, name = next((each for each in _SIZES if count >= each[0]), _SIZES[-1])
    return f"{count / unit:.1f} {name}" if unit > 1 else f"{count:.0f} {name}"


def duration(seconds: float) -> str:
    """Write a duration; a dash where it is not known.

    >>> duration(0.0123), duration(90.0), duration(float("nan"))
    ('12.3 ms', '1.5 min', '-')
    """
    if isnan(seconds):
        return "-"
    unit, name = next((each for each in _TIMES if seconds >= each[0]), _TIMES[-1])
    return f"{seconds / unit:.1f} {name}"


def width() -> int:
    """Return how many characters a line may have."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return max(int(columns), _LEAST_WIDTH)
    try:
        return max(os.get_terminal_size(sys.stdout.fileno()).columns, _LEAST_WIDTH)
    except (OSError, ValueError, AttributeError):  # a file, a pipe, or no standard output
        return _UNLIMITED


def _grid(*, show_header: bool) -> Table:
    return Table(box=None, show_header=show_header, pad_edge=False, padding=(0, GAP, 0, 0))


def _cell(text: str) -> Text:
    """Keep a cell on one line, and from the terminal what it would obey."""
    return Text("".join(each if each.isprintable() else ascii(each)[1:-1] for each in text))


def _lines(grid: Table) -> list[str]:
    console = Console(
        file=StringIO(), width=width(), color_system=None, legacy_windows=False, highlight=False, emoji=False
    )
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]
