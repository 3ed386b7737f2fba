"""What can be done to one column: a fitted rule each, with its arrays.

The arithmetic is scikit-learn's, to the last bit. Its transformers do it for quantiles and bins; loading them
takes longer than preparing most tables, so what the usual rule takes is written here (ADR 0026). A fitted
rule holds plain numbers; so a saved rule is JSON and gives the same floats on every load.
Imported by prepared columns.

Shapes: N rows, K inputs.
"""

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, PositiveFloat, model_validator

from moiety.config import ColumnRule, RuleName
from moiety.data.categories import FittedRule, OneHot
from moiety.data.values import Numbers
from moiety.errors import DataError

_EPSILON: Final = float(np.finfo(np.float64).eps)
MAX_QUANTILES: Final = 1000
# The quantile rule keeps results within the normal distribution's quantiles of 1e-7 and 1 - 1e-7,
# which is scikit-learn's own limit: abs <= 5.2, far inside the range of activations.

Finite = Annotated[FiniteFloat, Field(repr=False)]


class Unchanged(FittedRule):
    """The values as they are."""

    rule: Literal["none"] = "none"

    def transform(self, values_N: Numbers) -> NDArray[np.float64]:
        """Return the values, shape (N, 1)."""
        return values_N[:, None]


class Nothing(FittedRule):
    """No input: the values never differed, and only whether one is missing may say something."""

    rule: Literal["nothing"] = "nothing"

    def names(self, column: str) -> list[str]:
        """Name no inputs."""
        del column
        return []

    def transform(self, rows: int) -> NDArray[np.float64]:
        """Return nothing, shape (rows, 0)."""
        return np.zeros((rows, 0))


class Scaled(FittedRule):
    """Zero mean and unit variance, for "log" after sign(x) * log(1 + |x|).

    Args:
        mean: of the fitted rows.
        scale: standard deviation of the fitted rows; 1 where they are constant.
    """

    rule: Literal["standard", "log"]
    mean: Finite
    scale: Annotated[PositiveFloat, Field(repr=False)]

    def transform(self, values_N: Numbers) -> NDArray[np.float64]:
        """Return the scaled values, shape (N, 1)."""
        return (_before_scaling(values_N, self.rule) - self.mean)[:, None] / self.scale


class Ranged(FittedRule):
    """The fitted rows from 0 to 1: a column of two values becomes 0 and 1.

    Args:
        scale: x * scale + shift is the input.
        shift: likewise.
    """

    rule: Literal["min-max"] = "min-max"
    scale: Annotated[PositiveFloat, Field(repr=False)]
    shift: Finite

    def transform(self, values_N: Numbers) -> NDArray[np.float64]:
        """Return the scaled values, shape (N, 1)."""
        scaled_N1: NDArray[np.float64] = values_N[:, None] * self.scale + self.shift
        return scaled_N1


class Quantiles(FittedRule):
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

    def transform(self, values_N: Numbers) -> NDArray[np.float64]:
        """Return the normal values, shape (N, 1)."""
        from sklearn.preprocessing import QuantileTransformer  # noqa: PLC0415

        count = len(self.quantiles)
        mapping = QuantileTransformer(n_quantiles=count, output_distribution="normal")
        mapping.n_quantiles_, mapping.n_features_in_ = count, 1
        mapping.quantiles_ = np.array(self.quantiles)[:, None]
        mapping.references_ = np.linspace(0, 1, count, endpoint=True)
        normal_N1: NDArray[np.float64] = mapping.transform(values_N[:, None])
        return normal_N1


class Bins(FittedRule):
    """The bin that a value falls into; values beyond the fitted rows fall into the first or last one.

    Args:
        edges: of the bins, ascending: one more than there are bins.
        inputs: "one-hot" for an input of 0 and 1 for each bin, "ordinal" for the number of the bin in one
            input, from 0 to 1.
    """

    rule: Literal["bins"] = "bins"
    edges: Annotated[tuple[FiniteFloat, ...], Field(min_length=3, max_length=1025, repr=False)]
    inputs: Literal["one-hot", "ordinal"]

    @model_validator(mode="after")
    def _check_ascending(self) -> "Bins":
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges must ascend")
        return self

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.edges) - 1

    def names(self, column: str) -> list[str]:
        """Name the inputs, as in `AGE bin 3`, from 1."""
        if self.inputs == "ordinal":
            return [column]
        return [f"{column} bin {number}" for number in range(1, self.bins + 1)]

    def transform(self, values_N: Numbers) -> NDArray[np.float64]:
        """Return indicators, shape (N, K), or numbers of bins over the largest, shape (N, 1)."""
        from sklearn.preprocessing import KBinsDiscretizer  # noqa: PLC0415

        binner = KBinsDiscretizer(n_bins=self.bins, encode="ordinal")
        binner.n_bins_, binner.n_features_in_ = np.array([self.bins]), 1
        binner.bin_edges_ = np.empty(1, dtype=np.object_)
        binner.bin_edges_[0] = np.array(self.edges)
        number_N1: NDArray[np.float64] = binner.transform(values_N[:, None])
        if self.inputs == "one-hot":
            return np.asarray(number_N1 == np.arange(self.bins), dtype=np.float64)
        ordinal_N1: NDArray[np.float64] = number_N1 / (self.bins - 1)
        return ordinal_N1


Fitted = Annotated[
    Unchanged | Nothing | Scaled | Ranged | Quantiles | Bins | OneHot, Field(discriminator="rule")
]


def fit_rule(rule: ColumnRule, values_N: Numbers, *, column: str) -> Fitted:
    """Fit a rule for numbers to the values of the training rows.

    Args:
        rule: from the run file, or the usual one; not "one-hot".
        values_N: the values, none missing or infinite.
        column: for messages.

    Returns:
        The fitted rule.

    Raises:
        DataError: the values spread too far to be scaled, or fall into one bin.
    """
    fits: dict[RuleName, Callable[[], Fitted]] = {
        "none": Unchanged,
        "standard": lambda: _fit_scaled("standard", values_N, column),
        "log": lambda: _fit_scaled("log", values_N, column),
        "min-max": lambda: _fit_ranged(values_N, column),
        "quantile": lambda: _fit_quantiles(values_N),
        "bins": lambda: _fit_bins(rule, values_N, column),
    }
    return fits[rule.rule]()


def _fit_scaled(rule: Literal["standard", "log"], values_N: Numbers, column: str) -> Scaled:
    """Fit mean and standard deviation in two passes, the second corrected by its own mean.

    Reference:
        StandardScaler of scikit-learn, to the last bit (ADR 0017); Chan, Golub and LeVeque, Algorithms for
        computing the sample variance, The American Statistician 37 (1983), equation 1.7
    """
    numbers_N, count = _before_scaling(values_N, rule), len(values_N)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        mean = numbers_N.sum() / count
        deviation_N = numbers_N - mean
        correction = deviation_N.sum() ** 2 / count
        variance = (np.square(deviation_N).sum() - correction) / count
        # The two passes' own error is as large: the values do not differ.
        constant = variance <= count * _EPSILON * variance + (count * mean * _EPSILON) ** 2
    if not np.isfinite([mean, variance]).all():
        raise _spread_too_far(rule, column)
    return Scaled(rule=rule, mean=float(mean), scale=1.0 if constant else float(np.sqrt(variance)))


def _fit_ranged(values_N: Numbers, column: str) -> Ranged:
    """Fit smallest and largest value; values that do not differ are only shifted.

    Reference:
        MinMaxScaler of scikit-learn, to the last bit (ADR 0017)
    """
    low, high = float(values_N.min()), float(values_N.max())
    width = 1.0 if high - low < 10 * _EPSILON else high - low
    scale = 1.0 / width
    if not (np.isfinite([scale, low * scale]).all() and scale > 0):
        raise _spread_too_far("min-max", column)
    return Ranged(scale=scale, shift=0.0 - low * scale)


def _fit_quantiles(values_N: Numbers) -> Quantiles:
    from sklearn.preprocessing import QuantileTransformer  # noqa: PLC0415

    # subsample=None: all rows count, and no random choice is made.
    mapping = QuantileTransformer(n_quantiles=min(MAX_QUANTILES, len(values_N)), subsample=None).fit(
        values_N[:, None]
    )
    return Quantiles(quantiles=tuple(mapping.quantiles_[:, 0].tolist()))


def _fit_bins(rule: ColumnRule, values_N: Numbers, column: str) -> Bins:
    from sklearn.preprocessing import KBinsDiscretizer  # noqa: PLC0415

    binner = KBinsDiscretizer(rule.bins, encode="ordinal", strategy=rule.spread, subsample=None)
    # Releases differ in how they take quantiles, and warn of it; the edges found are what is saved. Bins that
    # repeated values leave empty are dropped, with a warning.
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")
        binner.fit(values_N[:, None])
    edges = tuple(binner.bin_edges_[0].tolist())
    if not np.isfinite(edges).all():
        raise _spread_too_far("bins", column)
    if len(edges) < 3:  # noqa: PLR2004  two bins have three edges
        raise DataError(
            f"the values of column {column!r} all fall into one bin: most training rows have the same one",
            hint='add spread = "uniform" to its rule, or set it to "log" or "one-hot" under [prepare]',
        )
    return Bins(edges=edges, inputs=rule.inputs)


def _before_scaling(values_N: Numbers, rule: Literal["standard", "log"]) -> Numbers:
    return np.sign(values_N) * np.log1p(np.abs(values_N)) if rule == "log" else values_N


def _spread_too_far(rule: str, column: str) -> DataError:
    return DataError(
        f"the values of column {column!r} spread too far for the rule {rule!r}",
        hint=f'set {column!r} to "log" or "quantile" under [prepare], or leave it out',
    )
