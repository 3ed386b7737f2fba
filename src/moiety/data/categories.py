"""Categories: an input of 0 and 1 for each, with one that the rarest share. Imported by rules.

Shapes: N rows, K inputs.
"""

from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from moiety.config import ColumnRule
from moiety.data.table import Column
from moiety.errors import DataError


class FittedRule(BaseModel):
    """Immutable, checked, never quoting its content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    def names(self, column: str) -> list[str]:
        """Name the inputs."""
        return [column]


MAX_CATEGORIES: Final = 65_536  # of a column, those that share an input among them
_MAX_INPUTS: Final = 1024

Values = tuple[str, ...] | tuple[FiniteFloat, ...]


class OneHot(FittedRule):
    """An input of 0 and 1 for every frequent value of the fitted rows, and one for all others.

    The input for all others is there if some values of the fitted rows were rare; it is 1 for these and
    for any value that the fitted rows did not have. Without it, all inputs are 0 for such a value.

    Args:
        categories: the frequent values, ascending.
        rare: the rare values, ascending.
    """

    rule: Literal["one-hot"] = "one-hot"
    categories: Annotated[Values, Field(max_length=_MAX_INPUTS, repr=False)]
    rare: Annotated[Values, Field(max_length=MAX_CATEGORIES, repr=False)] = ()

    @model_validator(mode="after")
    def _check_ascending(self) -> "OneHot":
        if not self.categories and not self.rare:
            raise ValueError("there must be a category")
        if len({type(value) for value in (*self.categories, *self.rare)}) > 1:
            raise ValueError("categories must be of one type")
        groups: tuple[tuple[Any, ...], ...] = (self.categories, self.rare)
        if any(low >= high for group in groups for low, high in pairwise(group)):
            raise ValueError("categories must ascend")
        if set(self.categories) & set(self.rare):
            raise ValueError("a category is frequent or rare")
        return self

    @property
    def text(self) -> bool:
        """Whether the categories are text, and not numbers."""
        return isinstance((*self.categories, *self.rare)[0], str)

    def names(self, column: str) -> list[str]:
        """Name the inputs, as in `EDUCATION=2`, and `EDUCATION other` for the shared one."""
        shared = [f"{column} other"] if self.rare else []
        return [*(f"{column}={_shown(category)}" for category in self.categories), *shared]

    def transform(self, values_N: Column) -> NDArray[np.float64]:
        """Return the indicators, shape (N, K); a missing value is one that the fitted rows did not have."""
        indicators_NK: NDArray[np.float64] = self._encoder.transform(values_N[:, None])
        return indicators_NK

    def unseen(self, values_N: Column) -> int:
        """Count the rows whose value is none of the categories."""
        known = {*self.categories, *self.rare}
        return sum(value not in known for value in values_N.tolist())

    def groups(self, values_N: Column) -> NDArray[np.int64]:
        """Tell which category each row has: its number, or the number of categories for any other."""
        place = {value: number for number, value in enumerate(self.categories)}
        other = len(place)
        return np.array([place.get(value, other) for value in values_N.tolist()], dtype=np.int64)

    @cached_property
    def _encoder(self) -> Any:
        """Put the encoder together again, by a fit to two of each frequent value and one of each rare."""
        from sklearn.preprocessing import OneHotEncoder  # noqa: PLC0415  most of a second

        both = sorted([*self.categories, *self.rare])
        ordered = _column_of(both, text=self.text)
        encoder = OneHotEncoder(
            categories=[ordered],
            handle_unknown="infrequent_if_exist",
            min_frequency=2 if self.rare else None,
            sparse_output=False,
            dtype=np.float64,
        )
        twice = _column_of([*both, *self.categories], text=self.text)
        return encoder.fit(twice[:, None])


def fit_one_hot(values_N: Column, rule: ColumnRule, *, column: str) -> OneHot:
    """Find the categories of some rows, and which of them get an input of their own.

    Args:
        values_N: the values, none missing.
        rule: says how many inputs there may be, and how many rows a category needs for one.
        column: for messages.

    Raises:
        DataError: there are too many distinct values to be categories.
    """
    from sklearn.preprocessing import OneHotEncoder  # noqa: PLC0415

    distinct = len(set(values_N.tolist()))
    if distinct > MAX_CATEGORIES:
        raise DataError(
            f"column {column!r} has {distinct} distinct values in the training rows; "
            f'the rule "one-hot" takes at most {MAX_CATEGORIES}',
            hint="leave the column out, group its values, or use a rule for numbers",
        )
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=rule.most, min_frequency=rule.least
    ).fit(values_N[:, None])
    (found,), (rare,) = encoder.categories_, encoder.infrequent_categories_
    shared = set() if rare is None else set(rare.tolist())
    frequent = tuple(value for value in found.tolist() if value not in shared)
    return OneHot(categories=frequent, rare=tuple(sorted(shared)))


def _column_of(values: list[Any], *, text: bool) -> NDArray[Any]:
    return np.array(values, dtype=np.object_ if text else np.float64)


def _shown(category: str | float) -> str:
    """Show 2.0 as 2."""
    whole = isinstance(category, float) and category.is_integer()
    return str(int(category)) if whole else str(category)
