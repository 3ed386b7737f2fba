"""Batches as they come, written as one Parquet file: a few of them are in memory at a time.

Imported by the readers of CSV files and of queries.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from moiety.data.columns import is_text_type

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
