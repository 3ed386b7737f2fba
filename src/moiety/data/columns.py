"""Names and types of columns: what a table may hold, and what to say when it does not.

Imported by the readers of CSV and Parquet files and by table.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pyarrow import types

from moiety.errors import DataError

NAMES_SHOWN = 20  # columns listed in a hint


def missing_column(name: str, source: Path, names: Sequence[str]) -> DataError:
    """Make the error for a column that is not there, with the name that was probably meant."""
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    return DataError(
        f"{source.name} has no column {name!r}",
        hint=f"did you mean {close[0]!r}?" if close else f"it has the columns {shown}",
    )


def choose_columns(names: Sequence[str], wanted: Sequence[str] | None, source: Path) -> tuple[str, ...]:
    """Return the columns wanted, each once; None means all.

    Raises:
        DataError: two columns have the same name, or a wanted one is not there.
    """
    doubles = (
        sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    )
    if doubles:
        raise DataError(
            f"{source.name} has more than one column {doubles[0]!r}",
            hint="give every column a name of its own",
        )
    if wanted is None:
        return tuple(names)
    for name in wanted:
        if name not in names:
            raise missing_column(name, source, names)
    return tuple(dict.fromkeys(wanted))


def decoded_type(kind: Any) -> Any:
    """Return the type of the values that dictionary codes stand for."""
    return kind.value_type if types.is_dictionary(kind) else kind


def require_supported(name: str, kind: Any, source: Path) -> None:
    """Refuse dates, bytes, lists and whatever else is neither a number nor text.

    Raises:
        DataError: the column has such a type.
    """
    numeric = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    # A CSV column without any value has the type null: a number that is missing everywhere.
    if is_text_type(kind) or types.is_null(kind) or any(check(kind) for check in numeric):
        return
    raise DataError(
        f"column {name!r} of {source.name} has the type {kind}, which is neither a number nor text",
        hint="convert the column to a number or to text (UTF-8), or leave it out",
    )


def is_text_type(kind: Any) -> bool:
    """Tell text from everything else."""
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
