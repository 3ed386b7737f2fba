"""Names and types of columns: what a table may hold, and what to say when it does not.

Imported by the readers of CSV and Parquet files and by table.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from moiety.config import DataOwnerRun, LabelOwnerRun
from moiety.config.source import Query, Source
from moiety.errors import DataError

NAMES_SHOWN = 20  # columns listed in a hint
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PER_DAY: Final = 86_400_000  # date64 counts milliseconds


def missing_column(name: str, source: Source, names: Sequence[str]) -> DataError:
    """Make the error for a column that is not there, with the name that was probably meant."""
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    return DataError(
        f"{source.name} has no column {name!r}",
        hint=f"did you mean {close[0]!r}?" if close else f"it has the columns {shown}",
    )


def choose_columns(names: Sequence[str], wanted: Sequence[str] | None, source: Source) -> tuple[str, ...]:
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


def require_supported(name: str, kind: Any, source: Source) -> None:
    """Refuse bytes, lists and whatever else is neither a number, a date, a time nor text.

    Raises:
        DataError: the column has such a type.
    """
    if not is_supported(kind):
        raise unsupported(name, str(kind), source)


def is_supported(kind: Any) -> bool:
    """Tell numbers, dates, times and text from everything else."""
    numeric = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    # A CSV column without any value has the type null: a number that is missing everywhere.
    known = (is_text_type, types.is_null, types.is_date, types.is_timestamp, types.is_time, *numeric)
    return any(check(kind) for check in known)


def unsupported(name: str, kind: str, source: Source) -> DataError:
    """Make the error for a column of a type that is not read, by the name of the type."""
    in_sql = f'write "{name}"::text or "{name}"::float8 in the query, or leave the column out'
    return DataError(
        f"column {name!r} of {source.name} has the type {kind}, which is neither a number, a date nor text",
        hint=in_sql
        if isinstance(source, Query)
        else "convert the column to a number or to text (UTF-8), or leave it out",
    )


def numbers_of(column: Any) -> Any:
    """Convert an Arrow column without text to float64, each number to the nearest one.

    Dates become days since 1970-01-01, times seconds since 1970-01-01T00:00 or since midnight.
    """
    kind = column.type
    if types.is_date32(kind):
        column = pc.cast(column, pa.int32())
    elif types.is_date64(kind) or types.is_timestamp(kind) or types.is_time(kind):
        bits = pa.int32() if types.is_time32(kind) else pa.int64()
        per_unit = _PER_DAY if types.is_date64(kind) else _PER_SECOND[kind.unit]
        return pc.divide(pc.cast(pc.cast(column, bits), pa.float64(), safe=False), float(per_unit))
    # Not "safe", which would refuse integers above 2^53 instead of rounding them.
    return pc.cast(column, pa.float64(), safe=False)


def is_text_type(kind: Any) -> bool:
    """Tell text from everything else."""
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


_Run: TypeAlias = LabelOwnerRun | DataOwnerRun


def exact_ids(settings: _Run) -> tuple[str, ...]:
    """Name the id columns of a run file that are nothing but ids.

    One that also splits the rows or is a feature is read as what it is there: as a date, or a number.
    """
    section = settings.table
    features = () if section.features == "all" else section.features
    return tuple(name for name in section.id if name not in (settings.split.by, *features))


def exact(column: Any) -> Any:
    """Give the values of an id column without loss: decimals as their digits, an empty text as missing.

    Args:
        column: a chunked Arrow array of a supported type.
    """
    if types.is_decimal(column.type):
        return pc.cast(column, pa.string())
    if is_text_type(column.type):
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    return column
