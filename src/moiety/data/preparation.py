"""Preparation: from the columns of a table to the inputs of a network.

Fitted on training rows only, saved as JSON, and applied to any table with the same columns. It
decides no split and clips nothing; the range of activations is the ring's matter. Imported by
both parties' loops and the demo.

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

from moiety.config import RULE_NAMES, ColumnRule
from moiety.data.drift import ColumnDrift
from moiety.data.prepared_column import LeftOut, PreparedColumn, fit_column
from moiety.data.table import Table
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


class Preparation(BaseModel):
    """Fitted rules for the features of one table.

    Args:
        version: of the saved form; 1 is what an early release saved.
        columns: the features in the order of the inputs.
        left_out: features that give no input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    version: Literal[1, 2] = 2
    columns: tuple[PreparedColumn, ...] = Field(min_length=1, repr=False)
    left_out: tuple[LeftOut, ...] = ()

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
        rules: Mapping[str, str | ColumnRule],
        rows: NDArray[np.int64],
    ) -> Self:
        """Fit the rules to the training rows.

        Args:
            table: the table.
            features: the columns that become inputs, in that order.
            rules: rules by column, each a name or a rule with its options; without one, `usual_rule`.
            rows: indices of the training rows.

        Returns:
            The fitted preparation.

        Raises:
            ConfigError: no features, a feature named twice, or a rule that is unknown or for a
                column that is no feature.
            DataError: a column is not there, has infinite values, or does not suit its rule; there are no
                training rows, or no column has an input to give.
        """
        check_request(features, rules)
        if len(rows) == 0:
            raise DataError(
                "there are no training rows to fit the preparation to",
                hint="take a larger table, or smaller shares under [split]",
            )
        fitted = [fit_column(table, name, rule=rule_of(rules.get(name)), rows=rows) for name in features]
        columns = tuple(each for each in fitted if isinstance(each, PreparedColumn))
        left_out = tuple(each for each in fitted if isinstance(each, LeftOut))
        if not columns:
            raise DataError(
                f"no feature of {table.source.name} tells training rows apart: {left_out[0].sentence}",
                hint="choose features that differ between rows",
            )
        return cls(columns=columns, left_out=left_out)

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
            DataError: a column is not there, has infinite values, or holds text where it held numbers, or the
                other way round.
        """
        return np.hstack([column.transform(column.values(table)) for column in self.columns])

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
                values_nd = column.transform(values_N[first_row : first_row + rows])
                yield Piece(first_row=first_row, first_input=first_input, values_nd=values_nd)
            first_input += inputs

    def unseen(self, table: Table) -> dict[str, int]:
        """Count the rows whose category was not in the training rows, by column; 0 left out.

        Raises:
            DataError: as `transform`.
        """
        counts = {column.name: column.unseen(column.values(table)) for column in self.columns}
        return {name: count for name, count in counts.items() if count}

    def drift(self, table: Table, *, rows: NDArray[np.int64] | None = None) -> list[ColumnDrift]:
        """Compare rows with the training rows, with one column of the table in memory at a time.

        Args:
            table: a table with the fitted columns.
            rows: which rows; None means all.

        Returns:
            One for each column whose training rows are remembered.

        Raises:
            DataError: as `transform`.
        """
        every = slice(None) if rows is None else rows
        drifts = (column.drift(column.values(table)[every]) for column in self.columns)
        return [drift for drift in drifts if drift is not None]

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


def check_request(features: Sequence[str], rules: Mapping[str, str | ColumnRule]) -> None:
    """Check what can be checked without the table.

    Raises:
        ConfigError: no features, a feature named twice, or a rule that is unknown or for no feature.
    """
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
        if isinstance(rule, str) and rule not in RULE_NAMES:
            raise ConfigError(
                f"[prepare] has the unknown rule {rule!r} for {column!r}",
                hint=f"the rules are {', '.join(RULE_NAMES)}",
            )


def rule_of(rule: str | ColumnRule | None) -> ColumnRule | None:
    """Turn a name, which was checked, into a rule."""
    if isinstance(rule, str):
        return ColumnRule(rule=next(name for name in RULE_NAMES if name == rule))
    return rule
