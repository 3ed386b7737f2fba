"""Tables: files, folders and queries as named columns, read one column at a time.

Reads columns and digests ids; prepares nothing. A table may be larger than memory, a column may not.
Values never appear in its messages. Imported by preparation, target and the loops of the parties.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from moiety.config.source import Query, Source
from moiety.data.columns import exact, is_text_type, missing_column, numbers_of
from moiety.data.sources import open_source, readable
from moiety.errors import DataError

Column = NDArray[np.float64] | NDArray[np.object_]

_IDS_AT_ONCE: Final = 2**16  # ids as Python objects
_NO_ROWS: Final = {
    True: "relax the query's conditions, or ask the database that has the rows",
    False: "name a table with at least one row",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Named columns of equal length.

    Args:
        source: the file or folder they are read from, or the query.
        rows: how many rows it has, at least one.
        names: its columns, in the order asked for or in the file's.
        read: gives one of them as a chunked Arrow array, read anew at each call.
    """

    source: Source
    rows: int
    names: tuple[str, ...]
    read: Callable[[str], Any] = field(repr=False)

    def column(self, name: str) -> Column:
        """Give one column as an array.

        Args:
            name: one of `names`.

        Returns:
            Shape (rows,): float64 for numbers, booleans, dates (days since 1970-01-01) and times (seconds
            since 1970-01-01T00:00 in UTC, or since midnight), with NaN where a value is missing; object
            (str) for text, with None where a value is missing.

        Raises:
            DataError: there is no such column, or the file is damaged or another one by now.
        """
        column = self.arrow(name)
        if is_text_type(column.type):
            return np.array(column.to_pylist(), dtype=np.object_)
        return np.array(numbers_of(column).to_numpy(zero_copy_only=False), dtype=np.float64)

    def first(self, rows: int) -> "Table":
        """Return a table of the first rows."""
        kept = min(rows, self.rows)
        return replace(self, rows=kept, read=lambda name: self.read(name).slice(0, kept))

    def take(self, rows: NDArray[np.int64]) -> "Table":
        """Return a table of these rows in this order; a column is still read when it is asked for.

        Args:
            rows: row numbers, at least one; they may repeat.

        Raises:
            DataError: there are none, or one is no row of this table.
        """
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= self.rows:
            raise DataError(
                f"rows were asked for that are not among the {self.rows} of {self.source.name}",
                hint="start again: the table has to stay as it is while it is in use",
            )
        return replace(self, rows=len(rows), read=lambda name: _taken(self.read(name), rows))

    def holding(self, names: Sequence[str]) -> "Table":
        """Return the table with a few columns that are read once and stay in memory."""
        held: dict[str, Any] = {}

        def read(name: str) -> Any:
            if name in names and name not in held:
                held[name] = self.read(name)
            return held[name] if name in names else self.read(name)

        return replace(self, read=read)

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
            column = self._ids(name)
            for ids in _encoded(column):
                digest.update(np.array([len(value) for value in ids], dtype="<u8").tobytes())
            for ids in _encoded(column):
                digest.update(b"".join(ids))
        return digest.digest()

    def _ids(self, name: str) -> Any:
        """Give an id column as an Arrow array of integers or strings."""
        column = self.arrow(name)
        if column.null_count:
            raise DataError(
                f"id column {name!r} of {self.source.name} is missing in {column.null_count} rows",
                hint="remove these rows, or choose an id column that is filled in every row",
            )
        if not (is_text_type(column.type) or types.is_integer(column.type)):
            raise DataError(
                f"id column {name!r} of {self.source.name} has the type {column.type}",
                hint="write ids as text or as whole numbers",
            )
        return column

    def arrow(self, name: str) -> Any:
        """Give one column as a chunked Arrow array, read anew.

        Raises:
            DataError: there is no such column, or the file is damaged or another one by now.
        """
        if name not in self.names:
            raise missing_column(name, self.source, self.names)
        return self.read(name)


def read_table(
    source: Source,
    *,
    columns: Sequence[str] | None,
    ids: Sequence[str] = (),
    scratch: Path | None = None,
) -> Table:
    """Open a table: a CSV or Parquet file, told apart by the suffix, a folder of Parquet files, or a query.

    A CSV file is comma-separated UTF-8 with a header line; the type of a column is what all its
    values have in common (whole numbers, numbers, text). It is copied once, as Parquet. Parquet
    columns keep their types, and are read when they are asked for; the files of a folder are taken
    in the order of their names, and have the same columns. A query is asked once, and what it gives is
    copied like a CSV file: the table stays what it was then, until it is opened again.

    Id columns keep what is written: those of a CSV file are text, character by character, and no text at all
    is a missing id; decimals of Parquet and PostgreSQL become text with all their digits.

    Args:
        source: the file or folder, or the query.
        columns: the columns wanted; a name given twice counts once. None means all.
        ids: those of them that are nothing but ids.
        scratch: the folder for the copy of a CSV file or a query, which has no name there and goes with the
            table; None keeps it in memory.

    Returns:
        The table, with the columns in the order wanted.

    Raises:
        ConfigError: there is no such file, it cannot be opened, or its suffix is another one; the query is
            wrong, or the database refuses it.
        DataError: the table is damaged or empty, two columns have the same name, a wanted column is
            not there, or holds neither numbers, dates nor text; the database does not answer.
        CheckpointError: the copy cannot be written.
    """
    with readable(source):
        found = open_source(source, columns=columns, ids=ids, scratch=scratch)
    if found.rows == 0:
        raise DataError(f"{source.name} has no rows", hint=_NO_ROWS[isinstance(source, Query)])

    def read(name: str) -> Any:
        with readable(source):
            column = found.read(name)
            return exact(column) if name in ids else column

    return Table(source=source, rows=found.rows, names=found.names, read=read)


def _taken(column: Any, rows: NDArray[np.int64]) -> Any:
    """Give these rows of a column."""
    if types.is_string(column.type):
        # Offsets of 32 bits count the text of a whole chunk, and taking makes one chunk of all.
        column = column.cast(pa.large_string())
    return pc.take(column, pa.array(rows))


def _encoded(column: Any) -> Iterator[list[bytes]]:
    """Give the ids as UTF-8, some at a time."""
    for start in range(0, len(column), _IDS_AT_ONCE):
        yield [str(value).encode() for value in column.slice(start, _IDS_AT_ONCE).to_pylist()]
