"""A look at features before anybody is connected: what would keep them from being prepared is found here.

One read of each column, for types, holes and the number of categories. Nothing is fitted, but where a look
cannot tell: bins, and numbers so large that scaling them may overflow. Imported by both parties' loops.

Shapes: N rows.
"""

from typing import Final

import numpy as np

from moiety.config import ColumnRule
from moiety.data.preparation import Unfitted, require_inputs
from moiety.data.prepared_column import (
    LeftOut,
    fit_categories,
    fit_column,
    holds_categories,
    without_difference,
)
from moiety.data.rules import Fitted
from moiety.data.table import Table
from moiety.data.values import Values, read_values

_SURELY_SCALED: Final = 1e100  # a sum of 2^64 squares of numbers below it is finite


def look(table: Table, wanted: Unfitted) -> int:
    """Return how many inputs features give, fitted on all rows; on some of the rows it can be fewer.

    Args:
        table: the table.
        wanted: the features.

    Raises:
        DataError: a column is not there, has infinite values, or does not suit its rule; or no feature has an
            input to give.
    """
    source = table.source.name
    found = [look_at(read_values(table, name), name, rule, source) for name, rule in wanted.each()]
    left_out = [each for each in found if isinstance(each, LeftOut)]
    inputs = [each for each in found if isinstance(each, int)]
    require_inputs(inputs, left_out, source=source)
    return sum(inputs)


def look_at(values: Values, name: str, rule: ColumnRule | None, source: str) -> int | LeftOut:
    """Return how many inputs a column gives, or why it is left out.

    Raises:
        DataError: it does not suit its rule.
    """
    if values.missing == len(values):
        return LeftOut(name=name, reason="empty")
    indicator = bool(values.missing)
    if holds_categories(values, rule):
        categories = fit_categories(values, name=name, rule=rule, source=source)
        return _inputs(categories, name, indicator=indicator)
    low, high = float(np.fmin.reduce(values.numbers)), float(np.fmax.reduce(values.numbers))
    if rule is None and low == high:
        return _inputs(without_difference(values, name=name), name, indicator=indicator)
    if max(-low, high) >= _SURELY_SCALED or (rule is not None and rule.rule == "bins"):
        fitted = fit_column(values, name=name, rule=rule, source=source)
        return fitted if isinstance(fitted, LeftOut) else len(fitted.names)
    return 1 + indicator


def _inputs(found: Fitted | LeftOut, name: str, *, indicator: bool) -> int | LeftOut:
    return found if isinstance(found, LeftOut) else len(found.names(name)) + indicator
