"""The result of a query to PostgreSQL, copied once into Parquet as a stream.

How to reach the database is in the environment only: libpq's own variables, or one URI. Nothing of it, and
nothing of what the server says, is repeated in an error, because servers quote values. Imported by sources.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from moiety.config.source import Query
from moiety.data.columns import choose_columns, is_supported, unsupported
from moiety.data.parquet_file import copy_batches
from moiety.data.postgresql_errors import (
    URI_VARIABLE,
    broke_off,
    changes_nothing,
    connection_refused,
    query_refused,
)
from moiety.errors import ConfigError

_CONNECT_SECONDS: Final = 10  # libpq itself waits for minutes
_BATCH_BYTES: Final = 2**22
_LARGEST_INT64_DIGITS: Final = 18
_EARLIEST_DAY: Final = -2_440_588  # 4713 BC, PostgreSQL's first; its infinite dates come as smaller numbers
_EARLIEST_MICROSECOND: Final = _EARLIEST_DAY * 86_400 * 10**6

_Conversion: TypeAlias = Callable[[Any], Any]


def copy_query(query: Query, sink: Any, *, wanted: Sequence[str] | None, ids: Sequence[str] = ()) -> None:
    """Copy the columns wanted of a query's result into a Parquet file, in one read-only snapshot.

    NUMERIC(p, 0) of up to 18 digits becomes whole numbers, exactly; any other NUMERIC the nearest float64. An
    id that is NUMERIC becomes the text that the server writes. CHAR(n) loses the blanks it is padded with.
    Infinite dates and times, and those beyond the year 290,000, count as missing.

    Args:
        query: what to ask for.
        sink: an open binary file, empty.
        wanted: the columns; None means all.
        ids: columns that are copied without loss.

    Raises:
        ConfigError: the extra is not installed, the database refuses this user, or the query is wrong.
        DataError: the database does not answer or stops answering, a column is not there, is named twice or
            cannot be used.
        OSError: the sink cannot be written.
    """
    with _Database() as database:
        fields, batches = database.ask(query.postgresql.strip("; \t\r\n"))
        chosen = choose_columns([field.name for field in fields], wanted, query)
        by_name = {field.name: field for field in fields}
        converted = {name: _conversion(by_name[name], query, exact=name in ids) for name in chosen}
        schema = pa.schema([(name, kind) for name, (kind, _) in converted.items()])

        def convert(group: Any) -> Any:
            arrays = [convert_one(group.column(name)) for name, (_, convert_one) in converted.items()]
            return pa.Table.from_arrays(arrays, schema=schema)

        copy_batches(batches, sink, schema=schema, convert=convert)


class _Database:
    """A connection in a transaction that cannot write; a context manager.

    All calls are made in a thread, so that Ctrl-C ends a query that takes long: the driver would come back
    from the main thread with an error of its own.
    """

    def __init__(self) -> None:
        self._driver = _driver()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._thread = opening.enter_context(ThreadPoolExecutor(max_workers=1))
            try:
                connection = self._thread.submit(self._driver.connect, _uri()).result()
            except self._driver.Error as error:
                raise connection_refused(str(error)) from None
            opening.enter_context(connection)
            options = {"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)}
            self._cursor = opening.enter_context(connection.cursor(adbc_stmt_kwargs=options))
            self._call(self._cursor.execute, "SET TRANSACTION READ ONLY")
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def ask(self, text: str) -> tuple[list[Any], Iterator[Any]]:
        """Give the columns of a query's result, and its batches as they come."""
        try:
            fields = list(self._call(self._cursor.adbc_execute_schema, text))
        except self._driver.Error as error:
            raise query_refused(error, text=text) from None
        try:
            self._call(self._cursor.execute, text)
        except self._driver.Error as error:
            # Without the place: it counts in what the driver makes of the query.
            raise query_refused(error, text="") from None
        if not fields:
            raise changes_nothing()
        return fields, self._batches()

    def _batches(self) -> Iterator[Any]:
        reader = iter(self._cursor.fetch_record_batch())
        while True:
            try:
                batch = self._call(next, reader, None)
            except (pa.ArrowException, OSError):
                raise broke_off() from None
            if batch is None:
                return
            yield batch

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        called = self._thread.submit(function, *arguments)
        try:
            return called.result()
        except BaseException as error:
            if not isinstance(error, Exception):  # of this thread: the call continues
                self._cursor.adbc_cancel()
            raise


def _driver() -> Any:
    try:
        from adbc_driver_postgresql import dbapi  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ConfigError(
            "the driver for PostgreSQL is not installed",
            hint='install it with pip install "moiety[postgresql]"',
        ) from error
    return dbapi


def _uri() -> str:
    """Return the URI of the environment, or one that leaves everything to libpq's variables."""
    uri = os.environ.get(URI_VARIABLE) or "postgresql://"
    patient = "PGCONNECT_TIMEOUT" in os.environ or "connect_timeout" in uri
    if patient or not uri.startswith(("postgresql://", "postgres://")):
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}connect_timeout={_CONNECT_SECONDS}"


def _conversion(field: Any, query: Query, *, exact: bool) -> tuple[Any, _Conversion]:
    """Say what a column is written as, and how to get there."""
    kind, named = field.type, _type_name(field)
    if named == "numeric":
        return (pa.string(), _text) if exact else _number_conversion(field)
    if named in {"money", "oid"} or not is_supported(kind):
        raise unsupported(field.name, named, query)
    if named == "bpchar":
        return kind, lambda column: pc.utf8_rtrim(column, " ")
    if types.is_date32(kind):
        return kind, lambda column: _without_infinite(column, pa.int32(), _EARLIEST_DAY)
    if types.is_timestamp(kind):
        return kind, lambda column: _without_infinite(column, pa.int64(), _EARLIEST_MICROSECOND)
    return kind, lambda column: column


def _type_name(field: Any) -> str:
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b"").decode() or field.type)


def _number_conversion(field: Any) -> tuple[Any, _Conversion]:
    """Convert NUMERIC, which comes as text."""
    modifier = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1"))
    digits, scale = ((modifier - 4) >> 16) & 0xFFFF, (modifier - 4) & 0x7FF
    whole = modifier >= 0 and scale == 0 and digits <= _LARGEST_INT64_DIGITS
    kind = pa.int64() if whole else pa.float64()
    return kind, lambda column: pc.cast(_text(column), kind)


def _text(column: Any) -> Any:
    """Give NUMERIC as the text it comes in; NaN, which is no whole number, as a missing value."""
    text = pa.chunked_array([chunk.storage for chunk in column.chunks], type=column.type.storage_type)
    return pc.if_else(pc.equal(text, "nan"), pa.scalar(None, text.type), text)


def _without_infinite(column: Any, bits: Any, earliest: int) -> Any:
    """Take out what the driver makes of the infinite: numbers before the first date, and the largest."""
    known = pc.greater_equal(pc.cast(column, bits), pa.scalar(earliest, bits))
    return pc.if_else(known, column, pa.scalar(None, column.type))
