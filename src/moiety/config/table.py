"""`[table]` of both roles: rows, ids and columns. Imported by `config` only."""

from typing import Literal, Self

from pydantic import Field, model_validator

from moiety.config.problems import refusal
from moiety.config.section import Section
from moiety.config.source import TableSource, require_ids
from moiety.config.values import AllOrAny, AllOrSome, Column, Columns, IdRules, Name


class TableSection(Section):
    """What both roles say of their table."""

    source: TableSource = Field(
        description="Where the rows come from: a .parquet or .csv file, a folder of Parquet files, or a "
        "query."
    )
    id: Columns = Field(
        default=(),
        description="Columns that name a row. Both tables are aligned by them. Without ids, both tables must "
        "have the same rows in the same order.",
    )
    normalise: IdRules = Field(
        default=(),
        description="One list of rules for each id column, applied in that order. Both sides write the same "
        "rules; each gives the format of its own dates. Without rules, ids are compared as they are written.",
    )
    duplicates: Literal["refuse", "first"] = Field(
        default="refuse",
        description="What happens to rows with the same id: the table is refused, or the first of them is "
        "used.",
    )

    @property
    def id_form(self) -> tuple[tuple[str, ...], ...]:
        """The rules' names for each id column, without the formats of dates: both parties' must be equal."""
        named = self.normalise or ((),) * len(self.id)
        return tuple(tuple(rule.partition(" ")[0] for rule in rules) for rules in named)

    @model_validator(mode="after")
    def _rules_for_each_id(self) -> Self:
        if self.normalise and len(self.normalise) != len(self.id):
            raise refusal(
                f"has normalise for {len(self.normalise)} columns and {len(self.id)} in id",
                hint='write one list of rules for each id column, as in [["trim", "case"], ["date"]]',
            )
        return self

    @model_validator(mode="after")
    def _order_can_be_told(self) -> Self:
        require_ids(self.source, self.id, duplicates=self.duplicates)
        return self


class LabelTable(TableSection):
    """The label owner's rows, and what to predict."""

    target: Column = Field(description="The column to predict.")
    features: AllOrAny = Field(
        default=(),
        description='Own columns for the top model, beside z; they stay on this side. "all" is every column '
        "but `id` and `target`.",
    )

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        named = [name for name in self.features if name in (self.target, *self.id)]
        if self.features != "all" and named:
            raise refusal(
                f"has {named[0]!r} among its features, and it is the target or an id",
                hint="take it out of features: a model that is given its target learns nothing else",
            )
        return self


class FeatureTable(TableSection):
    """The data owner's rows, and which columns to train on."""

    features: AllOrSome = Field(
        default="all",
        description='Columns to train on. "all" is every column but `id` and the one that splits the rows.',
    )
    name: Name | None = Field(
        default=None,
        description="What the ledger calls this table; the name of the file if left out. Under the same name "
        "the totals continue, wherever the table moves.",
    )
