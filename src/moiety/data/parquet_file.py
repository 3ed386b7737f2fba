"""Parquet files that count as one table, read one column at a time.

A row batch over all columns would hold a page and a dictionary of every column at once: a gigabyte for 300
columns, three where the file is one row group. A column at a time needs a few times that column. Imported
by table.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
from pyarrow import parquet

from moiety.config.source import Source
from moiety.data.columns import choose_columns, decoded_type, is_text_type, require_supported
from moiety.errors import ConfigError, DataError

_OPEN_FILES: Final = 64  # of a folder; opening one of many columns takes longer than reading a column
_BUFFER_BYTES: Final = 2**16  # read ahead within a column; without it all of a column's pages are loaded


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One file.

    Args:
        file: its path, or an open file.
        metadata: its footer, read once.
        stamp: what changes with its content; empty for an open file.
        opened: for reading; None where files before it are open already, and it is opened for each column.
    """

    file: Any
    metadata: Any
    stamp: tuple[int, ...]
    opened: Any = field(repr=False)


class ParquetColumns:
    """The columns wanted of some Parquet files, one below the other.

    Args:
        source: the file, folder or query, for messages.
        parts: the files, in the order of their rows.
        wanted: the columns; None means all.

    Raises:
        DataError: a column is not there, is named twice or holds neither numbers nor text, or the files
            differ in their columns.
    """

    def __init__(self, source: Source, parts: Sequence[Any], *, wanted: Sequence[str] | None) -> None:
        self._source = source
        self._parts: list[_Part] = []
        self._schema: list[tuple[str, Any]] = []  # of the first file
        for file in parts:
            self._add(file)
        self.names = choose_columns([name for name, _ in self._schema], wanted, source)
        self.rows = sum(part.metadata.num_rows for part in self._parts)
        self._types = dict(self._schema)
        for name in self.names:
            require_supported(name, self._types[name], source)

    @classmethod
    def of_folder(cls, folder: Path, *, wanted: Sequence[str] | None) -> Self:
        """Take all Parquet files of a folder, in the order of their names.

        Raises:
            DataError: there are none; and as the constructor.
        """
        # Names like _metadata and .part.crc are what other systems write beside their files.
        paths = sorted(path for path in folder.glob("*.parquet") if path.name[0] not in "._")
        if not paths:
            deeper = next(folder.glob("*/**/*.parquet"), None) is not None
            raise DataError(
                f"{folder.name} is a folder without Parquet files",
                hint="name one of its subfolders: files in them are not read"
                if deeper
                else "name a file, or a folder of files that end in .parquet",
            )
        return cls(folder, paths, wanted=wanted)

    def read(self, name: str) -> Any:
        """Read a column of `names` as a chunked Arrow array, dictionary codes replaced by their values.

        Raises:
            DataError: a file is another one by now.
        """
        kind = self._types[name]
        columns = [self._read_part(part, name).cast(kind) for part in self._parts]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=kind)

    def _add(self, file: Any) -> None:
        with self._reading(file):
            stamp = _stamp(file)
            opened = parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES)
            found = [(field.name, decoded_type(field.type)) for field in opened.schema_arrow]
            part = _Part(file=file, metadata=opened.metadata, stamp=stamp, opened=opened)
            if len(self._parts) >= _OPEN_FILES:
                opened.close()
                part = replace(part, opened=None)
        if not self._parts:
            self._schema = found
        elif sorted(found, key=str) != sorted(self._schema, key=str):
            raise self._other_columns(file, dict(found))
        self._parts.append(part)

    def _read_part(self, part: _Part, name: str) -> Any:
        if _stamp(part.file) != part.stamp:
            raise DataError(
                f"{_name(part.file)} has changed since it was opened",
                hint="start again: the table has to stay as it is while it is in use",
            )
        with self._reading(part.file), _opened(part) as opened:
            return opened.read(columns=[name]).column(name)

    @contextmanager
    def _reading(self, file: Any) -> Iterator[None]:
        """Name the file of a folder that cannot be read; the only file of a table is named by the caller."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            if not isinstance(file, Path) or file == self._source:
                raise
            if isinstance(error, PermissionError):
                raise ConfigError(
                    f"{file.name} in {self._source.name} may not be read",
                    hint="give this user the right to read all files of the folder",
                ) from error
            # Without its cause: pyarrow's messages quote values of the table.
            raise DataError(
                f"{file.name} in {self._source.name} cannot be read as parquet",
                hint="write it again, or take it out of the folder: it is damaged or only partly written",
            ) from None

    def _other_columns(self, file: Any, found: dict[str, Any]) -> DataError:
        """Say how a file differs from the first."""
        how = next(_differences(found, dict(self._schema), first=_name(self._parts[0].file)))
        return DataError(
            f"{_name(file)} {how}", hint="give all files of the folder the same columns, of the same types"
        )


def _opened(part: _Part) -> Any:
    """Give a file as it was opened, or open it for this use only."""
    if part.opened is not None:
        return nullcontext(part.opened)
    return parquet.ParquetFile(part.file, metadata=part.metadata, buffer_size=_BUFFER_BYTES)


def _stamp(file: Any) -> tuple[int, ...]:
    if not isinstance(file, Path):
        return ()
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _name(file: Any) -> str:
    return file.name if isinstance(file, Path) else "the table"


def _differences(found: dict[str, Any], expected: dict[str, Any], *, first: str) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"lacks the column {name!r}, which {first} has"
        elif name not in expected:
            yield f"has a column {name!r}, which {first} lacks"
        elif found[name] != expected[name]:
            yield f"has {name!r} as {found[name]}, and {first} has it as {expected[name]}"
    yield f"names a column more or fewer times than {first}"


_GROUP_VALUES: Final = 2**21  # of a row group, 16 MiB as numbers


def copy_batches(
    batches: Iterable[Any], sink: Any, *, schema: Any, convert: Callable[[Any], Any] | None = None
) -> None:
    """Write batches.

    Args:
        batches: Arrow record batches of one schema.
        sink: an open binary file, empty.
        schema: of what is written.
        convert: from an Arrow table of some batches to one of that schema; None leaves it as it is.

    Raises:
        pyarrow.ArrowException, OSError: the sink cannot be written.
    """
    # A dictionary of numbers is seldom of use, and takes up to a megabyte of memory for each column.
    text = [field.name for field in schema if is_text_type(field.type)]
    with parquet.ParquetWriter(sink, schema, use_dictionary=text or False) as writer:
        for group in _groups(batches, rows=max(1, _GROUP_VALUES // len(schema))):
            writer.write_table(group if convert is None else convert(group))


def _groups(batches: Iterable[Any], *, rows: int) -> Iterator[Any]:
    """Join batches until they have so many rows: small row groups cost more than their content."""
    held: list[Any] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= rows:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)
