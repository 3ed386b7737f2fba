"""Categories: an input of 0 and 1 for each, with one that the rarest share. Imported by rules.

Shapes: N rows, K inputs.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from moiety.config import ColumnRule
from moiety.data.values import Codes
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

    def transform(self, codes: Codes) -> NDArray[np.float64]:
        """Return the indicators, shape (N, K); a missing value is one that the fitted rows did not have."""
        inputs = len(self.categories) + bool(self.rare)
        return np.asarray(self.groups(codes)[:, None] == np.arange(inputs), dtype=np.float64)

    def unseen(self, codes: Codes) -> int:
        """Count the rows whose value is none of the categories, those without a value left out."""
        known = {*self.categories, *self.rare}
        return sum(rows for value, rows in codes.counts().items() if value not in known)

    def groups(self, codes: Codes) -> NDArray[np.int64]:
        """Tell which category each row has: its number, or the number of categories for any other."""
        return codes.look_up(self._places, other=len(self.categories))

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {value: number for number, value in enumerate(self.categories)}


def fit_one_hot(rows_by_value: Mapping[Any, int], rule: ColumnRule, *, column: str) -> OneHot:
    """Find the categories of some rows, and which of them get an input of their own.

    Args:
        rows_by_value: how many rows have each value, those that have none left out.
        rule: says how many inputs there may be, and how many rows a category needs for one.
        column: for messages.

    Raises:
        DataError: there are too many distinct values to be categories.

    Reference:
        `max_categories` and `min_frequency` of scikit-learn's OneHotEncoder, ties among them (ADR 0017)
    """
    if len(rows_by_value) > MAX_CATEGORIES:
        raise DataError(
            f"column {column!r} has {len(rows_by_value)} distinct values in the training rows; "
            f'the rule "one-hot" takes at most {MAX_CATEGORIES}',
            hint="leave the column out, group its values, or use a rule for numbers",
        )
    values = sorted(rows_by_value)
    rows_V = np.array([rows_by_value[value] for value in values])
    rare_V = rows_V < rule.least
    if rule.most < np.count_nonzero(~rare_V) + 1:
        # One input is for those that share; of values with as many rows, the later ones keep theirs.
        rare_V[np.argsort(rows_V, kind="stable")[: -(rule.most - 1)]] = True
    frequent, rare = (
        tuple(value for value, each in zip(values, rare_V.tolist(), strict=True) if each is shared)
        for shared in (False, True)
    )
    return OneHot(categories=frequent, rare=rare)


def _shown(category: str | float) -> str:
    """Show 2.0 as 2."""
    whole = isinstance(category, float) and category.is_integer()
    return str(int(category)) if whole else str(category)
