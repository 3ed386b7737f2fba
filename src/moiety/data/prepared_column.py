"""One column and what is done to it: its rule, what stands for a missing value, how its training rows lay.

Imported by the preparation.

Shapes: N rows, K inputs.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from moiety.config import ColumnRule
from moiety.data.categories import OneHot, fit_one_hot
from moiety.data.drift import Baseline, ColumnDrift, number_rows, stability_index
from moiety.data.ordered import Ordered
from moiety.data.rules import Fitted, Nothing, fit_rule
from moiety.data.usual_rule import require_categories, usual_number_rule
from moiety.data.values import Numbers, Values
from moiety.errors import DataError

_REASONS: Final = {
    "empty": "it is missing in every training row",
    "constant": "every training row has the same value",
    "rare": "no category has as many training rows as its rule asks for",
}

_PIECE_VALUES: Final = 2**20  # 8 MiB, of which encoding makes several copies

Statistic = Literal["median", "mean", "most-frequent"]


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

    def of(self, values: Values, *, source: str) -> Values:
        """Take values of the kind that it was fitted on; a column without any value has no kind.

        Raises:
            DataError: they are of the other kind.
        """
        if values.missing == len(values):
            return Values.none(len(values), text=self.text)
        if values.text != self.text:
            kinds = ("text", "numbers") if self.text else ("numbers", "text")
            raise DataError(
                f"column {self.name!r} held {kinds[0]} when fitted and holds {kinds[1]} in {source}",
                hint="write the column in both tables in the same way",
            )
        return values

    def transform(self, values: Values) -> NDArray[np.float64]:
        """Make its inputs, shape (N, K), of what `of` gave."""
        if isinstance(self.fitted, OneHot):
            inputs_NK = self.fitted.transform(values.codes)
        elif isinstance(self.fitted, Nothing):
            inputs_NK = self.fitted.transform(len(values))
        else:
            inputs_NK = self.fitted.transform(self._filled(values))
        if not self.indicator:
            return inputs_NK
        if isinstance(self.fitted, OneHot):
            inputs_NK[values.is_missing] = 0.0  # the indicator is its category
        return np.hstack([inputs_NK, values.is_missing[:, None].astype(np.float64)])

    def pieces(self, values: Values) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Make the same inputs some rows at a time; yield each part with the number of its first row."""
        rows = max(1, _PIECE_VALUES // len(self.names))
        for first_row in range(0, len(values), rows):
            yield first_row, self.transform(values.take(slice(first_row, first_row + rows)))

    def drift(self, values: Values) -> ColumnDrift | None:
        """Compare rows with the training rows; None where nothing is remembered of these."""
        if self.baseline is None:
            return None
        before, now = np.array(self.baseline.shares), _shares(values, self.fitted, self.baseline.edges)
        groups, rows = int(np.count_nonzero(before + now)), max(1, len(values))
        return ColumnDrift(
            name=self.name,
            rows=len(values),
            missing=values.missing,
            missing_before=float(before[-1]),
            unseen=self.fitted.unseen(values.codes) if isinstance(self.fitted, OneHot) else 0,
            outside=self._outside(values, self.baseline),
            stability=stability_index(before, now),
            expected=(groups - 1) * (1 / rows + 1 / self.baseline.rows),
        )

    def _filled(self, values: Values) -> Numbers:
        if not values.missing:
            return values.numbers
        if self.fill is None:
            raise DataError(
                f"column {self.name!r} has {values.missing} missing values, and the saved preparation "
                "has nothing to put there",
                hint="fill them in, or train again with this release",
            )
        return np.where(values.is_missing, self.fill, values.numbers)

    def _outside(self, values: Values, baseline: Baseline) -> int:
        if isinstance(self.fitted, OneHot) or self.text:
            return 0
        return int(np.count_nonzero((values.numbers < baseline.low) | (values.numbers > baseline.high)))


def fit_column(
    values: Values, *, name: str, rule: ColumnRule | None, source: str
) -> PreparedColumn | LeftOut:
    """Fit a column's rule, and what stands for a missing value, to the training rows.

    Args:
        values: of the training rows.
        name: the column.
        rule: from the run file; None for the usual one.
        source: the table, for messages.

    Returns:
        The column, or why it is left out.

    Raises:
        DataError: it does not suit its rule.
    """
    if values.missing == len(values):
        return LeftOut(name=name, reason="empty")
    if holds_categories(values, rule):
        return _prepared(name, values, fit_categories(values, name=name, rule=rule, source=source))
    ordered = Ordered.of(values.present)
    # A column that is given a rule keeps its place: a bottom model may count on it, as on pixels of an image.
    if rule is None and ordered.low == ordered.high:
        return _prepared(name, values, without_difference(values, name=name), ordered=ordered)
    chosen = rule or usual_number_rule(values.present, ordered)
    fill = _fill_value(values, ordered, chosen.missing)
    complete_N = np.where(values.is_missing, fill, values.numbers) if values.missing else values.numbers
    return _prepared(name, values, fit_rule(chosen, complete_N, column=name), ordered=ordered, fill=fill)


def holds_categories(values: Values, rule: ColumnRule | None) -> bool:
    """Tell texts, and numbers that are to be categories, from numbers."""
    return values.text or (rule is not None and rule.rule == "one-hot")


def fit_categories(
    values: Values, *, name: str, rule: ColumnRule | None, source: str
) -> OneHot | Nothing | LeftOut:
    """Find the categories of rows that have some, and which of them get an input of their own.

    Raises:
        DataError: the values do not suit the rule.
    """
    if rule is not None and rule.rule != "one-hot":
        raise DataError(
            f"column {name!r} of {source} holds text; the rule {rule.rule!r} needs numbers",
            hint=f'set {name!r} to "one-hot" under [prepare], or leave the column out',
        )
    rows = values.codes.counts()
    if rule is None and len(rows) == 1:
        return without_difference(values, name=name)
    if rule is None:
        require_categories(distinct=len(rows), rows=len(values) - values.missing, column=name, source=source)
    fitted = fit_one_hot(rows, rule or ColumnRule(rule="one-hot"), column=name)
    return fitted if fitted.categories else LeftOut(name=name, reason="rare")


def without_difference(values: Values, *, name: str) -> Nothing | LeftOut:
    """Keep nothing but the indicator of a column that never differs, if some rows are missing."""
    return Nothing() if values.missing else LeftOut(name=name, reason="constant")


def _prepared(
    name: str,
    values: Values,
    found: Fitted | LeftOut,
    *,
    ordered: Ordered | None = None,
    fill: float | None = None,
) -> PreparedColumn | LeftOut:
    """Put a column together, if it is not left out; `ordered` are numbers that are no categories."""
    if isinstance(found, LeftOut):
        return found
    return PreparedColumn(
        name=name,
        text=values.text,
        fitted=found,
        fill=fill,
        indicator=bool(values.missing),
        baseline=_baseline(values, found, ordered),
    )


def _fill_value(values: Values, ordered: Ordered, statistic: Statistic) -> float:
    """Return what stands for a missing number: a statistic of those training rows that have one."""
    if statistic == "median":
        return ordered.median
    from sklearn.impute import SimpleImputer  # noqa: PLC0415  more than a second

    imputer = SimpleImputer(strategy=statistic.replace("-", "_")).fit(values.numbers[:, None])
    return float(imputer.statistics_[0])


def _baseline(values: Values, fitted: Fitted, ordered: Ordered | None) -> Baseline:
    """Remember how the training rows lay."""
    edges = () if ordered is None else ordered.tenths
    return Baseline(
        rows=len(values),
        shares=tuple(_shares(values, fitted, edges).tolist()),
        edges=edges,
        low=0.0 if ordered is None else ordered.low,
        high=0.0 if ordered is None else ordered.high,
    )


def _groups(fitted: Fitted, edges: tuple[float, ...]) -> int:
    """Count the groups of a column: categories or tenths, any other category, and what is missing."""
    return (len(fitted.categories) if isinstance(fitted, OneHot) else len(edges)) + 2


def _shares(values: Values, fitted: Fitted, edges: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the share of rows in each group of a column, the last of them what is missing."""
    if isinstance(fitted, OneHot):
        group_N = np.where(values.is_missing, len(fitted.categories) + 1, fitted.groups(values.codes))
        rows_G = np.bincount(group_N, minlength=_groups(fitted, edges))
    elif values.text:
        rows_G = np.array([len(values) - values.missing, values.missing])
    else:
        rows_G = number_rows(values.numbers, edges)
    return np.asarray(rows_G / max(1, len(values)), dtype=np.float64)
