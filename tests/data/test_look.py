"""A look at features finds what a fit on all rows would refuse, in the same words, and counts the inputs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.config import ColumnRule
from moiety.data import look as looks
from moiety.data import prepared_column
from moiety.data.categories import MAX_CATEGORIES
from moiety.data.look import look
from moiety.data.preparation import Preparation, Unfitted
from moiety.data.table import Table
from moiety.data.usual_rule import FEWEST_IDS
from moiety.errors import MoietyError
from tests.data.test_preparation import table

RULES = [
    None,
    *("standard", "log", "min-max", "quantile", "none", "one-hot", "bins"),
    ColumnRule(rule="one-hot", most=3),
    ColumnRule(rule="one-hot", least=2),
    ColumnRule(rule="bins", bins=2, spread="uniform", inputs="ordinal"),
]
NUMBERS = st.one_of(
    st.none(),
    st.integers(-2, 2).map(float),
    st.floats(allow_nan=False),
    st.sampled_from([1e99, -1e101, 1e160, 1e308, -1e308, 5e-324]),
)
TEXTS = st.one_of(st.none(), st.sampled_from(["", " ", "a", "b", "c", "d"]))
COLUMN = st.one_of(st.lists(NUMBERS, min_size=2, max_size=12), st.lists(TEXTS, min_size=2, max_size=12))


def looked(source: Table, rules: dict[str, Any]) -> int | str:
    try:
        return look(source, Unfitted(features=source.names, rules=rules))
    except MoietyError as error:
        return f"{error.message}: {error.hint}"


def fitted(source: Table, rules: dict[str, Any]) -> int | str:
    try:
        return len(
            Preparation.fit(source, features=source.names, rules=rules, rows=np.arange(source.rows)).names
        )
    except MoietyError as error:
        return f"{error.message}: {error.hint}"


@given(values=COLUMN, rule=st.sampled_from(RULES))
def test_look_says_what_a_fit_on_all_rows_says(values: list[Any], rule: Any) -> None:
    source, rules = table(a=values), {} if rule is None else {"a": rule}
    assert looked(source, rules) == fitted(source, rules)


@pytest.mark.parametrize(
    ("columns", "rules"),
    [
        ({"a": [1.0, float("inf")]}, {}),
        ({"a": ["x", "y"]}, {"a": "standard"}),
        ({"a": ["x", "y"]}, {"a": "bins"}),
        ({"a": [f"n{number}" for number in range(FEWEST_IDS + 1)]}, {}),
        ({"a": [f"n{number}" for number in range(MAX_CATEGORIES + 1)]}, {"a": "one-hot"}),
        ({"a": np.arange(MAX_CATEGORIES + 1.0)}, {"a": "one-hot"}),
        ({"a": [-1e308, 1e308, 0.0]}, {"a": "standard"}),
        ({"a": [-1e308, 1e308, 0.0]}, {}),
        ({"a": [0.0] * 98 + [5.0, 7.0]}, {"a": "bins"}),
        ({"a": [1.0, 1.0], "b": ["x", "x"]}, {}),
        ({"a": ["x", "y"]}, {"a": ColumnRule(rule="one-hot", least=2)}),
        ({"a": [None, None], "b": ["", ""]}, {}),
    ],
)
def test_look_refuses_what_a_fit_would_refuse(columns: dict[str, Any], rules: dict[str, Any]) -> None:
    source = table(**columns)
    found = looked(source, rules)
    assert isinstance(found, str)
    assert found == fitted(source, rules)


def test_look_fits_nothing_but_what_it_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[str] = []
    fit = prepared_column.fit_column

    def fitting(*arguments: Any, **options: Any) -> Any:
        fits.append(options["name"])
        return fit(*arguments, **options)

    monkeypatch.setattr(looks, "fit_column", fitting)
    values = np.arange(40.0)
    columns: dict[str, Any] = {f"r{number}": values for number in range(len(RULES))}
    rules = {name: rule for name, rule in zip([*columns], RULES, strict=True) if rule is not None}
    columns["text"] = ["x", "y"] * 20
    look(table(**columns), Unfitted(features=[*columns], rules=rules))
    bins = [name for name, rule in rules.items() if rule == "bins" or getattr(rule, "rule", "") == "bins"]
    assert fits == bins
    look(table(large=values * 1e99), Unfitted(features=["large"], rules={}))
    assert fits == [*bins, "large"]
