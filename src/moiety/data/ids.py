"""The ids of a table's rows, in the form in which two parties compare them.

Parties write the same id in different ways. Rules bring both into one form, which is declared in the run
file and compared before anything else: what is compared is a rule's name, so that each party may give the
format of its own dates. Values never appear in messages. Imported by whoever aligns a table.

An id of several columns is their texts, each behind its length: ("a", "bc") and ("ab", "c") differ.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, reduce
from hashlib import sha256
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from pyarrow import types

from moiety.crypto.psi import ELEMENT_BYTES, PIECE, Elements, Group, Rows, hash_ids
from moiety.crypto.scheme import MapFunction
from moiety.data.columns import is_text_type, missing_column
from moiety.data.table import Table
from moiety.errors import DataError

ROWS_AT_ONCE: Final = 32 * PIECE
_WHOLE: Final = 2**53
"""Beyond it a floating-point number is not one whole number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IdRows:
    """The rows of a table that can be aligned.

    Args:
        elements: their ids hashed to a group, distinct, (count, 32).
        rows: their numbers in the table.
        missing: rows left out because a part of the id is missing or empty.
        unreadable: rows left out because a part of the id does not have the declared form.
        repeated: rows left out because an earlier row has the same id.
    """

    elements: Elements
    rows: Rows
    missing: int
    unreadable: int
    repeated: int


class Ids:
    """The id columns of a table with their rules.

    Args:
        table: its id columns are read once.
        columns: the id columns, at least one.
        normalise: rules of each of these columns, in the order in which they are applied; none: as it is.
    """

    def __init__(self, table: Table, *, columns: Sequence[str], normalise: Sequence[Sequence[str]]) -> None:
        self._table = table
        self._columns = tuple(columns)
        self._rules = [tuple(rules) for rules in normalise] or [()] * len(self._columns)

    def digest(self) -> bytes:
        """Digest the ids as they are compared, in row order: it changes when a row's id does.

        Raises:
            DataError: a column is not there, or holds what no id is made of.
        """
        digest = sha256(b"moiety own ids 1")
        for texts in self._pieces():
            for text in texts:
                part = b"" if text is None else text
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.digest()

    def hashed(self, group: Group, *, keep_first: bool, map_function: MapFunction = map) -> IdRows:
        """Hash the ids that are there, each once.

        Args:
            group: what to hash to.
            keep_first: of rows with equal ids, keep the first; otherwise they are refused.
            map_function: spreads pieces of the work.

        Raises:
            DataError: ids repeat and may not; no row has an id; or as `digest`.
        """
        elements, rows, missing, unreadable = [], [], 0, 0
        for start, texts in zip(range(0, self._table.rows, ROWS_AT_ONCE), self._pieces(), strict=True):
            usable = [number for number, text in enumerate(texts) if text]
            missing += sum(text == b"" for text in texts)
            unreadable += sum(text is None for text in texts)
            ids = [text for text in texts if text]
            elements.append(hash_ids(group, ids, map_function=map_function))
            rows.append(start + np.array(usable, dtype=np.int64))
        together = np.concatenate(elements).reshape(-1, ELEMENT_BYTES)
        numbers = np.concatenate(rows)
        first = np.sort(np.unique(together, axis=0, return_index=True)[1])
        self._check(len(numbers), distinct=len(first), keep_first=keep_first, unreadable=unreadable)
        return IdRows(
            elements=together[first],
            rows=numbers[first],
            missing=missing,
            unreadable=unreadable,
            repeated=len(numbers) - len(first),
        )

    @cached_property
    def _read(self) -> list[Any]:
        return [_text_column(self._table, name) for name in self._columns]

    def _check(self, usable: int, *, distinct: int, keep_first: bool, unreadable: int) -> None:
        name = self._table.source.name
        if usable == 0:
            hint = "correct id under [table]"
            if unreadable:
                hint = "no id has the form that normalise under [table] declares: correct one of them"
            raise DataError(f"no row of {name} has an id in {', '.join(self._columns)}", hint=hint)
        if distinct < usable and not keep_first:
            raise DataError(
                f"{usable - distinct} of {usable} rows of {name} repeat the id of an earlier row",
                hint='name more id columns, remove these rows, or write duplicates = "first" under [table]',
            )

    def _pieces(self) -> Iterator[list[bytes | None]]:
        """Yield the encoded ids of some rows at a time: b"" where one is missing, None where unreadable."""
        rules = [_normaliser(names) for names in self._rules]
        for start in range(0, self._table.rows, ROWS_AT_ONCE):
            parts = [column.slice(start, ROWS_AT_ONCE).to_pylist() for column in self._read]
            yield [_encoded(row, rules) for row in zip(*parts, strict=True)]


def _encoded(row: tuple[str | None, ...], rules: Sequence[Callable[[str], str]]) -> bytes | None:
    if any(part is None for part in row):
        return b""
    try:
        texts = [rule(str(part)) for rule, part in zip(rules, row, strict=True)]
    except ValueError:
        return None
    if not all(texts):
        return b""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in encoded)


def _text_column(table: Table, name: str) -> Any:
    """Give an id column as an Arrow array of strings."""
    if name not in table.names:
        raise missing_column(name, table.source, table.names)
    column = table.read(name)
    if is_text_type(column.type):
        return column
    if types.is_integer(column.type) or types.is_date(column.type):
        return pc.cast(column, "string")
    if types.is_floating(column.type) or types.is_null(column.type):
        return _whole_numbers(table, name, column)
    raise DataError(
        f"id column {name!r} of {table.source.name} has the type {column.type}",
        hint="write ids as text, whole numbers or dates",
    )


def _whole_numbers(table: Table, name: str, column: Any) -> Any:
    """Take whole numbers that became floating-point ones because some are missing."""
    numbers = pc.cast(column, "double")
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), _WHOLE))
    if pc.all(whole, min_count=0).as_py() is False:
        raise DataError(
            f"id column {name!r} of {table.source.name} has numbers with a fraction, or above 2^53",
            hint="write ids as text or as whole numbers",
        )
    return pc.cast(pc.cast(numbers, "int64"), "string")


def _normaliser(names: Sequence[str]) -> Callable[[str], str]:
    """Make one function of a column's rules; it raises ValueError where a text has not the form."""
    rules = [_rule(name) for name in names]
    return lambda text: reduce(lambda value, rule: rule(value), rules, text)


def _rule(name: str) -> Callable[[str], str]:
    word, _, given = name.partition(" ")
    if word == "date":
        return lambda text: _date(text, given)
    known: dict[str, Callable[[str], str]] = {
        "trim": str.strip,
        "case": str.casefold,
        "unicode": lambda text: unicodedata.normalize("NFKC", text),
        "alphanumeric": lambda text: "".join(each for each in text if each.isalnum()),
        "digits": lambda text: "".join(str(unicodedata.decimal(each)) for each in text if each.isdecimal()),
        "integer": lambda text: str(int(text)) if text.strip() else "",
    }
    return known[word]


def _date(text: str, form: str) -> str:
    if not text.strip():
        return ""
    if not form:
        return datetime.fromisoformat(text.strip()).date().isoformat()
    return datetime.strptime(text.strip(), form).replace(tzinfo=UTC).date().isoformat()
