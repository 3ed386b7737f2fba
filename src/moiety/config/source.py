"""Where a table comes from: a file, a folder of Parquet files, or a query to a database.

`source` under [table] of either role. Imported by `config` and by whatever reads tables.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import PlainValidator, ValidationInfo

from moiety.config.problems import refusal
from moiety.config.values import resolved

READABLE_FORMATS: Final = (".parquet", ".csv")
_LONGEST_NAME: Final = 64
_QUERY_SHAPE: Final = 'write source = { postgresql = "select ..." }'


@dataclass(frozen=True, kw_only=True)
class Query:
    """What to ask a PostgreSQL database for.

    How to reach the database is no part of it: that is in the environment only.

    Args:
        postgresql: the SQL; not shown, since it may name values.
    """

    postgresql: str = field(repr=False)

    @property
    def name(self) -> str:
        """What messages call it, as they call a file by its name."""
        return "the query"


Source: TypeAlias = Path | Query


def ledger_name(source: Source) -> str:
    """Return what the ledger calls a table whose run file gives it no name.

    A file's name, wherever it lies; all queries share one. Two tables that come out alike share a ledger:
    then too much is counted, and never too little. The text of a query is no name: another blank in it would
    start a new count. Nor is the database: how to reach it must not be written down, not even as a digest.

    >>> ledger_name(Path("/data/2026/Kunden & Co.parquet"))
    'kunden-co'
    """
    if isinstance(source, Query):
        return "postgresql"
    return re.sub(r"[^a-z0-9._]+", "-", source.stem.lower()).strip("-.")[:_LONGEST_NAME] or "table"


def _source(value: Any, info: ValidationInfo) -> Source:
    return _query(value) if isinstance(value, dict) else _readable(resolved(value, info))


def _query(value: dict[str, Any]) -> Query:
    if list(value) != ["postgresql"]:
        raise refusal("is a table that names no query", hint=_QUERY_SHAPE)
    text = value["postgresql"]
    # libpq would cut the text at a NUL.
    if not isinstance(text, str) or not text.strip("; \t\r\n") or "\0" in text:
        raise refusal("has no query in it", hint=_QUERY_SHAPE)
    return Query(postgresql=text)


def _readable(path: Path) -> Path:
    # A name without a suffix is a folder's; it may not be there yet.
    if path.suffix and path.suffix.lower() not in READABLE_FORMATS and not path.is_dir():
        raise refusal(
            f"has the suffix {path.suffix!r}, which no reader is known for",
            hint=f"name a file that ends in one of {', '.join(READABLE_FORMATS)}, or a Parquet folder",
        )
    return path


def require_ids(source: Source, ids: tuple[str, ...], *, duplicates: str) -> None:
    """Refuse a query whose order would decide something: it may be another one each time.

    Args:
        source: where the table comes from.
        ids: the id columns.
        duplicates: what happens to rows with equal ids.

    Raises:
        PydanticCustomError: there are no id columns, or the first of rows with equal ids is to be kept.
    """
    if isinstance(source, Query) and not ids:
        raise refusal(
            "has a query as its source and no id: a query gives its rows in no fixed order",
            hint='name the columns that tell rows apart: id = ["customer_id"]',
        )
    if isinstance(source, Query) and duplicates == "first":
        raise refusal(
            "keeps the first of rows with equal ids, and a query gives its rows in no fixed order",
            hint="leave duplicates out, and select each id once: select distinct on (...) ... order by ...",
        )


TableSource = Annotated[Path | Query, PlainValidator(_source, json_schema_input_type=Path | Query)]
