"""What can be done to one column: a fitted rule each, with its arrays.

scikit-learn's transformers do the arithmetic. A fitted rule holds plain numbers, from which the
transformer is put together again; so a saved rule is JSON and gives the same floats on every load.
Imported by preparation.

Shapes: N rows, K output columns.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, model_validator

from moiety.data.table import Column
from moiety.errors import DataError

RuleName = Literal["standard", "log", "quantile", "one-hot", "none"]
RULE_NAMES: tuple[RuleName, ...] = get_args(RuleName)

MAX_CATEGORIES = 1024  # more distinct values than this are ids or measurements, not categories
MAX_QUANTILES = 1000
# The quantile rule keeps results within the normal distribution's quantiles of 1e-7 and 1 - 1e-7,
# which is scikit-learn's own limit: abs <= 5.2, far inside the range of activations.

Finite = Annotated[FiniteFloat, Field(repr=False)]
Values = tuple[str, ...] | tuple[FiniteFloat, ...]


class _Fitted(BaseModel):
    """What all fitted rules have in common: immutable, checked, never quoting its content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    def names(self, column: str) -> list[str]:
        """Name the output columns."""
        return [column]


class Unchanged(_Fitted):
    """The values as they are."""

    rule: Literal["none"] = "none"

    def transform(self, values_N: Column) -> NDArray[np.float64]:
        """Return the values, shape (N, 1)."""
        return np.asarray(values_N, dtype=np.float64)[:, None]


class Scaled(_Fitted):
    """Zero mean and unit variance, for "log" after sign(x) * log(1 + |x|).

    Args:
        mean: of the fitted rows.
        scale: standard deviation of the fitted rows; 1 where they are constant.
    """

    rule: Literal["standard", "log"]
    mean: Finite
    scale: Annotated[PositiveFloat, Field(repr=False)]

    def transform(self, values_N: Column) -> NDArray[np.float64]:
        """Return the scaled values, shape (N, 1)."""
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415  most of a second

        scaler = StandardScaler()
        scaler.mean_, scaler.scale_ = np.array([self.mean]), np.array([self.scale])
        scaler.n_features_in_ = 1
        scaled_N1: NDArray[np.float64] = scaler.transform(_before_scaling(values_N, self.rule))
        return scaled_N1


class Quantiles(_Fitted):
    """The place among the fitted rows, as the value of a normal distribution with that place.

    Args:
        quantiles: evenly spaced quantiles of the fitted rows, ascending.
    """

    rule: Literal["quantile"] = "quantile"
    quantiles: Annotated[tuple[FiniteFloat, ...], Field(min_length=1, repr=False)]

    @model_validator(mode="after")
    def _check_ascending(self) -> "Quantiles":
        if any(low > high for low, high in pairwise(self.quantiles)):
            raise ValueError("quantiles must ascend")
        return self

    def transform(self, values_N: Column) -> NDArray[np.float64]:
        """Return the normal values, shape (N, 1)."""
        from sklearn.preprocessing import QuantileTransformer  # noqa: PLC0415

        count = len(self.quantiles)
        mapping = QuantileTransformer(n_quantiles=count, output_distribution="normal")
        mapping.n_quantiles_, mapping.n_features_in_ = count, 1
        mapping.quantiles_ = np.array(self.quantiles)[:, None]
        mapping.references_ = np.linspace(0, 1, count, endpoint=True)
        normal_N1: NDArray[np.float64] = mapping.transform(np.asarray(values_N, dtype=np.float64)[:, None])
        return normal_N1


class OneHot(_Fitted):
    """A column of 0 and 1 for every value of the fitted rows; all 0 for any other value.

    Args:
        categories: the distinct values of the fitted rows, ascending.
    """

    rule: Literal["one-hot"] = "one-hot"
    categories: Annotated[Values, Field(min_length=1, max_length=MAX_CATEGORIES, repr=False)]

    @model_validator(mode="after")
    def _check_ascending(self) -> "OneHot":
        if any(low >= high for low, high in pairwise(self._objects())):
            raise ValueError("categories must ascend")
        return self

    @property
    def text(self) -> bool:
        """Whether the categories are text, and not numbers."""
        return isinstance(self.categories[0], str)

    def names(self, column: str) -> list[str]:
        """Name the output columns, as in `EDUCATION=2`."""
        return [f"{column}={_shown(category)}" for category in self.categories]

    def transform(self, values_N: Column) -> NDArray[np.float64]:
        """Return the indicators, shape (N, K)."""
        from sklearn.preprocessing import OneHotEncoder  # noqa: PLC0415

        categories = self._array()
        encoder = OneHotEncoder(
            categories=[categories], handle_unknown="ignore", sparse_output=False, dtype=np.float64
        )
        encoder.fit(categories[:, None])
        indicators_NK: NDArray[np.float64] = encoder.transform(values_N[:, None])
        return indicators_NK

    def unseen(self, values_N: Column) -> int:
        """Count the rows whose value is none of the categories."""
        known = set(self.categories)
        return sum(value not in known for value in values_N.tolist())

    def _objects(self) -> tuple[Any, ...]:
        return self.categories

    def _array(self) -> NDArray[Any]:
        return np.array(self.categories, dtype=np.object_ if self.text else np.float64)


Fitted = Annotated[Unchanged | Scaled | Quantiles | OneHot, Field(discriminator="rule")]


def fit_rule(rule: RuleName, values_N: Column, *, column: str) -> Fitted:
    """Fit a rule to the values of the training rows.

    Args:
        rule: one of RULE_NAMES.
        values_N: the values, none missing or infinite; numbers, unless the rule is "one-hot".
        column: for messages.

    Returns:
        The fitted rule.

    Raises:
        DataError: the values spread too far to be scaled, or are too many categories.
    """
    fits: dict[RuleName, Callable[[], Fitted]] = {
        "none": Unchanged,
        "standard": lambda: _fit_scaled("standard", values_N, column),
        "log": lambda: _fit_scaled("log", values_N, column),
        "quantile": lambda: _fit_quantiles(values_N),
        "one-hot": lambda: _fit_one_hot(values_N, column),
    }
    return fits[rule]()


def _fit_scaled(rule: Literal["standard", "log"], values_N: Column, column: str) -> Scaled:
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        scaler = StandardScaler().fit(_before_scaling(values_N, rule))
    mean, scale = float(scaler.mean_[0]), float(scaler.scale_[0])
    # scikit-learn takes an infinite variance for a constant column and scales by 1.
    if not np.isfinite([mean, float(scaler.var_[0])]).all():
        raise DataError(
            f"the values of column {column!r} spread too far for the rule {rule!r}",
            hint=f'set {column!r} to "log" or "quantile" under [prepare], or leave it out',
        )
    return Scaled(rule=rule, mean=mean, scale=scale)


def _fit_quantiles(values_N: Column) -> Quantiles:
    from sklearn.preprocessing import QuantileTransformer  # noqa: PLC0415

    # subsample=None: all rows count, and no random choice is made.
    mapping = QuantileTransformer(n_quantiles=min(MAX_QUANTILES, len(values_N)), subsample=None).fit(
        np.asarray(values_N, dtype=np.float64)[:, None]
    )
    return Quantiles(quantiles=tuple(mapping.quantiles_[:, 0].tolist()))


def _fit_one_hot(values_N: Column, column: str) -> OneHot:
    categories = tuple(sorted(set(values_N.tolist())))
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"column {column!r} has {len(categories)} distinct values in the training rows; "
            f'the rule "one-hot" takes at most {MAX_CATEGORIES}',
            hint="leave the column out, group its values, or use a rule for numbers",
        )
    return OneHot(categories=categories)


def _before_scaling(values_N: Column, rule: Literal["standard", "log"]) -> NDArray[np.float64]:
    numbers_N1 = np.asarray(values_N, dtype=np.float64)[:, None]
    return np.sign(numbers_N1) * np.log1p(np.abs(numbers_N1)) if rule == "log" else numbers_N1


def _shown(category: str | float) -> str:
    """Show 2.0 as 2."""
    whole = isinstance(category, float) and category.is_integer()
    return str(int(category)) if whole else str(category)
