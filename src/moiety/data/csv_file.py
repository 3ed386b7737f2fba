"""CSV files, copied once into Parquet as a stream, so that a column can then be read alone.

Imported by table.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from moiety.data.columns import choose_columns, require_supported
from moiety.data.parquet_file import copy_batches
from moiety.errors import DataError

_BLOCK_BYTES: Final = 2**22  # of text parsed at once; the first block gives the types


# What pyarrow guesses, in the order in which it tries.
_NARROWEST_FIRST: Final = (
    pa.null(),
    pa.int64(),
    pa.bool_(),
    pa.date32(),
    pa.time32("s"),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.timestamp("ns", tz="UTC"),
    pa.float64(),
    pa.string(),
)
_HELD_BY: Final = {
    pa.null(): _NARROWEST_FIRST,
    pa.int64(): (pa.float64(),),
    pa.date32(): (pa.timestamp("s"), pa.timestamp("ns")),
    pa.timestamp("s"): (pa.timestamp("ns"),),
}


def copy_csv(source: Path, sink: Any, *, wanted: Sequence[str] | None, ids: Sequence[str] = ()) -> None:
    """Copy the columns wanted of a CSV file into a Parquet file.

    The type of a column is what all its values have in common: whole numbers, numbers, text. Ids are text.

    Args:
        source: comma-separated UTF-8 with a header line.
        sink: an open binary file, empty.
        wanted: the columns; None means all.
        ids: columns that are copied as they are written.

    Raises:
        DataError: a column is not there, is named twice or holds neither numbers nor text; or the file
            is separated by something else than commas.
        pyarrow.ArrowException, OSError, ValueError: it cannot be read, or the sink not be written.
    """
    chosen = choose_columns(_header(source), wanted, source)
    text = {name: pa.string() for name in chosen if name in ids}
    try:
        _copy(source, sink, chosen, types=text)
    except pa.ArrowInvalid:
        # pyarrow guesses types from the first block, and a later one may not fit: the types of all blocks are
        # looked at, which takes half as long as a copy, and the copy begins again.
        others = [name for name in chosen if name not in text]
        found = _common_types(source, others) if others else {}
        _copy(source, sink, chosen, types=found | text, newlines=True)


def _header(source: Path) -> list[str]:
    with csv.open_csv(source) as reader:
        names: list[str] = reader.schema.names
    if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
        raise DataError(
            f"{source.name} has a single column whose name contains a separator",
            hint="save the table with commas between the columns",
        )
    return names


def _copy(
    source: Path, sink: Any, columns: Sequence[str], *, types: Mapping[str, Any], newlines: bool = False
) -> None:
    """Copy the columns; those without a type in `types` get the one that the first block suggests."""
    sink.seek(0)
    sink.truncate()
    with csv.open_csv(
        source,
        read_options=csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=newlines),
        convert_options=csv.ConvertOptions(include_columns=list(columns), column_types=dict(types)),
    ) as reader:
        for name, kind in zip(reader.schema.names, reader.schema.types, strict=True):
            require_supported(name, kind, source)
        copy_batches(reader, sink, schema=reader.schema)


def _common_types(source: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Find the narrowest type that all values of each column have in common, as if they were one block."""
    admitted = {name: set(_NARROWEST_FIRST) for name in columns}
    with csv.open_csv(
        source,
        read_options=csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=list(columns), column_types=dict.fromkeys(columns, pa.string())
        ),
    ) as reader:
        for batch in reader:
            for name, values in _guessed(batch).items():
                admitted[name] &= _admitted(values)
    return {
        name: next(kind for kind in _NARROWEST_FIRST if kind in kinds) for name, kinds in admitted.items()
    }


def _guessed(batch: Any) -> dict[str, Any]:
    """Let pyarrow guess the types of a batch of text."""
    text = pa.BufferOutputStream()
    csv.write_csv(batch, text, csv.WriteOptions(include_header=False))
    written = text.getvalue()
    table = csv.read_csv(
        pa.BufferReader(written),
        read_options=csv.ReadOptions(column_names=batch.schema.names, block_size=written.size + 1),
        parse_options=csv.ParseOptions(newlines_in_values=True),
    )
    return {name: table.column(name) for name in table.column_names}


def _admitted(values: Any) -> set[Any]:
    """Name the types that some values can be read as: the guessed one, and those that hold it."""
    kinds = {values.type, *_HELD_BY.get(values.type, ()), pa.string()}
    if values.type == pa.int64() and not pc.any(pc.not_equal(pc.bit_wise_and(values, -2), 0)).as_py():
        kinds.add(pa.bool_())  # all are 0 or 1
    return kinds
