"""What a table is like, column by column, before anything of it is used: counts, never values.

Reads one column at a time. Imported by the check of a run file.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from moiety.crypto.ring import encode_activations
from moiety.data.columns import is_text_type
from moiety.data.preparation import Unfitted
from moiety.data.prepared_column import PreparedColumn, fit_column
from moiety.data.table import Table
from moiety.data.values import Values, require_finite
from moiety.errors import DataError

Use = Literal["id", "target", "feature"]
Kind = Literal["text", "whole number", "number", "true or false", "date or time", "empty"]

_FEW_ROWS: Final = 20  # too few to call a column anything
_FEW_CLASSES: Final = 100
_ID_LIKE: Final = 0.95  # distinct among the values present
_MOSTLY: Final = 0.5
_ALMOST_ALL: Final = 0.9
_NUMBER: Final = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_DECIMAL_COMMA: Final = r"^\s*[+-]?\d+(\.\d{3})*,\d+\s*$"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What preparation makes of a column.

    Args:
        rule: its name.
        inputs: of the network, that the column gives.
        clipped: share of the inputs' values that lie beyond the range of activations and are clipped.
    """

    rule: str
    inputs: int
    clipped: float


@dataclass(frozen=True, kw_only=True)
class ColumnProfile:
    """What a column is like.

    Args:
        name: the column.
        use: what the run file uses it for.
        kind: of its values.
        missing: rows without a value: no text but blanks, or no number.
        infinite: rows with an infinite number.
        distinct: different values.
        remarks: what is suspicious about it.
        prepared: what becomes of it; None for an id and a target, or where it cannot be prepared.
        problem: why it cannot be prepared.
    """

    name: str
    use: Use
    kind: Kind
    missing: int
    infinite: int
    distinct: int
    remarks: tuple[str, ...]
    prepared: Prepared | None = None
    problem: DataError | None = None


@dataclass(frozen=True, kw_only=True)
class TableProfile:
    """What a table is like.

    Args:
        rows: how many it has.
        columns: those that the run file uses.
        repeated_ids: rows whose ids another row has too, counted without the first one of each.
    """

    rows: int
    columns: tuple[ColumnProfile, ...]
    repeated_ids: int

    @property
    def inputs(self) -> int:
        """Of the network, over all columns."""
        return sum(column.prepared.inputs for column in self.columns if column.prepared is not None)


def profile_table(
    table: Table, wanted: Unfitted | None, *, ids: Sequence[str], others: Iterable[ColumnProfile] = ()
) -> TableProfile:
    """Profile the id columns and the features, beside others.

    Args:
        table: the table.
        wanted: the features; None where there are none.
        ids: its id columns.
        others: columns that are profiled already.

    Raises:
        DataError: a column is not there, or cannot be read; one that cannot be prepared has a `problem`.
    """
    keys = [profile_column(table, name, use="id") for name in ids]
    own = () if wanted is None else profile_features(table, wanted)
    return TableProfile(rows=table.rows, columns=(*keys, *others, *own), repeated_ids=_repeated(table, ids))


def profile_column(table: Table, name: str, *, use: Use) -> ColumnProfile:
    """Count what a column holds.

    Raises:
        DataError: there is no such column, or it cannot be read.
    """
    return _counted(table.arrow(name), name, use=use)


def profile_features(table: Table, wanted: Unfitted) -> Iterator[ColumnProfile]:
    """Count what features hold, and what preparation makes of them, fitted on all rows.

    Args:
        table: the table.
        wanted: the columns, and how they are prepared.

    Raises:
        DataError: a column is not there, or cannot be read; one that cannot be prepared has a `problem`.
    """
    source = table.source.name
    for name, rule in wanted.each():
        column = table.arrow(name)
        counted = _counted(column, name, use="feature")
        try:
            values = Values.of_arrow(column)
            require_finite(values, column=name, source=source)
            fitted = fit_column(values, name=name, rule=rule, source=source)
        except DataError as error:
            yield replace(counted, problem=error)
            continue
        if isinstance(fitted, PreparedColumn):
            yield replace(counted, prepared=_prepared(fitted, values))
        else:
            yield replace(counted, remarks=(*counted.remarks, "left out: it gives no input"))


def raise_first(profile: TableProfile) -> None:
    """Raise the first problem of a column.

    Raises:
        DataError: a column cannot be prepared, or there are features and none gives an input.
    """
    problems = [column.problem for column in profile.columns if column.problem is not None]
    if problems:
        raise problems[0]
    if profile.inputs == 0 and any(column.use == "feature" for column in profile.columns):
        raise DataError(
            "no feature tells rows apart: each is empty, or has the same value everywhere",
            hint="choose features that differ between rows",
        )


def _counted(column: Any, name: str, *, use: Use) -> ColumnProfile:
    """Count what an Arrow column holds."""
    present = _present(column)
    infinite = pc.sum(pc.is_inf(column)).as_py() or 0 if types.is_floating(column.type) else 0
    counted = ColumnProfile(
        name=name,
        use=use,
        kind=_kind(present),
        missing=len(column) - len(present),
        infinite=infinite,
        distinct=len(present.unique()),
        remarks=(),
    )
    return replace(counted, remarks=_remarks(counted, present, rows=len(column)))


def _prepared(column: PreparedColumn, values: Values) -> Prepared:
    """Say what a fitted column makes of its values."""
    inputs = len(column.names)
    clipped = sum(encode_activations(values_nK)[1] for _, values_nK in column.pieces(values))
    return Prepared(rule=column.fitted.rule, inputs=inputs, clipped=clipped / (len(values) * inputs))


def _kind(column: Any) -> Kind:
    """Name the type of the values that are there."""
    kind = column.type
    if types.is_null(kind) or len(column) == 0:
        return "empty"
    if is_text_type(kind):
        return "text"
    if types.is_boolean(kind):
        return "true or false"
    if types.is_temporal(kind):
        return "date or time"
    return "whole number" if types.is_integer(kind) or _whole(column) else "number"


def _whole(column: Any) -> Any:
    """Tell numbers that are all whole: other systems write whole numbers with gaps as floats."""
    return types.is_floating(column.type) and pc.all(pc.equal(pc.floor(column), column)).as_py()


def _present(column: Any) -> Any:
    """Give the values that are there."""
    if is_text_type(column.type):
        column = column.filter(pc.not_equal(pc.utf8_trim_whitespace(column), ""))
    elif types.is_floating(column.type):
        column = column.filter(pc.invert(pc.is_nan(column)))
    return column.drop_null()


def _remarks(column: ColumnProfile, present: Any, *, rows: int) -> tuple[str, ...]:
    found: list[str] = []
    if column.distinct == 0:
        found.append("no value at all")
    elif column.distinct == 1:
        found.append("always the same value" + (", where there is one" if column.missing else ""))
    if _MOSTLY * rows < column.missing < rows:
        found.append("mostly missing")
    if column.infinite:
        found.append(f"{column.infinite} infinite values")
    if _looks_like_an_id(column, len(present)):
        found.append("nearly every value differs: an id? it says nothing about other rows")
    if column.use == "target" and 1 < column.distinct <= _FEW_CLASSES:
        found.append(_classes(present))
    if column.use == "feature" and column.kind == "text":
        found += _numbers_in_text(present)
    return tuple(found)


def _looks_like_an_id(column: ColumnProfile, present: int) -> bool:
    countable = column.use == "feature" and column.kind in {"text", "whole number"}
    return countable and present >= _FEW_ROWS and column.distinct >= _ID_LIKE * present


def _classes(present: Any) -> str:
    rows = pc.value_counts(present).field("counts").to_pylist()
    return f"{len(rows)} classes of {min(rows)} to {max(rows)} rows"


def _numbers_in_text(present: Any) -> list[str]:
    """Say what keeps a column of numbers from being one."""
    numbers, commas = (
        pc.sum(pc.match_substring_regex(present, pattern)).as_py() or 0
        for pattern in (_NUMBER, _DECIMAL_COMMA)
    )
    enough = max(1.0, _ALMOST_ALL * len(present))
    if commas >= enough:
        return ["numbers with decimal commas count as text: write decimal points"]
    if numbers == len(present) > 0:
        return ["numbers, written as text"]
    return [f"text, because {len(present) - numbers} values are no numbers"] if numbers >= enough else []


def _repeated(table: Table, ids: Sequence[str]) -> int:
    if not ids:
        return 0
    values = pa.table({str(number): table.read(name) for number, name in enumerate(ids)})
    return int(table.rows - values.group_by(values.column_names).aggregate([]).num_rows)
