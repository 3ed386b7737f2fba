"""`[prepare]`: what is done to a column, as a word or as a small table.

    [prepare]
    income = "log"
    branch = { rule = "one-hot", max_inputs = 50, min_rows = 20 }
    age = { rule = "bins", bins = 10, inputs = "ordinal", missing = "mean" }

Imported by `config` and, as what it gives, by the preparation of tables.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from moiety.config.problems import refusal
from moiety.config.section import Section

RuleName = Literal["standard", "log", "quantile", "min-max", "bins", "one-hot", "none"]
RULE_NAMES: Final[tuple[RuleName, ...]] = get_args(RuleName)

MOST_INPUTS: Final = 1024

_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "one-hot": ("max_inputs", "min_rows"),
    "bins": ("bins", "spread", "inputs", "missing"),
}
_NUMBER_OPTIONS: Final = ("missing",)
_EARLIER: Final[Mapping[str, str]] = {"most": "max_inputs", "least": "min_rows"}
"""Names of options in run files of version 0.1.0, which are still read."""


class ColumnRule(Section):
    """What is done to one column."""

    rule: RuleName = Field(description="How its values become inputs.")
    max_inputs: int = Field(
        default=64,
        ge=2,
        le=MOST_INPUTS,
        description='Of "one-hot": maximum number of inputs; the rarest categories share one of them.',
    )
    min_rows: int = Field(
        default=1,
        ge=1,
        le=2**32,
        description='Of "one-hot": training rows that a category needs for an input of its own.',
    )
    bins: int = Field(default=10, ge=2, le=MOST_INPUTS, description='Of "bins": how many.')
    spread: Literal["quantile", "uniform"] = Field(
        default="quantile",
        description='Of "bins": "quantile" puts about as many training rows into each, "uniform" makes all '
        "equally wide.",
    )
    inputs: Literal["one-hot", "ordinal"] = Field(
        default="one-hot",
        description='Of "bins": "one-hot" gives an input for each bin, "ordinal" a single one, from 0 to 1.',
    )
    missing: Literal["median", "mean", "most-frequent"] = Field(
        default="median",
        description="Of rules for numbers: the statistic of the training rows that replaces a missing value.",
    )

    @model_validator(mode="after")
    def _options_of_its_rule(self) -> Self:
        takes = _OPTIONS.get(self.rule, _NUMBER_OPTIONS)
        for name in sorted(self.model_fields_set - {"rule"}):
            if name not in takes:
                raise refusal(
                    f'has {name}, which the rule "{self.rule}" does not take',
                    hint=f"use nothing but {', '.join(takes)}",
                )
        return self


def _present(name: str, table: Mapping[str, Any]) -> str:
    """Return the name that an option has now; under both names, the earlier one is unknown."""
    now = _EARLIER.get(name, name)
    return name if now in table else now


def _as_table(value: Any) -> Any:
    """Let a word stand for a table with that rule."""
    if isinstance(value, str):
        return {"rule": value}
    if isinstance(value, dict):
        return {_present(name, value): each for name, each in value.items()}
    if not isinstance(value, ColumnRule):
        raise refusal(
            "is no rule",
            hint='write a rule in quotes, or a table: { rule = "one-hot", max_inputs = 50 }',
        )
    return value


PrepareRule = Annotated[ColumnRule, BeforeValidator(_as_table, json_schema_input_type=RuleName | ColumnRule)]
"""How a column becomes inputs, as a run file says it."""
