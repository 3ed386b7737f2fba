"""A column as preparation takes it, from one read: numbers, or which of its distinct texts each row has.

Texts as codes take four bytes a row, and whatever is asked of texts is asked of each distinct one only.
Imported by the preparation and by the look at a table.

Shapes: N rows, V distinct values; n some rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from moiety.data.columns import is_text_type, numbers_of
from moiety.data.table import Table
from moiety.errors import DataError

Numbers = NDArray[np.float64]
Rows = slice | NDArray[np.int64] | NDArray[np.bool_]

_MISSING: Final = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """Distinct values, and which of them each row has.

    Args:
        values: V of them, each once; some may have no row.
        code_N: which of them a row has; -1 where it has none.
    """

    values: Sequence[Any] = field(repr=False)
    code_N: NDArray[np.int32] = field(repr=False)

    def counts(self) -> dict[Any, int]:
        """Count the rows of each value that has some."""
        rows_V = np.bincount(self.code_N[self.code_N >= 0], minlength=len(self.values))
        return {value: rows for value, rows in zip(self.values, rows_V.tolist(), strict=True) if rows}

    def look_up(self, found: dict[Any, int], *, other: int) -> NDArray[np.int64]:
        """Give each row what is found for its value; `other` where nothing is, or it has none."""
        found_V = [found.get(value, other) for value in self.values]
        return np.array([*found_V, other], dtype=np.int64)[self.code_N]  # -1 is the last one


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """The values of a column, or of some of its rows.

    Args:
        numbers_N: float64, NaN where one is missing; None for text.
        texts: the texts, none of them blank; None for numbers.
    """

    numbers_N: Numbers | None = field(default=None, repr=False)
    texts: Codes | None = None

    @classmethod
    def of_arrow(cls, column: Any) -> "Values":
        """Take a chunked Arrow array; blank text is missing."""
        if not is_text_type(column.type):
            return cls(numbers_N=np.asarray(numbers_of(column).to_numpy(), dtype=np.float64))
        encoded = pc.dictionary_encode(column).unify_dictionaries()
        words = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
        codes = [pc.fill_null(chunk.indices, _MISSING).to_numpy() for chunk in encoded.chunks]
        known = {word: number for number, word in enumerate(word for word in words if word.strip())}
        place_V = np.array([*(known.get(word, _MISSING) for word in words), _MISSING], dtype=np.int32)
        code_N = place_V[np.concatenate([np.empty(0, dtype=np.int32), *codes])]
        return cls(texts=Codes(values=list(known), code_N=code_N))

    @classmethod
    def none(cls, rows: int, *, text: bool) -> "Values":
        """Return a column without any value."""
        if text:
            return cls(texts=Codes(values=(), code_N=np.full(rows, _MISSING, dtype=np.int32)))
        return cls(numbers_N=np.full(rows, np.nan))

    @property
    def text(self) -> bool:
        """Whether they are texts."""
        return self.texts is not None

    @property
    def numbers(self) -> Numbers:
        """The numbers, which whoever asks knows them to be."""
        assert self.numbers_N is not None
        return self.numbers_N

    @cached_property
    def is_missing(self) -> NDArray[np.bool_]:
        """Tell which rows are missing."""
        return self.texts.code_N < 0 if self.texts is not None else np.isnan(self.numbers)

    @cached_property
    def missing(self) -> int:
        """Count them."""
        return int(np.count_nonzero(self.is_missing))

    @property
    def present(self) -> Numbers:
        """The numbers that are there."""
        return self.numbers[~self.is_missing] if self.missing else self.numbers

    @cached_property
    def codes(self) -> Codes:
        """Texts or numbers as categories."""
        if self.texts is not None:
            return self.texts
        distinct_V, place_n = np.unique(self.present, return_inverse=True)
        code_N = np.full(len(self), _MISSING, dtype=np.int32)
        code_N[~self.is_missing] = place_n
        return Codes(values=distinct_V.tolist(), code_N=code_N)

    def take(self, rows: Rows) -> "Values":
        """Give some rows."""
        if self.texts is not None:
            return Values(texts=Codes(values=self.texts.values, code_N=self.texts.code_N[rows]))
        return Values(numbers_N=self.numbers[rows])

    def __len__(self) -> int:
        return len(self.numbers if self.texts is None else self.texts.code_N)


def read_values(table: Table, name: str) -> Values:
    """Read a column of a table.

    Raises:
        DataError: there is no such column, it has infinite numbers, or the file cannot be read any more.
    """
    values = Values.of_arrow(table.arrow(name))
    require_finite(values, column=name, source=table.source.name)
    return values


def require_finite(values: Values, *, column: str, source: str) -> None:
    """Refuse infinite numbers.

    Raises:
        DataError: there are some, with their count.
    """
    infinite = 0 if values.text else int(np.count_nonzero(np.isinf(values.numbers)))
    if infinite:
        raise DataError(
            f"column {column!r} of {source} has {infinite} infinite values in {len(values)} rows",
            hint="leave these fields empty: an empty one counts as missing",
        )
