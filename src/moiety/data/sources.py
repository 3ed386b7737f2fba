"""Opens what a run file names as the source of a table: a file, a folder, or a query.

Whatever it is, columns of Parquet come of it. A CSV file and the result of a query are copied once into a
scratch file without a name. Imported by table.
"""

import io
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from moiety.config.source import Query, Source
from moiety.data.csv_file import copy_csv
from moiety.data.parquet_file import ParquetColumns
from moiety.data.postgresql import copy_query
from moiety.data.scratch import is_about_room, open_unnamed, unwritable
from moiety.errors import ConfigError, DataError


def open_source(
    source: Source, *, columns: Sequence[str] | None, ids: Sequence[str], scratch: Path | None
) -> ParquetColumns:
    """Open a source; its columns are read when they are asked for.

    Args:
        source: where the table comes from.
        columns: the columns wanted; None means all.
        ids: columns to copy without loss.
        scratch: the folder for a copy; None keeps it in memory.

    Raises:
        ConfigError: there is no such file, it cannot be opened or its suffix is another one; or the query
            or how to reach its database is wrong.
        DataError: the file is damaged, a wanted column is not there or cannot be used, or the database does
            not answer.
        CheckpointError: the copy cannot be written.
    """
    if isinstance(source, Query):
        return _copied(source, columns, scratch, copy=partial(copy_query, ids=ids))
    if source.is_dir():
        return ParquetColumns.of_folder(source, wanted=columns)
    if source.suffix.lower() not in {".csv", ".parquet"} and (source.suffix or source.exists()):
        raise ConfigError(
            f"{source.name} is neither a .csv nor a .parquet file",
            hint="save the table as CSV or Parquet, with that suffix",
        )
    if not source.exists():
        raise ConfigError(
            f"there is no file {source}",
            hint="correct source under [table]; a relative path counts from the run file's folder",
        )
    if source.suffix.lower() == ".csv":
        return _copied(source, columns, scratch, copy=partial(copy_csv, ids=ids))
    return ParquetColumns(source, [source], wanted=columns)


def _copied(
    source: Any,
    columns: Sequence[str] | None,
    scratch: Path | None,
    *,
    copy: Callable[..., None],
) -> ParquetColumns:
    file = io.BytesIO() if scratch is None else open_unnamed(scratch)
    try:
        copy(source, file, wanted=columns)
        opened = ParquetColumns(source, [file], wanted=columns)
    except BaseException as error:
        with suppress(OSError):  # it tries once more to write what there is no room for
            file.close()
        if scratch is not None and isinstance(error, OSError) and is_about_room(error):
            raise unwritable(scratch, error) from error
        raise
    weakref.finalize(opened, file.close)
    return opened


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """Turn what pyarrow raises into our errors.

    Raises:
        ConfigError: the file may not be read.
        DataError: it cannot be read as what its suffix says.
    """
    try:
        yield
    except PermissionError as error:
        raise ConfigError(
            f"{source.name} may not be read", hint="give this user the right to read the file"
        ) from error
    except (pa.ArrowException, OSError, ValueError):
        # Without its cause: pyarrow's messages quote values of the table.
        raise unreadable(source) from None


def unreadable(source: Source) -> DataError:
    """Make the error for a file that is not what its suffix says."""
    kind = "parquet" if isinstance(source, Query) else source.suffix.lower()[1:] or "parquet"
    return DataError(
        f"{source.name} cannot be read as {kind}",
        hint="check that the file is complete, in that format and, for CSV, "
        "comma-separated UTF-8 with the same number of fields in every line",
    )
