"""`[split]` of both roles: how rows become training, validation and test rows. Imported by `config` only."""

from datetime import date, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, WithJsonSchema, model_validator

from moiety.config.problems import refusal
from moiety.config.section import Section
from moiety.config.values import Column, Fraction, either

LARGEST_SPLIT_SUM: Final = 0.95
"""Validation and test rows together stay below this, so that training rows remain."""

Cut = Annotated[
    datetime | date | int | float | str,
    either('write a number, or a date: 2025-07-01, or "2025-07-01" in quotes'),
    WithJsonSchema({"format": "number, or date: 2025-07-01"}),
]
SplitBy = Literal["drawn", "data-owner", "label-owner"]
"""Who says which rows are in which split: a jointly drawn seed, or the owner of a column."""


class PeriodSplit(Section):
    """How rows become training, validation and test rows; what both roles can say of it.

    Without `by` and `reveals`, both parties draw the split, and this table is left out at the data owner.
    """

    by: Column | None = Field(
        default=None,
        description="An own column of numbers or dates. Rows with the largest values are test rows, those "
        "before them are validation rows. The split is drawn at random if left out.",
    )
    validation: Fraction = Field(
        default=0.1,
        description="Fraction of the rows in the validation set; with `by`, of the rows that have a value.",
    )
    test: Fraction = Field(
        default=0.2,
        description="Fraction of the rows in the test set; with `by`, of the rows that have a value.",
    )
    validation_from: Cut | None = Field(
        default=None,
        description="Cut point of `by`, instead of fractions: rows from here on are not trained on.",
    )
    test_from: Cut | None = Field(
        default=None, description="Cut point of `by`, instead of fractions: rows from here on are test rows."
    )
    missing: Literal["train"] | None = Field(
        default=None,
        description='What a row without a value in `by` is: "train" makes it a training row. Refused if left '
        "out.",
    )
    reveals: Literal["periods"] | None = Field(
        default=None,
        description='"periods" accepts that the side without the column learns which rows lie in which '
        "period. Alone, without `by`, it says that the peer's column decides.",
    )

    @property
    def has_cuts(self) -> bool:
        """Whether cut points are given, and not fractions."""
        return self.validation_from is not None or self.test_from is not None

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation + self.test >= LARGEST_SPLIT_SUM:
            raise refusal(
                f"keeps {self.validation + self.test:g} of the rows from training",
                hint=f"make validation + test less than {LARGEST_SPLIT_SUM}",
            )
        return self

    @model_validator(mode="after")
    def _says_what_it_reveals(self) -> Self:
        if self.by is not None and self.reveals is None:
            raise refusal(
                "has by, which shows the peer which rows lie in which period",
                hint='write reveals = "periods" on both sides if you accept that, or leave by out',
            )
        return self

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        own = {"validation_from", "test_from", "missing"} & self.model_fields_set
        if self.by is None and own:
            raise refusal(
                f"has {min(own)} and no column",
                hint="name one of your own columns: by = ..., or leave it out",
            )
        if self.has_cuts and {"validation", "test"} & self.model_fields_set:
            raise refusal(
                "has both fractions and cut points",
                hint="keep validation and test, or validation_from and test_from",
            )
        if self.by is None and self.reveals is not None and {"validation", "test"} & self.model_fields_set:
            raise refusal(
                "has fractions, and a column of the peer's decides",
                hint="leave validation and test out, or name a column of your own: by = ...",
            )
        return self


class FeatureSplit(PeriodSplit):
    """Which rows are validated and tested on, where a column decides: an own one, or the peer's."""

    @model_validator(mode="after")
    def _something_to_say(self) -> Self:
        if self.model_fields_set and self.reveals is None:
            raise refusal(
                "has fractions and no column", hint="leave [split] out: the label owner's run file has them"
            )
        return self

    @property
    def decided_by(self) -> SplitBy:
        """Who says which rows are in which split."""
        if self.by is not None:
            return "data-owner"
        return "drawn" if self.reveals is None else "label-owner"


class LabelSplit(PeriodSplit):
    """Which rows are trained on, validated and tested on."""

    stratify: Literal["metrics", "metrics and loss"] | None = Field(
        default=None,
        description="Weigh the rows so that each class counts in every split as in the whole table: in the "
        "metrics, or in the loss as well.",
    )

    @property
    def decided_by(self) -> SplitBy:
        """Who says which rows are in which split."""
        if self.by is not None:
            return "label-owner"
        return "drawn" if self.reveals is None else "data-owner"
