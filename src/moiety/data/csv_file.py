"""CSV files, copied once into Parquet as a stream, so that a column can then be read alone.

Imported by table.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv, parquet

from moiety.data.columns import choose_columns, require_supported
from moiety.errors import DataError

_BLOCK_BYTES: Final = 2**22  # of text parsed at once; the first block gives the types
_LARGEST_BLOCK_BYTES: Final = 2**31 - 1  # pyarrow's own limit
_GROUP_VALUES: Final = 2**21  # of a row group, 16 MiB as numbers


def copy_csv(source: Path, sink: Any, *, wanted: Sequence[str] | None) -> None:
    """Copy the columns wanted of a CSV file into a Parquet file.

    The type of a column is what all its values have in common: whole numbers, numbers, text.

    Args:
        source: comma-separated UTF-8 with a header line.
        sink: an open binary file, empty.
        wanted: the columns; None means all.

    Raises:
        DataError: a column is not there, is named twice or holds neither numbers nor text; or the file
            is separated by something else than commas.
        pyarrow.ArrowException, OSError, ValueError: it cannot be read, or the sink not be written.
    """
    chosen = choose_columns(_header(source), wanted, source)
    try:
        _copy(source, sink, chosen, types={})
    except pa.ArrowInvalid:
        # pyarrow guesses types from the first block, and a later one may not fit: everything is read as
        # text first, and the types are guessed again from all values, one column at a time.
        _copy(source, sink, chosen, types=dict.fromkeys(chosen, pa.string()))
        types = {name: _common_type(sink, name) for name in chosen}
        _copy(source, sink, chosen, types=types)


def _header(source: Path) -> list[str]:
    with csv.open_csv(source) as reader:
        names: list[str] = reader.schema.names
    if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
        raise DataError(
            f"{source.name} has a single column whose name contains a separator",
            hint="save the table with commas between the columns",
        )
    return names


def _copy(source: Path, sink: Any, columns: Sequence[str], *, types: Mapping[str, Any]) -> None:
    """Copy the columns; those without a type in `types` get the one that the first block suggests."""
    sink.seek(0)
    sink.truncate()
    with csv.open_csv(
        source,
        read_options=csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=bool(types)),
        convert_options=csv.ConvertOptions(include_columns=list(columns), column_types=dict(types)),
    ) as reader:
        for name, kind in zip(reader.schema.names, reader.schema.types, strict=True):
            require_supported(name, kind, source)
        with parquet.ParquetWriter(sink, reader.schema) as writer:
            for group in _groups(reader, rows=max(1, _GROUP_VALUES // len(columns))):
                writer.write_table(group)


def _groups(reader: Any, *, rows: int) -> Iterator[Any]:
    """Join batches until they have so many rows: small row groups cost more than their content."""
    batches: list[Any] = []
    for batch in reader:
        batches.append(batch)
        if sum(each.num_rows for each in batches) >= rows:
            yield pa.Table.from_batches(batches)
            batches = []
    if batches:
        yield pa.Table.from_batches(batches)


def _common_type(sink: Any, name: str) -> Any:
    """Let pyarrow guess the type of a column, read as text so far, from all its values."""
    with parquet.ParquetFile(sink) as file:
        text = pa.BufferOutputStream()
        csv.write_csv(file.read(columns=[name]), text, csv.WriteOptions(include_header=False))
    written = text.getvalue()
    return csv.read_csv(
        pa.BufferReader(written),
        read_options=csv.ReadOptions(
            column_names=[name], block_size=min(written.size + 1, _LARGEST_BLOCK_BYTES)
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True),
    ).schema.types[0]
