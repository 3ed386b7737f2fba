"""Preparation: from the columns of a table to the inputs of a network.

Fitted on training rows only, saved as JSON, and applied to any table with the same columns. It
decides no split and clips nothing; the range of activations is the ring's matter. Imported by
both parties' loops and the demo.

Shapes: N rows, D inputs.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moiety.config import RULE_NAMES, ColumnRule
from moiety.data.prepared_column import LeftOut, PreparedColumn, fit_column
from moiety.data.table import Table
from moiety.data.values import Values, read_values
from moiety.errors import CheckpointCorruptError, ConfigError, DataError

Rules = Mapping[str, str | ColumnRule]


@dataclass(frozen=True, kw_only=True)
class Unfitted:
    """Features whose preparation is to be fitted.

    Args:
        features: the columns that become inputs, in that order.
        rules: rules by column, each a name or a rule with its options; without one, the usual rule.

    Raises:
        ConfigError: no features, a feature named twice, or a rule that is unknown or for no feature.
    """

    features: Sequence[str]
    rules: Rules

    def __post_init__(self) -> None:
        check_request(self.features, self.rules)

    def each(self) -> Iterator[tuple[str, ColumnRule | None]]:
        """Yield each column with its rule; None for the usual one."""
        for name in self.features:
            yield name, rule_of(self.rules.get(name))


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
        rules: Rules,
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
        wanted = Unfitted(features=features, rules=rules)
        return cls.of(
            [found for found, _ in fitted_columns(table, wanted, rows=rows)], source=table.source.name
        )

    @classmethod
    def of(cls, found: Sequence[PreparedColumn | LeftOut], *, source: str) -> Self:
        """Put what was fitted to columns together.

        Raises:
            DataError: none of them has an input to give.
        """
        columns = tuple(each for each in found if isinstance(each, PreparedColumn))
        left_out = tuple(each for each in found if isinstance(each, LeftOut))
        require_inputs(columns, left_out, source=source)
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
        source = table.source.name
        columns = ((column, read_values(table, column.name)) for column in self.columns)
        return np.hstack([column.transform(column.of(values, source=source)) for column, values in columns])

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


def fitted_columns(
    table: Table, wanted: Unfitted, *, rows: NDArray[np.int64]
) -> Iterator[tuple[PreparedColumn | LeftOut, Values]]:
    """Read each column once and fit it to the training rows; yield it with the values of all rows.

    Raises:
        DataError: a column is not there, has infinite values, or does not suit its rule; or there are no
            training rows.
    """
    if len(rows) == 0:
        raise DataError(
            "there are no training rows to fit the preparation to",
            hint="take a larger table, or smaller shares under [split]",
        )
    for name, rule in wanted.each():
        values = read_values(table, name)
        yield fit_column(values.take(rows), name=name, rule=rule, source=table.source.name), values


def require_inputs(columns: Collection[object], left_out: Sequence[LeftOut], *, source: str) -> None:
    """Refuse features of which none has an input to give.

    Raises:
        DataError: all of them are left out.
    """
    if not columns:
        raise DataError(
            f"no feature of {source} tells training rows apart: {left_out[0].sentence}",
            hint="choose features that differ between rows",
        )


def chosen_features(
    wanted: Literal["all"] | Sequence[str], table: Table, *, besides: Sequence[str]
) -> Sequence[str]:
    """Name the features of a table: those wanted, or "all" columns but some."""
    return [name for name in table.names if name not in besides] if wanted == "all" else wanted


def check_request(features: Sequence[str], rules: Rules) -> None:
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
                hint=f"choose from {', '.join(RULE_NAMES)}",
            )


def rule_of(rule: str | ColumnRule | None) -> ColumnRule | None:
    """Turn a name, which was checked, into a rule."""
    if isinstance(rule, str):
        return ColumnRule(rule=next(name for name in RULE_NAMES if name == rule))
    return rule
