"""One column and what is done to it: its rule, what stands for a missing value, how its training rows lay.

Imported by the preparation.

Shapes: N rows, K inputs.
"""

from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from moiety.config import ColumnRule
from moiety.data.categories import OneHot
from moiety.data.drift import Baseline, ColumnDrift, inner_edges, shares_of, stability_index
from moiety.data.missing import fill_value, is_text, missing_rows, require_finite
from moiety.data.rules import Fitted, Nothing, fit_rule
from moiety.data.table import Column, Table
from moiety.data.usual_rule import usual_rule
from moiety.errors import DataError

_REASONS: Final = {
    "empty": "it is missing in every training row",
    "constant": "every training row has the same value",
    "rare": "no category has as many training rows as its rule asks for",
}


class LeftOut(BaseModel):
    """A column that gives no input, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    name: str
    reason: Literal["empty", "constant", "rare"]

    @property
    def sentence(self) -> str:
        """Say it."""
        return f"column {self.name!r} is left out: {_REASONS[self.reason]}"


class PreparedColumn(BaseModel):
    """One feature and what is done to it.

    Args:
        name: the column.
        text: whether it held text when fitted.
        fitted: the fitted rule.
        fill: what stands where a number is missing; None for categories.
        indicator: whether an input of 0 and 1 tells which rows are missing, because training rows were.
        baseline: what is remembered of the training rows; None in what an early release saved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    name: str
    text: bool
    fitted: Fitted
    fill: Annotated[FiniteFloat | None, Field(repr=False)] = None
    indicator: bool = False
    baseline: Baseline | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        one_hot = isinstance(self.fitted, OneHot)
        text = isinstance(self.fitted, OneHot) and self.fitted.text
        if self.text != text and not isinstance(self.fitted, Nothing):
            raise ValueError("text needs text categories" if one_hot else "text needs one-hot")
        if not self.names:
            raise ValueError("a column gives at least one input")
        if self.baseline is not None:
            groups = _groups(self.fitted, self.baseline.edges)
            if len(self.baseline.shares) != groups:
                raise ValueError("the shares are of other groups")
        return self

    @property
    def names(self) -> list[str]:
        """Names of its inputs."""
        return [*self.fitted.names(self.name), *([f"{self.name} missing"] if self.indicator else [])]

    def values(self, table: Table) -> Column:
        """Take the column out of a table, of the kind it was fitted on; blank text becomes None.

        Raises:
            DataError: it is not there, is of the other kind, or has infinite values.
        """
        values_N = table.column(self.name)
        missing_N = missing_rows(values_N)
        if missing_N.all():  # a column without any value has no kind
            return _nothing(len(values_N), text=self.text)
        if is_text(values_N) != self.text:
            kinds = ("text", "numbers") if self.text else ("numbers", "text")
            raise DataError(
                f"column {self.name!r} held {kinds[0]} when fitted and holds {kinds[1]} in "
                f"{table.source.name}",
                hint="write the column in both tables in the same way",
            )
        require_finite(values_N, column=self.name, source=table.source.name)
        if self.text:
            values_N = values_N.copy()
            values_N[missing_N] = None
        return values_N

    def transform(self, values_N: Column) -> NDArray[np.float64]:
        """Make its inputs, shape (N, K), of what `values` gave."""
        missing_N = missing_rows(values_N)
        if isinstance(self.fitted, OneHot):
            inputs_NK = self.fitted.transform(values_N)
        else:
            inputs_NK = self.fitted.transform(self._filled(values_N, missing_N))
        if not self.indicator:
            return inputs_NK
        if isinstance(self.fitted, OneHot):
            inputs_NK[missing_N] = 0.0  # the indicator is its category
        return np.hstack([inputs_NK, missing_N[:, None].astype(np.float64)])

    def unseen(self, values_N: Column) -> int:
        """Count the rows, not missing, of a category that no training row had."""
        present_N = values_N[~missing_rows(values_N)]
        return self.fitted.unseen(present_N) if isinstance(self.fitted, OneHot) else 0

    def drift(self, values_N: Column) -> ColumnDrift | None:
        """Compare rows with the training rows; None where nothing is remembered of these."""
        if self.baseline is None:
            return None
        missing_N, now = missing_rows(values_N), shares_in(values_N, self.fitted, self.baseline.edges)
        before = np.array(self.baseline.shares)
        groups, rows = int(np.count_nonzero(before + now)), max(1, len(values_N))
        return ColumnDrift(
            name=self.name,
            rows=len(values_N),
            missing=int(missing_N.sum()),
            missing_before=float(before[-1]),
            unseen=self.unseen(values_N),
            outside=self._outside(values_N),
            stability=stability_index(before, now),
            expected=(groups - 1) * (1 / rows + 1 / self.baseline.rows),
        )

    def _filled(self, values_N: Column, missing_N: NDArray[np.bool_]) -> Column:
        if self.fill is None and missing_N.any() and not isinstance(self.fitted, Nothing):
            raise DataError(
                f"column {self.name!r} has {int(missing_N.sum())} missing values, and the saved preparation "
                "has nothing to put there",
                hint="fill them in, or train again with this release",
            )
        return values_N if self.fill is None else np.where(missing_N, self.fill, values_N)

    def _outside(self, values_N: Column) -> int:
        if isinstance(self.fitted, OneHot) or self.text or self.baseline is None:
            return 0
        numbers_N = values_N.astype(np.float64)
        return int(np.count_nonzero((numbers_N < self.baseline.low) | (numbers_N > self.baseline.high)))


def _nothing(rows: int, *, text: bool) -> Column:
    """Return a column without any value."""
    return np.full(rows, None, dtype=np.object_) if text else np.full(rows, np.nan)


def fit_column(
    table: Table, name: str, *, rule: ColumnRule | None, rows: NDArray[np.int64]
) -> PreparedColumn | LeftOut:
    """Fit a column's rule, and what stands for a missing value, to the training rows.

    Args:
        table: the table.
        name: the column.
        rule: from the run file; None for the usual one.
        rows: indices of the training rows.

    Returns:
        The column, or why it is left out.

    Raises:
        DataError: it is not there, has infinite values, or does not suit its rule.
    """
    values_N, source = table.column(name), table.source.name
    require_finite(values_N, column=name, source=source)
    training_N = values_N[rows]
    missing_N = missing_rows(training_N)
    present_N = training_N[~missing_N]
    text = is_text(values_N)
    if len(present_N) == 0:
        return LeftOut(name=name, reason="empty")
    if text and rule is not None and rule.rule != "one-hot":
        raise DataError(
            f"column {name!r} of {source} holds text; the rule {rule.rule!r} needs numbers",
            hint=f'set {name!r} to "one-hot" under [prepare], or leave the column out',
        )
    # A column that is given a rule keeps its place: a bottom model may count on it, as on pixels of an image.
    if rule is None and bool((present_N == present_N[0]).all()):
        return _fit_constant(name, training_N, text=text)
    chosen = rule or usual_rule(present_N, column=name, source=source)
    return _fit_varying(name, training_N, chosen, text=text)


def _fit_constant(name: str, training_N: Column, *, text: bool) -> PreparedColumn | LeftOut:
    """Keep nothing but the indicator, if some rows are missing."""
    if not missing_rows(training_N).any():
        return LeftOut(name=name, reason="constant")
    fitted = Nothing()
    return PreparedColumn(
        name=name, text=text, fitted=fitted, indicator=True, baseline=_baseline(training_N, fitted)
    )


def _fit_varying(name: str, training_N: Column, rule: ColumnRule, *, text: bool) -> PreparedColumn | LeftOut:
    missing_N = missing_rows(training_N)
    fill = None if rule.rule == "one-hot" else fill_value(training_N, rule.missing)
    complete_N = training_N[~missing_N] if fill is None else np.where(missing_N, fill, training_N)
    fitted = fit_rule(rule, complete_N, column=name)
    if isinstance(fitted, OneHot) and not fitted.categories:
        return LeftOut(name=name, reason="rare")
    return PreparedColumn(
        name=name,
        text=text,
        fitted=fitted,
        fill=fill,
        indicator=bool(missing_N.any()),
        baseline=_baseline(training_N, fitted),
    )


def _baseline(training_N: Column, fitted: Fitted) -> Baseline:
    """Remember how the training rows lay."""
    present_N = training_N[~missing_rows(training_N)]
    if isinstance(fitted, OneHot) or is_text(training_N):
        shares = shares_in(training_N, fitted, ())
        return Baseline(rows=len(training_N), shares=tuple(shares.tolist()))
    numbers_N = present_N.astype(np.float64)
    edges = inner_edges(numbers_N)
    return Baseline(
        rows=len(training_N),
        shares=tuple(shares_in(training_N, fitted, edges).tolist()),
        edges=edges,
        low=float(numbers_N.min()),
        high=float(numbers_N.max()),
    )


def _groups(fitted: Fitted, edges: tuple[float, ...]) -> int:
    """Count the groups of a column: categories or tenths, any other category, and what is missing."""
    return (len(fitted.categories) if isinstance(fitted, OneHot) else len(edges)) + 2


def shares_in(values_N: Column, fitted: Fitted, edges: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the share of rows in each group of a column, the last of them what is missing."""
    missing_N, groups = missing_rows(values_N), _groups(fitted, edges)
    groups_N = np.full(len(values_N), groups - 1, dtype=np.int64)
    present_N = values_N[~missing_N]
    if isinstance(fitted, OneHot):
        groups_N[~missing_N] = fitted.groups(present_N)
    elif is_text(values_N):
        groups_N[~missing_N] = 0
    else:
        groups_N[~missing_N] = np.searchsorted(edges, present_N.astype(np.float64))
    return shares_of(groups_N, groups=groups)
