"""Tables: CSV and Parquet files as named columns.

Reads columns and digests ids; prepares nothing. Values never appear in its messages. Imported by
preparation, target and the loops of the parties.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet, types

from moiety.errors import ConfigError, DataError

Column = NDArray[np.float64] | NDArray[np.object_]

MAX_BLOCK_BYTES = 2**31 - 1  # the largest block of pyarrow's CSV reader
NAMES_SHOWN = 20  # columns listed in a hint


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Named columns of equal length, as read from one file.

    Args:
        source: the file it was read from.
        rows: how many rows it has, at least one.
        names: its columns, in the order asked for or in the file's.
        columns: the Arrow columns by name; never shown.
    """

    source: Path
    rows: int
    names: tuple[str, ...]
    columns: Mapping[str, Any] = field(repr=False)

    def column(self, name: str) -> Column:
        """Give one column as an array.

        Args:
            name: one of `names`.

        Returns:
            Shape (rows,): float64 for numbers and booleans, with NaN where a value is missing;
            object (str) for text, with None where a value is missing.

        Raises:
            DataError: there is no such column.
        """
        column = self._arrow(name)
        if _is_text(column.type):
            return np.array(column.to_pylist(), dtype=np.object_)
        # Not "safe", which would refuse integers above 2^53 instead of rounding them.
        numbers = pc.cast(column, pa.float64(), safe=False)
        return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)

    def id_digest(self, columns: Sequence[str]) -> bytes:
        """Digest the ids in row order, so that two parties can compare the order of their rows.

        SHA-256 over the counts of columns and rows and, by column, the lengths of the ids and the
        ids themselves as UTF-8. A whole number counts as its decimal digits, whatever type holds
        it. The names of the columns do not count, their order does.

        Args:
            columns: the id columns; none means that only the number of rows is digested.

        Returns:
            32 bytes.

        Raises:
            DataError: a column is not there, has missing values, or holds neither text nor whole
                numbers.

        Leaks:
            Whoever gets the digest can test a guess of the whole list of ids.
        """
        digest = hashlib.sha256(b"moiety ids 1")
        digest.update(np.array([len(columns), self.rows], dtype="<u8").tobytes())
        for name in columns:
            ids = [str(value).encode() for value in self._ids(name)]
            digest.update(np.array([len(value) for value in ids], dtype="<u8").tobytes())
            digest.update(b"".join(ids))
        return digest.digest()

    def _ids(self, name: str) -> list[Any]:
        """Give an id column as Python integers or strings."""
        column = self._arrow(name)
        if column.null_count:
            raise DataError(
                f"id column {name!r} of {self.source.name} is missing in {column.null_count} rows",
                hint="remove these rows, or choose an id column that is filled in every row",
            )
        if not (_is_text(column.type) or types.is_integer(column.type)):
            raise DataError(
                f"id column {name!r} of {self.source.name} has the type {column.type}",
                hint="write ids as text or as whole numbers",
            )
        ids: list[Any] = column.to_pylist()
        return ids

    def _arrow(self, name: str) -> Any:
        if name not in self.columns:
            raise missing_column(name, self.source, self.names)
        return self.columns[name]


def read_table(source: Path, *, columns: Sequence[str] | None) -> Table:
    """Read a table from a CSV or Parquet file, told apart by the suffix.

    A CSV file is comma-separated UTF-8 with a header line; the type of a column is what all its
    values have in common (whole numbers, numbers, text). Parquet columns keep their types.

    Args:
        source: the file.
        columns: the columns wanted; a name given twice counts once. None means all.

    Returns:
        The table, with the columns in the order wanted.

    Raises:
        ConfigError: there is no such file, it cannot be opened, or its suffix is another one.
        DataError: the file is damaged or empty, two columns have the same name, a wanted column is
            not there, or a wanted column holds neither numbers nor text.
    """
    reader = _reader(source)
    if not source.is_file():
        raise ConfigError(
            f"there is no file {source}",
            hint="correct source under [table]; a relative path counts from the run file's folder",
        )
    arrow = _read(reader, source, None if columns is None else tuple(dict.fromkeys(columns)))
    if arrow.num_rows == 0:
        raise DataError(f"{source.name} has no rows", hint="name a table with at least one row")
    found = {name: _decoded(arrow.column(name)) for name in arrow.column_names}
    for name, column in found.items():
        _require_supported(name, column.type, source)
    return Table(source=source, rows=arrow.num_rows, names=tuple(found), columns=found)


def missing_column(name: str, source: Path, names: Sequence[str]) -> DataError:
    """Make the error for a column that is not there, with the name that was probably meant."""
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    return DataError(
        f"{source.name} has no column {name!r}",
        hint=f"did you mean {close[0]!r}?" if close else f"it has the columns {shown}",
    )


def _reader(source: Path) -> Any:
    """Choose the reader by the suffix."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    suffix = source.suffix.lower()
    if suffix not in readers:
        raise ConfigError(
            f"{source.name} is neither a .csv nor a .parquet file",
            hint="save the table as CSV or Parquet, with that suffix",
        )
    return readers[suffix]


def _read(reader: Any, source: Path, columns: tuple[str, ...] | None) -> Any:
    """Run a reader and turn what pyarrow raises into our errors."""
    try:
        return reader(source, columns)
    except PermissionError as error:
        raise ConfigError(
            f"{source} may not be read", hint="give this user the right to read the file"
        ) from error
    except (pa.ArrowException, OSError, ValueError):
        # Without its cause: pyarrow's messages quote values of the table.
        raise DataError(
            f"{source.name} cannot be read as {source.suffix.lower()[1:]}",
            hint="check that the file is complete, in that format and, for CSV, "
            "comma-separated UTF-8 with the same number of fields in every line",
        ) from None


def _read_parquet(source: Path, columns: tuple[str, ...] | None) -> Any:
    with parquet.ParquetFile(source) as file:
        names = file.schema_arrow.names
        _require_columns(names, columns, source)
        wanted = names if columns is None else list(columns)
        return file.read(columns=wanted).select(wanted)


def _read_csv(source: Path, columns: tuple[str, ...] | None) -> Any:
    try:
        table = csv.read_csv(source)
    except pa.ArrowInvalid:
        # pyarrow guesses types from the first block, and a later one may not fit; with the file as
        # one block it guesses from all values, several times slower.
        block = csv.ReadOptions(block_size=min(source.stat().st_size + 1, MAX_BLOCK_BYTES))
        table = csv.read_csv(source, read_options=block)
    names = table.column_names
    if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
        raise DataError(
            f"{source.name} has a single column whose name contains a separator",
            hint="save the table with commas between the columns",
        )
    _require_columns(names, columns, source)
    return table.select(names if columns is None else list(columns))


def _require_columns(names: list[str], columns: tuple[str, ...] | None, source: Path) -> None:
    """Refuse duplicated names and missing columns."""
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise DataError(
            f"{source.name} has more than one column {doubles[0]!r}",
            hint="give every column a name of its own",
        )
    for name in columns or ():
        if name not in names:
            raise missing_column(name, source, names)


def _decoded(column: Any) -> Any:
    """Replace dictionary codes by the values they stand for."""
    if types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _require_supported(name: str, kind: Any, source: Path) -> None:
    """Refuse dates, bytes, lists and whatever else is neither a number nor text."""
    numeric = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    # A CSV column without any value has the type null: a number that is missing everywhere.
    if _is_text(kind) or types.is_null(kind) or any(check(kind) for check in numeric):
        return
    raise DataError(
        f"column {name!r} of {source.name} has the type {kind}, which is neither a number nor text",
        hint="convert the column to a number or to text (UTF-8), or leave it out",
    )


def _is_text(kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
