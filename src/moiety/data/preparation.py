"""Preparation: from the columns of a table to the inputs of a network.

Fitted on training rows only, saved as JSON, and applied to any table with the same columns. It
decides no split and clips nothing; the range of activations is the ring's matter. Imported by
target, the data owner's loop and the demo.

Shapes: N rows, D inputs; n and d some of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moiety.data.rules import RULE_NAMES, Fitted, OneHot, RuleName, fit_rule
from moiety.data.table import Column, Table
from moiety.errors import CheckpointCorruptError, ConfigError, DataError

_PIECE_VALUES: Final = 2**20  # 8 MiB, of which encoding makes several copies


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Some rows of the inputs that one column gives.

    Args:
        first_row: index of its first row.
        first_input: index of its first input.
        values_nd: the inputs, float64, finite.
    """

    first_row: int
    first_input: int
    values_nd: NDArray[np.float64] = field(repr=False)


class PreparedColumn(BaseModel):
    """One feature and what is done to it.

    Args:
        name: the column.
        text: whether it held text when fitted.
        fitted: the fitted rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    name: str
    text: bool
    fitted: Fitted

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        one_hot = isinstance(self.fitted, OneHot)
        if self.text != (isinstance(self.fitted, OneHot) and self.fitted.text):
            raise ValueError("text needs text categories" if one_hot else "text needs one-hot")
        return self

    @property
    def names(self) -> list[str]:
        """Names of its inputs."""
        return self.fitted.names(self.name)

    def values(self, table: Table) -> Column:
        """Take the column out of a table, complete and of the kind it was fitted on."""
        values_N = complete_column(table, self.name)
        if is_text(values_N) != self.text:
            kinds = ("text", "numbers") if self.text else ("numbers", "text")
            raise DataError(
                f"column {self.name!r} held {kinds[0]} when fitted and holds {kinds[1]} in "
                f"{table.source.name}",
                hint="write the column in both tables in the same way",
            )
        return values_N


class Preparation(BaseModel):
    """Fitted rules for the features of one table.

    Args:
        version: of the saved form.
        columns: the features in the order of the inputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    columns: tuple[PreparedColumn, ...] = Field(min_length=1, repr=False)

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        if len({column.name for column in self.columns}) != len(self.columns):
            raise ValueError("columns must be distinct")
        return self

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        features: Sequence[str],
        rules: Mapping[str, str],
        rows: NDArray[np.int64],
    ) -> Self:
        """Fit the rules to the training rows.

        Args:
            table: the table; the features must be complete in all its rows.
            features: the columns that become inputs, in that order.
            rules: rules by column; without one, numbers are "standard" and text is "one-hot".
            rows: indices of the training rows.

        Returns:
            The fitted preparation.

        Raises:
            ConfigError: no features, a feature named twice, or a rule that is unknown or for a
                column that is no feature.
            DataError: a column is not there, has missing or infinite values, or does not suit its
                rule; or there are no training rows.
        """
        _check_request(features, rules)
        if len(rows) == 0:
            raise DataError(
                "there are no training rows to fit the preparation to",
                hint="take a larger table, or smaller shares under [split]",
            )
        return cls(columns=tuple(_fit_column(table, name, rules, rows) for name in features))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs, length D; those of one-hot columns quote categories: local use."""
        return tuple(name for column in self.columns for name in column.names)

    def transform(self, table: Table) -> NDArray[np.float64]:
        """Make the inputs.

        Args:
            table: a table with the fitted columns.

        Returns:
            float64, shape (N, D), finite, all of it in memory.

        Raises:
            DataError: a column is not there, has missing or infinite values, or holds text where
                it held numbers, or the other way round.
        """
        return np.hstack([column.fitted.transform(column.values(table)) for column in self.columns])

    def pieces(self, table: Table) -> Iterator[Piece]:
        """Make the same inputs piece by piece, with one column of the table in memory at a time.

        Args:
            table: a table with the fitted columns.

        Yields:
            Every row of every input once; column by column, and within a column by rows.

        Raises:
            DataError: as `transform`.
        """
        first_input = 0
        for column in self.columns:
            values_N, inputs = column.values(table), len(column.names)
            rows = max(1, _PIECE_VALUES // inputs)
            for first_row in range(0, len(values_N), rows):
                values_nd = column.fitted.transform(values_N[first_row : first_row + rows])
                yield Piece(first_row=first_row, first_input=first_input, values_nd=values_nd)
            first_input += inputs

    def unseen(self, table: Table) -> dict[str, int]:
        """Count the rows whose category was not in the training rows, by column; 0 left out.

        Raises:
            DataError: as `transform`.
        """
        counts = {
            column.name: column.fitted.unseen(column.values(table))
            for column in self.columns
            if isinstance(column.fitted, OneHot)
        }
        return {name: count for name, count in counts.items() if count}

    def to_json(self) -> str:
        """Save as JSON; floats come back exactly.

        Leaks:
            The text holds statistics and categories of the training rows: it stays with its owner.
        """
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Load what `to_json` saved.

        Raises:
            CheckpointCorruptError: the text is not a saved preparation.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise CheckpointCorruptError(
                "the saved preparation is damaged",
                hint="take it from a backup, or train again",
            ) from error


def chosen_features(
    wanted: Literal["all"] | Sequence[str], table: Table, *, besides: Sequence[str]
) -> Sequence[str]:
    """Name the features of a table: those wanted, or "all" columns but some."""
    return [name for name in table.names if name not in besides] if wanted == "all" else wanted


def complete_column(table: Table, name: str) -> Column:
    """Take a column out of a table.

    Args:
        table: the table.
        name: the column.

    Returns:
        Its values, shape (N,), none of them missing or infinite.

    Raises:
        DataError: there is no such column, or some values are missing or infinite.
    """
    values_N = table.column(name)
    bad = count_unusable(values_N)
    if bad:
        raise DataError(
            f"column {name!r} of {table.source.name} has {bad} missing or infinite values in "
            f"{table.rows} rows",
            hint="fill them in, remove these rows, or leave the column out",
        )
    return values_N


def count_unusable(values_N: Column) -> int:
    """Count missing and infinite values."""
    if is_text(values_N):
        return sum(value is None for value in values_N)
    return int(np.count_nonzero(~np.isfinite(values_N.astype(np.float64))))


def is_text(values_N: Column) -> bool:
    """Tell text from numbers."""
    return values_N.dtype == np.object_


def _check_request(features: Sequence[str], rules: Mapping[str, str]) -> None:
    """Check what can be checked without the table."""
    if not features:
        raise ConfigError("there are no features", hint="name at least one column under [table]")
    name, times = Counter(features).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"feature {name!r} is named {times} times", hint="name it once")
    for column, rule in rules.items():
        if column not in features:
            close = get_close_matches(column, features, n=1, cutoff=0.5)
            raise ConfigError(
                f"[prepare] has a rule for {column!r}, which is not among the features",
                hint=f"did you mean {close[0]!r}?" if close else "remove the rule",
            )
        if rule not in RULE_NAMES:
            raise ConfigError(
                f"[prepare] has the unknown rule {rule!r} for {column!r}",
                hint=f"the rules are {', '.join(RULE_NAMES)}",
            )


def _fit_column(table: Table, name: str, rules: Mapping[str, str], rows: NDArray[np.int64]) -> PreparedColumn:
    values_N = complete_column(table, name)
    text = is_text(values_N)
    rule = _rule_of(name, rules, text=text)
    if text and rule != "one-hot":
        raise DataError(
            f"column {name!r} of {table.source.name} holds text; the rule {rule!r} needs numbers",
            hint=f'set {name!r} to "one-hot" under [prepare], or leave the column out',
        )
    return PreparedColumn(name=name, text=text, fitted=fit_rule(rule, values_N[rows], column=name))


def _rule_of(name: str, rules: Mapping[str, str], *, text: bool) -> RuleName:
    """Look the rule up, or take the default one."""
    wanted = rules.get(name, "one-hot" if text else "standard")
    return next(rule for rule in RULE_NAMES if rule == wanted)
