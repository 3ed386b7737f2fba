import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moiety.config import ColumnRule
from moiety.data import prepared_column
from moiety.data.categories import MAX_CATEGORIES
from moiety.data.drift import ColumnDrift
from moiety.data.preparation import Preparation
from moiety.data.rules import Quantiles, Scaled, fit_rule
from moiety.data.table import Table
from moiety.data.table_pass import TablePass
from moiety.data.usual_rule import FEWEST_IDS
from moiety.errors import CheckpointCorruptError, ConfigError, DataError


def table(**columns: Any) -> Table:
    arrow = pa.table(columns)
    return Table(
        source=Path("t.csv"),
        rows=arrow.num_rows,
        names=tuple(arrow.column_names),
        read=arrow.column,
    )


def fit(source: Table, rules: Mapping[str, str] | None = None, rows: list[int] | None = None) -> Preparation:
    indices: NDArray[np.int64] = np.array(range(source.rows) if rows is None else rows, np.int64)
    return Preparation.fit(source, features=source.names, rules=rules or {}, rows=indices)


def unseen(preparation: Preparation, later: Table) -> dict[str, int]:
    """Count rows of categories that no training row had, by column."""
    return {each.name: each.unseen for each in drifts(preparation, later)}


def drifts(
    preparation: Preparation, later: Table, *, training: NDArray[np.int64] | None = None
) -> list[ColumnDrift]:
    """Compare rows with the training rows."""
    passed = TablePass(later, preparation, training=training)
    passed.stacked()
    return passed.drifts


MIXED = table(
    a=[1.0, 2.0, 6.0, 3.0], b=["x", "y", "x", "z"], c=[0, 100, -1000, 5], d=[5, 6, 7, 8], e=[1, 2, 1, 2]
)
MIXED_RULES = {"c": "log", "d": "quantile", "e": "one-hot", "a": "none"}


def test_fit_uses_training_rows_only() -> None:
    prepared_ND = fit(table(a=[1, 3, 1000]), rows=[0, 1]).transform(table(a=[1, 3, 2]))
    np.testing.assert_allclose(prepared_ND, [[-1], [1], [0]])


def test_default_rules_are_standard_and_one_hot() -> None:
    preparation = fit(table(a=[0, 2], b=["x", "y"]))
    assert preparation.names == ("a", "b=x", "b=y")
    np.testing.assert_allclose(preparation.transform(table(a=[0, 2], b=["x", "y"])), [[-1, 1, 0], [1, 0, 1]])


def test_log_rule_is_symmetric_and_standardised() -> None:
    values = [-1000.0, -1.0, 0.0, 1.0, 1000.0]
    prepared_ND = fit(table(a=values), {"a": "log"}).transform(table(a=values))
    logs = np.sign(values) * np.log1p(np.abs(values))
    np.testing.assert_allclose(prepared_ND[:, 0], logs / logs.std(), atol=1e-12)


def test_quantile_rule_is_normal_and_bounded() -> None:
    values = np.exp(np.linspace(-20, 20, 2001))
    preparation = fit(table(a=values), {"a": "quantile"})
    prepared_ND = preparation.transform(table(a=[-1e300, values[1000], 1e300]))
    np.testing.assert_allclose(prepared_ND[:, 0], [-5.2, 0, 5.2], atol=0.01)


def test_quantile_rule_counts_every_row_the_same_on_each_fit() -> None:
    values = np.arange(20_000) ** 2  # above the size from which scikit-learn would draw a sample
    first, second = (fit(table(a=values), {"a": "quantile"}).to_json() for _ in range(2))
    assert first == second


def test_quantile_rule_of_one_row_works() -> None:
    rule = fit_rule(ColumnRule(rule="quantile"), np.array([3.0]), column="a")
    assert isinstance(rule, Quantiles)
    assert np.isfinite(rule.transform(np.array([2.0, 3.0, 4.0]))).all()


def test_none_rule_keeps_values() -> None:
    np.testing.assert_array_equal(fit(table(a=[1.5, -9]), {"a": "none"}).transform(table(a=[7.25])), [[7.25]])


def test_one_hot_rule_on_numbers_shows_whole_names() -> None:
    assert fit(table(a=[2, -1, 2.5]), {"a": "one-hot"}).names == ("a=-1", "a=2", "a=2.5")


def test_constant_and_empty_columns_are_left_out_and_named() -> None:
    source = table(a=[1, 2, 3], b=[0.1] * 3, c=[None, None, 5.0], d=["x", "x", "y"], e=["", " ", None])
    preparation = fit(source, rows=[0, 1])
    assert preparation.names == ("a",)
    assert [(column.name, column.reason) for column in preparation.left_out] == [
        ("b", "constant"),
        ("c", "empty"),
        ("d", "constant"),
        ("e", "empty"),
    ]
    assert "'b' is left out: every training row has the same value" in preparation.left_out[0].sentence
    assert "missing in every training row" in preparation.left_out[1].sentence
    # At prediction they need not even be there.
    np.testing.assert_allclose(preparation.transform(table(a=[1, 2])), [[-1], [1]])


def test_a_constant_column_with_a_rule_keeps_its_place() -> None:
    constant = table(a=[0.1] * 7, b=[3.0] * 7, c=[3.0] * 7, d=["x"] * 7)
    rules = {"a": "standard", "b": "none", "c": "min-max", "d": "one-hot"}
    np.testing.assert_allclose(fit(constant, rules).transform(constant), [[0, 3, 0, 1]] * 7, atol=1e-15)


def test_a_table_without_any_use_is_refused() -> None:
    with pytest.raises(DataError, match=r"no feature of t\.csv tells .* apart: column 'a'") as caught:
        fit(table(a=[1, 1], b=["x", "x"]))
    assert caught.value.hint


def test_unseen_category_gives_zeros_and_is_counted() -> None:
    preparation = fit(table(a=["x", "y", "z"], b=[1, 2, 3]), {"b": "one-hot"}, rows=[0, 1])
    later = table(a=["z", "y", "w"], b=[1, 3, 2])
    assert unseen(preparation, later) == {"a": 2, "b": 1}
    np.testing.assert_array_equal(preparation.transform(later), [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("values", [1, 3, 7, 100])
def test_pieces_are_the_same_floats_in_every_size(monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    preparation = fit(MIXED, MIXED_RULES)
    expected_ND = preparation.transform(MIXED)
    found_ND = np.full(expected_ND.shape, np.nan)
    monkeypatch.setattr(prepared_column, "_PIECE_VALUES", values)
    for piece in TablePass(MIXED, preparation, training=None):
        rows, inputs = piece.values_nK.shape
        assert piece.values_nK.size <= max(values, inputs)
        place = found_ND[piece.first_row :, piece.first_input :][:rows, :inputs]
        assert np.isnan(place).all()
        place[:] = piece.values_nK
    np.testing.assert_array_equal(found_ND, expected_ND)


def test_pieces_read_a_column_once_and_when_it_is_due() -> None:
    read: list[str] = []

    def recorded(name: str) -> Any:
        read.append(name)
        return MIXED.read(name)

    pieces = iter(TablePass(replace(MIXED, read=recorded), fit(MIXED, MIXED_RULES), training=None))
    for name in MIXED.names:
        next(pieces)
        assert read == list(MIXED.names[: MIXED.names.index(name) + 1])
    assert not list(pieces)


def test_pieces_of_a_bad_column_are_refused() -> None:
    preparation = fit(table(a=[1, 2], b=[1, 2]))
    pieces = iter(TablePass(table(a=[1, 2], b=[1, float("inf")]), preparation, training=None))
    next(pieces)
    with pytest.raises(DataError, match=r"column 'b' of t\.csv has 1 infinite"):
        next(pieces)


def test_piece_repr_shows_no_values() -> None:
    passed = TablePass(table(a=[4711]), fit(table(a=[4711, 1]), {"a": "none"}), training=None)
    assert "4711" not in repr(next(iter(passed)))


def test_saved_preparation_gives_the_same_floats() -> None:
    preparation = fit(MIXED, MIXED_RULES)
    loaded = Preparation.from_json(preparation.to_json())
    assert loaded == preparation
    assert loaded.names == preparation.names
    np.testing.assert_array_equal(loaded.transform(MIXED), preparation.transform(MIXED))


@given(
    mean=st.floats(allow_nan=False, allow_infinity=False),
    scale=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)
def test_saved_floats_come_back_exactly(mean: float, scale: float) -> None:
    rule = Scaled(rule="standard", mean=mean, scale=scale)
    assert Scaled.model_validate_json(rule.model_dump_json()) == rule


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1).map(sorted))
def test_saved_quantiles_come_back_exactly(quantiles: list[float]) -> None:
    rule = Quantiles(quantiles=tuple(quantiles))
    assert Quantiles.model_validate_json(rule.model_dump_json()) == rule


def test_transform_equals_scikit_learn() -> None:
    from sklearn.preprocessing import QuantileTransformer, StandardScaler  # noqa: PLC0415

    values = np.sinh(np.linspace(-4, 5, 999))[:, None]
    columns = table(a=values[:, 0], b=values[:, 0])
    expected = [
        StandardScaler().fit_transform(values),
        QuantileTransformer(n_quantiles=999, output_distribution="normal", subsample=None).fit_transform(
            values
        ),
    ]
    prepared_ND = fit(columns, {"b": "quantile"}).transform(columns)
    np.testing.assert_array_equal(prepared_ND, np.hstack(expected))


def damaged(path: list[str | int], value: object) -> str:
    state = json.loads(fit(MIXED, MIXED_RULES).to_json())
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(state)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        fit(MIXED, MIXED_RULES).to_json()[:-2],
        damaged(["version"], 3),
        damaged(["columns"], []),
        damaged(["more"], 1),
        damaged(["columns", 0, "name"], "b"),
        damaged(["columns", 0, "fitted", "rule"], "other"),
        damaged(["columns", 1, "text"], value=False),
        damaged(["columns", 0, "text"], value=True),
        damaged(["columns", 1, "fitted", "categories"], ["y", "x"]),
        damaged(["columns", 1, "fitted", "categories"], ["x", "x"]),
        damaged(["columns", 1, "fitted", "categories"], ["x", 1.0]),
        damaged(["columns", 1, "fitted", "categories"], []),
        damaged(["columns", 2, "fitted", "mean"], float("nan")),
        damaged(["columns", 2, "fitted", "scale"], float("inf")),
        damaged(["columns", 2, "fitted", "scale"], 0.0),
        damaged(["columns", 2, "fitted", "scale"], "1"),
        damaged(["columns", 3, "fitted", "quantiles"], [2.0, 1.0]),
        damaged(["columns", 3, "fitted", "quantiles"], []),
        damaged(["columns", 0, "fill"], float("nan")),
        damaged(["columns", 0, "indicator"], 1),
        damaged(["columns", 0, "baseline", "rows"], 0),
        damaged(["columns", 0, "baseline", "shares"], [0.5, 0.5]),
        damaged(["columns", 0, "baseline", "shares", 0], -0.1),
        damaged(["columns", 1, "fitted", "rare"], ["x"]),
        damaged(["columns", 1, "fitted", "rare"], [1.0]),
        damaged(["columns", 1, "fitted", "rare"], ["v", "u"]),
        damaged(["left_out"], [{"name": "z", "reason": "other"}]),
    ],
)
def test_load_damaged_preparation_is_refused(text: str) -> None:
    with pytest.raises(CheckpointCorruptError, match="saved preparation is damaged"):
        Preparation.from_json(text)


def test_load_error_does_not_quote_what_was_saved() -> None:
    text = damaged(["columns", 1, "fitted", "categories"], ["secret", "private"])
    with pytest.raises(CheckpointCorruptError) as caught:
        Preparation.from_json(text)
    assert "secret" not in f"{caught.value}{caught.value.__cause__}"


def test_preparation_repr_shows_no_values() -> None:
    preparation = fit(table(a=[4711, 4713], b=["secret", "x"]), {})
    shown = repr(preparation) + repr(preparation.columns) + repr(preparation.columns[0].fitted)
    assert "4712" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize("rule", ["standard", "log", "quantile", "none"])
def test_number_rule_on_text_is_refused(rule: str) -> None:
    with pytest.raises(DataError, match=f"column 'a' of t.csv holds text; the rule '{rule}'"):
        fit(table(a=["x", "y"]), {"a": rule})


def test_infinite_values_are_refused_with_their_count() -> None:
    bad = table(a=[1.0, 2.0, float("inf"), float("-inf")])
    with pytest.raises(DataError, match=r"column 'a' of t\.csv has 2 infinite values in 4 rows") as caught:
        fit(bad, rows=[0, 1])  # the bad rows are not the training rows
    assert "empty" in caught.value.hint
    with pytest.raises(DataError, match="2 infinite values"):
        fit(table(a=[1.0, 2.0])).transform(bad)


def test_rule_for_unknown_column_suggests_the_closest() -> None:
    with pytest.raises(ConfigError, match="rule for 'incone'") as caught:
        fit(table(income=[1, 2]), {"incone": "log"})
    assert "'income'" in caught.value.hint
    with pytest.raises(ConfigError, match="not among the features") as caught:
        fit(table(income=[1, 2]), {"zz": "log"})
    assert caught.value.hint == "remove the rule"


def test_unknown_rule_lists_the_rules() -> None:
    with pytest.raises(ConfigError, match="unknown rule 'sqrt' for 'a'") as caught:
        fit(table(a=[1, 2]), {"a": "sqrt"})
    assert "standard, log, quantile, min-max, bins, one-hot, none" in caught.value.hint


def test_features_that_are_none_or_twice_or_missing_are_refused() -> None:
    rows = np.array([0])
    with pytest.raises(ConfigError, match="no features"):
        Preparation.fit(table(a=[1]), features=[], rules={}, rows=rows)
    with pytest.raises(ConfigError, match="'a' is named 2 times"):
        Preparation.fit(table(a=[1]), features=["a", "a"], rules={}, rows=rows)
    with pytest.raises(DataError, match="no column 'b'"):
        Preparation.fit(table(a=[1]), features=["b"], rules={}, rows=rows)


def test_no_training_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no training rows"):
        fit(table(a=[1]), rows=[])


def test_too_many_categories_are_refused_with_their_count() -> None:
    names = [f"n{number}" for number in range(MAX_CATEGORIES + 1)]
    with pytest.raises(DataError, match=f"'a' has {len(names)} distinct values") as caught:
        fit(table(a=names), {"a": "one-hot"})
    assert "leave the column out" in caught.value.hint


def test_texts_that_look_like_ids_are_refused_unless_they_have_a_rule() -> None:
    names = table(a=[f"n{number}" for number in range(FEWEST_IDS + 1)])
    with pytest.raises(DataError, match=f"'a' of t.csv has {FEWEST_IDS + 1} distinct texts") as caught:
        fit(names)
    assert '"one-hot" under [prepare]' in caught.value.hint
    assert len(fit(names, {"a": "one-hot"}).names) == 64
    # Few rows, or repeated texts, are no ids.
    assert len(fit(names.first(FEWEST_IDS)).names) == 64
    repeated = table(a=[f"n{number // 2}" for number in range(2 * FEWEST_IDS + 2)])
    assert len(fit(repeated).names) == 64


def test_spread_that_overflows_is_refused() -> None:
    wide = table(a=[-1e308, 1e308, 0])
    for rule in ("standard", "min-max"):
        with pytest.raises(DataError, match=f"spread too far for the rule '{rule}'"):
            fit(wide, {"a": rule})
    assert np.isfinite(fit(wide, {"a": "log"}).transform(wide)).all()


def test_column_that_changes_between_text_and_numbers_is_refused() -> None:
    with pytest.raises(DataError, match=r"held text when fitted and holds numbers in t\.csv"):
        fit(table(a=["1", "x"])).transform(table(a=[1, 2]))
    with pytest.raises(DataError, match="held numbers when fitted and holds text"):
        fit(table(a=[1, 2]), {"a": "one-hot"}).transform(table(a=["1", "x"]))
