"""`[split]` of both roles: how rows become training, validation and test rows. Imported by `config` only."""

from datetime import date, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import model_validator

from moiety.config.problems import refusal
from moiety.config.section import Section
from moiety.config.values import Column, Fraction, either

LARGEST_SPLIT_SUM: Final = 0.95
"""Validation and test rows together stay below this, so that training rows remain."""

Cut = Annotated[
    datetime | date | int | float | str,
    either('write a number, or a date: 2025-07-01, or "2025-07-01" in quotes'),
]
SplitBy = Literal["drawn", "data-owner", "label-owner"]
"""Who says which rows are in which split: a jointly drawn seed, or the owner of a column."""


class PeriodSplit(Section):
    """`[split]` of a data owner, and what a label owner's has in common with it.

    Without `by` and `reveals`, both parties draw the split, and this table is left out at the data owner.

    Args:
        by: own column; rows with the largest values are test rows, those before them validation rows.
        validation: fraction of the rows that have a value, the newest before the test rows.
        test: fraction of the rows that have a value, the newest.
        validation_from: cut point instead of fractions: values from here on are no training rows.
        test_from: cut point instead of fractions: values from here on are test rows.
        missing: what a row without a value is; rows without one are refused if left out.
        reveals: "periods" says that the party without the column may learn which rows lie in which period,
            and alone, that the peer's column decides.
    """

    by: Column | None = None
    validation: Fraction = 0.1
    test: Fraction = 0.2
    validation_from: Cut | None = None
    test_from: Cut | None = None
    missing: Literal["train"] | None = None
    reveals: Literal["periods"] | None = None

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
    """`[split]` of a data owner: a column decides, its own or the peer's."""

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
    """`[split]` of a label owner.

    Args:
        stratify: weigh the rows of each class so that every split counts as if it had the classes in the
            shares of the whole table: in the metrics, or in the loss as well.
    """

    stratify: Literal["metrics", "metrics and loss"] | None = None

    @property
    def decided_by(self) -> SplitBy:
        """Who says which rows are in which split."""
        if self.by is not None:
            return "label-owner"
        return "drawn" if self.reveals is None else "data-owner"
