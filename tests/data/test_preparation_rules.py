"""Each rule against scikit-learn's own result, missing values among them; the usual rule; properties."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    QuantileTransformer,
    StandardScaler,
)

from moiety.config import ColumnRule
from moiety.data.categories import OneHot
from moiety.data.ordered import Ordered
from moiety.data.preparation import Preparation
from moiety.data.rules import Nothing, fit_rule
from moiety.data.table import Table
from moiety.data.usual_rule import RANGE, usual_number_rule
from moiety.errors import CheckpointCorruptError, DataError
from tests.data.test_preparation import drifts, table, unseen
from tests.support.randomness import words_of

N = 999
TRAINING = np.arange(0, N, 2)
NUMBERS = np.sinh(np.linspace(-4, 5, N))[np.argsort(words_of("order of numbers", N))]
HOLES = (words_of("holes", N) % np.uint64(7)) == 0
DIRTY = np.where(HOLES, np.nan, NUMBERS)
WORDS = np.array([f"w{int(value) % 23}" for value in NUMBERS**2], dtype=np.object_)


def log(values: Any) -> Any:
    return np.sign(values) * np.log1p(np.abs(values))


def fit(source: Table, rule: ColumnRule | str | None, rows: NDArray[np.int64] = TRAINING) -> Preparation:
    rules = {} if rule is None else dict.fromkeys(source.names, rule)
    return Preparation.fit(source, features=source.names, rules=rules, rows=rows)


SCALERS: dict[str, Any] = {
    "standard": StandardScaler(),
    "log": make_pipeline(FunctionTransformer(log), StandardScaler()),
    "min-max": MinMaxScaler(),
    "quantile": QuantileTransformer(n_quantiles=len(TRAINING), output_distribution="normal", subsample=None),
    "none": FunctionTransformer(),
}


@pytest.mark.parametrize("name", SCALERS)
def test_number_rules_equal_scikit_learn(name: str) -> None:
    column = NUMBERS[:, None]
    expected_N1 = SCALERS[name].fit(column[TRAINING]).transform(column)
    numbers = table(a=NUMBERS)
    np.testing.assert_array_equal(fit(numbers, name).transform(numbers), expected_N1)


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("missing", ["median", "mean", "most-frequent"])
def test_missing_numbers_are_imputed_as_by_scikit_learn_with_an_indicator(name: Any, missing: Any) -> None:
    column, dirty = DIRTY[:, None], table(a=DIRTY)
    pipeline = make_pipeline(SimpleImputer(strategy=missing.replace("-", "_")), SCALERS[name])
    expected_N1 = pipeline.fit(column[TRAINING]).transform(column)
    prepared = fit(dirty, ColumnRule(rule=name, missing=missing))
    assert prepared.names == ("a", "a missing")
    np.testing.assert_array_equal(prepared.transform(dirty), np.hstack([expected_N1, HOLES[:, None]]))


@pytest.mark.parametrize("spread", ["quantile", "uniform"])
@pytest.mark.parametrize("bins", [2, 7])
def test_bins_equal_scikit_learn(spread: Any, bins: int) -> None:
    numbers = table(a=NUMBERS)
    binner = KBinsDiscretizer(bins, encode="onehot-dense", strategy=spread, subsample=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # releases differ in how they take quantiles, and say so
        expected_NK = binner.fit(NUMBERS[TRAINING, None]).transform(NUMBERS[:, None])
    rule = ColumnRule(rule="bins", bins=bins, spread=spread)
    prepared = fit(numbers, rule)
    assert prepared.names == tuple(f"a bin {number}" for number in range(1, bins + 1))
    np.testing.assert_array_equal(prepared.transform(numbers), expected_NK)
    ordinal = fit(numbers, rule.model_copy(update={"inputs": "ordinal"}))
    assert ordinal.names == ("a",)
    np.testing.assert_array_equal(ordinal.transform(numbers)[:, 0], expected_NK.argmax(axis=1) / (bins - 1))


def test_bins_of_values_that_are_mostly_one_are_refused_with_a_way_out() -> None:
    zeros = table(a=[0.0] * 98 + [5.0, 7.0])
    rows = np.arange(100)
    with pytest.raises(DataError, match="'a' all fall into one bin") as caught:
        fit(zeros, "bins", rows)
    assert "uniform" in caught.value.hint
    assert fit(zeros, ColumnRule(rule="bins", spread="uniform", bins=2), rows).transform(zeros).sum() == 100


@pytest.mark.parametrize(("most", "least"), [(64, 1), (8, 1), (64, 30), (5, 10)])
@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_capped_categories_equal_scikit_learn(kind: str, most: int, least: int) -> None:
    values: NDArray[Any] = WORDS if kind == "text" else np.floor(NUMBERS % 23)
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=most,
        min_frequency=least,
        sparse_output=False,
    ).fit(values[TRAINING, None])
    source = table(a=values)
    prepared = fit(source, ColumnRule(rule="one-hot", most=most, least=least))
    np.testing.assert_array_equal(prepared.transform(source), encoder.transform(values[:, None]))
    assert len(prepared.names) <= most
    shared = [name for name in encoder.get_feature_names_out(["a"]) if name.endswith("infrequent_sklearn")]
    assert [name for name in prepared.names if name == "a other"] == ["a other"] * len(shared)


def test_rare_and_unseen_categories_share_an_input() -> None:
    source = table(a=["x"] * 5 + ["y"] * 4 + ["z", "u"])
    prepared = fit(source, ColumnRule(rule="one-hot", least=3), np.arange(11))
    assert prepared.names == ("a=x", "a=y", "a other")
    later = table(a=["z", "new", "x", None])
    np.testing.assert_array_equal(prepared.transform(later), [[0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 1]])
    assert unseen(prepared, later) == {"a": 1}


def test_a_column_whose_categories_are_all_rare_is_left_out() -> None:
    source = table(a=["x", "y", "z", "u"], b=[1, 2, 3, 4])
    prepared = Preparation.fit(
        source, features=source.names, rules={"a": ColumnRule(rule="one-hot", least=2)}, rows=np.arange(4)
    )
    assert prepared.names == ("b",)
    assert "no category has as many training rows" in prepared.left_out[0].sentence


def test_missing_text_is_a_category_of_its_own_as_scikit_learn_has_it() -> None:
    values = WORDS.copy()
    values[HOLES] = None
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(values[TRAINING, None])
    blank = np.where(HOLES & (np.arange(N) % 2 == 0), "  ", values)  # blank fields are missing too
    for source in (table(a=values.tolist()), table(a=blank.tolist())):
        prepared = fit(source, None)
        assert prepared.names[-1] == "a missing"
        np.testing.assert_array_equal(prepared.transform(source), encoder.transform(values[:, None]))


def test_a_column_with_one_value_and_holes_gives_its_indicator_only() -> None:
    for values in ([1.0, None, 1.0, None], ["x", None, "x", ""]):
        source = table(a=values)
        prepared = fit(source, None, np.arange(4))
        assert prepared.names == ("a missing",)
        np.testing.assert_array_equal(prepared.transform(source), [[0], [1], [0], [1]])
        assert Preparation.from_json(prepared.to_json()) == prepared


def test_a_value_missing_for_the_first_time_at_prediction_is_imputed_and_counted() -> None:
    source = table(a=[1.0, 2.0, 9.0], b=["x", "y", "y"])
    prepared = fit(source, None, np.arange(3))
    assert prepared.names == ("a", "b=x", "b=y")
    later = table(a=[None, 2.0], b=[None, "x"])
    median, known = prepared.transform(later)
    np.testing.assert_allclose(median[0], known[0])  # the median of the training rows is 2
    np.testing.assert_array_equal(median[1:], [0, 0])
    assert [(each.name, each.newly_missing) for each in drifts(prepared, later)] == [("a", 1), ("b", 1)]


def test_a_column_without_any_value_at_prediction_has_no_kind() -> None:
    source = table(a=[1.0, 2.0, 9.0], b=["x", "y", "y"])
    prepared = fit(source, None, np.arange(3))
    swapped = table(a=["", ""], b=[None, None])
    assert prepared.transform(swapped).shape == (2, 3)


def test_preparation_is_fitted_on_training_rows_only() -> None:
    """Whatever the other rows hold, and whether they hold anything, nothing that is fitted moves."""
    rules: dict[str, Any] = {
        **{name.replace("-", ""): name for name in SCALERS},
        "bins": ColumnRule(rule="bins", bins=4),
        "words": ColumnRule(rule="one-hot", most=9, least=3),
    }
    clean = dict.fromkeys(rules, DIRTY) | {"words": WORDS, "usual": DIRTY, "usualwords": WORDS}
    other = np.setdiff1d(np.arange(N), TRAINING)

    def fitted(columns: dict[str, NDArray[Any]]) -> str:
        source = table(**{name: values.tolist() for name, values in columns.items()})
        return Preparation.fit(source, features=source.names, rules=rules, rows=TRAINING).to_json()

    poisoned = {name: values.copy() for name, values in clean.items()}
    for number, (name, values) in enumerate(poisoned.items()):
        values[other] = f"new {number}" if "words" in name else 1e9 + number
        values[other[::5]] = None if "words" in name else np.nan
    assert fitted(poisoned) == fitted(clean)
    for values in poisoned.values():  # the control: a single training row does move it
        values[TRAINING[3]] = values[other[1]]
    assert fitted(poisoned) != fitted(clean)


# --- without a rule ---


def usual(values: Any) -> str:
    numbers_N = np.asarray(values)
    return usual_number_rule(numbers_N, Ordered.of(numbers_N)).rule


def test_usual_rule_standardises_what_stays_in_range() -> None:
    assert usual(NUMBERS[np.abs(NUMBERS) < 10]) == "standard"
    assert usual([0.0, 1.0] * 50) == "standard"


def test_usual_rule_keeps_a_rare_flag_at_0_and_1() -> None:
    flag = np.zeros(1000)
    flag[:3] = 1.0
    assert usual(flag) == "min-max"
    assert set(fit(table(a=flag), None, np.arange(1000)).transform(table(a=flag)).ravel()) == {0.0, 1.0}


def test_usual_rule_takes_the_logarithm_where_a_tail_squeezes_the_rest_together() -> None:
    amounts = np.exp(np.linspace(-9, 9, N))
    assert usual(amounts) == "log"
    prepared = fit(table(a=amounts), None, np.arange(N))
    assert np.abs(prepared.transform(table(a=amounts))).max() < RANGE
    assert usual(np.linspace(-1.0, 1.0, 99) * 1e308) == "log"  # their standard deviation overflows


def test_usual_rule_leaves_a_few_far_values_to_be_clipped() -> None:
    values = np.concatenate([np.linspace(0, 1, 990), np.linspace(5, 10, 10)])
    assert usual(values) == "standard"
    prepared_ND = fit(table(a=values), None, np.arange(1000)).transform(table(a=values))
    assert np.count_nonzero(np.abs(prepared_ND) >= RANGE) == 6


def test_usual_rule_judges_amounts_that_are_mostly_zero_by_the_others() -> None:
    gains = np.concatenate([np.zeros(900), np.linspace(1000, 9000, 100)])
    assert usual(gains) == "standard"


def test_usual_rule_standardises_codes() -> None:
    assert usual([0.0] * 90 + [1.0] * 2 + [2.0] * 8) == "standard"


def test_usual_rule_takes_quantiles_where_a_logarithm_does_not_help() -> None:
    values = np.concatenate([np.linspace(1e6, 1e6 + 1, 998), [0.0]])  # its logarithm has the same tail
    assert usual(values) == "quantile"


# --- saving ---


COLUMN = st.one_of(
    st.lists(
        st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e12, 1e12)), min_size=4, max_size=40
    ),
    st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "cc", "ü", " a"])), min_size=4, max_size=40),
)


@given(values=COLUMN, most=st.integers(2, 5), data=st.data())
def test_any_column_is_prepared_finite_and_saved_exactly(values: list[Any], most: int, data: Any) -> None:
    text = any(isinstance(value, str) for value in values)
    rule = data.draw(
        st.sampled_from([None, ColumnRule(rule="one-hot", most=most)])
        if text
        else st.sampled_from([None, *SCALERS, ColumnRule(rule="bins", spread="uniform", inputs="ordinal")])
    )
    source = table(anchor=list(range(len(values))), a=values)
    rows = np.arange(0, len(values), 2)
    rules = {} if rule is None else {"a": rule}
    try:
        prepared = Preparation.fit(source, features=source.names, rules=rules, rows=rows)
    except DataError as error:
        assert error.hint  # noqa: PT017  refused with a way out
        return
    inputs_ND = prepared.transform(source)
    assert inputs_ND.shape == (len(values), len(prepared.names))
    assert np.isfinite(inputs_ND).all()
    loaded = Preparation.from_json(prepared.to_json())
    assert loaded == prepared
    np.testing.assert_array_equal(loaded.transform(source), inputs_ND)
    others = np.setdiff1d(np.arange(len(values)), rows)
    for drift in drifts(loaded, source, training=others):  # the training rows against themselves
        assert (drift.unseen, drift.outside, drift.newly_missing) == (0, 0, 0)
        assert drift.stability == pytest.approx(0)


SAVED_BEFORE = """{"version": 1, "columns": [
    {"name": "a", "text": false, "fitted": {"rule": "standard", "mean": 2.0, "scale": 2.0}},
    {"name": "b", "text": true, "fitted": {"rule": "one-hot", "categories": ["x", "y"]}}]}"""


def test_what_an_early_release_saved_is_read_and_refuses_missing_numbers() -> None:
    prepared = Preparation.from_json(SAVED_BEFORE)
    later = table(a=[4.0, 0.0], b=["y", "z"])
    np.testing.assert_array_equal(prepared.transform(later), [[1, 0, 1], [-1, 0, 0]])
    assert drifts(prepared, later) == []
    with pytest.raises(DataError, match="'a' has 1 missing values"):
        prepared.transform(table(a=[None, 1.0], b=["x", "x"]))
    with pytest.raises(CheckpointCorruptError):
        Preparation.from_json(SAVED_BEFORE.replace('"x", "y"', '"y", "x"'))


# --- one sort instead of many passes ---


def rule_by_definition(numbers_N: NDArray[np.float64]) -> str:
    """The usual rule for numbers, each of its figures by a NumPy function of its own."""
    distinct = len(np.unique(numbers_N))
    if distinct <= 2:
        share = float(np.mean(numbers_N == numbers_N.max()))
        return "min-max" if (1 - min(share, 1 - share)) >= 64 * min(share, 1 - share) else "standard"
    if distinct < 20 or spread_by_definition(numbers_N) >= 0.3:
        return "standard"
    return "log" if spread_by_definition(log(numbers_N)) >= 0.3 else "quantile"


def spread_by_definition(numbers_N: NDArray[np.float64]) -> float:
    distinct, counts = np.unique(numbers_N, return_counts=True)
    common = int(counts.argmax())
    told = numbers_N[numbers_N != distinct[common]] if 2 * counts[common] >= len(numbers_N) else numbers_N
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        low, high = np.quantile(told, [0.25, 0.75])
        spread = float((high - low) / numbers_N.std())
    return spread if np.isfinite(spread) else 0.0


def drawn_numbers(seed: int) -> NDArray[np.float64]:
    """Draw a column: few codes or many amounts, with or without a tail, zeros and numbers beyond measure."""
    first, *choices = (int(word % np.uint64(2**20)) for word in words_of(f"column {seed}", 6))
    rows = 1 + first % 400
    uniform_N, other_N = (words_of(f"values {seed}", 2 * rows).astype(np.float64) * 2.0**-64).reshape(2, rows)
    logistic_N = np.log((uniform_N + 1e-9) / (1 - uniform_N + 1e-9))
    kinds = [
        np.floor(uniform_N * (1 + choices[0] % 40)) - 3,
        logistic_N * 10.0 ** (choices[0] % 13 - 6),
        np.exp(logistic_N * [1, 2, 5, 20][choices[0] % 4]),
        logistic_N**3 + [0.0, 1e6, -1e9][choices[0] % 3],
        np.array([-1e308, 0.0, 1e308, 1.0])[(uniform_N * 4).astype(np.int64)] * other_N,
    ]
    numbers_N: NDArray[np.float64] = kinds[seed % len(kinds)]
    numbers_N[other_N < [0.0, 0.4, 0.5, 0.9][choices[1] % 4]] = [0.0, -0.0, 7.0][choices[2] % 3]
    return numbers_N


def test_usual_rule_is_the_one_of_its_definition() -> None:
    chosen = {seed: usual(drawn_numbers(seed)) for seed in range(1500)}
    wrong = {seed for seed, rule in chosen.items() if rule != rule_by_definition(drawn_numbers(seed))}
    assert not wrong
    assert set(chosen.values()) == {"standard", "min-max", "log", "quantile"}


def test_one_sort_gives_the_figures_of_numpy_and_scikit_learn() -> None:
    for seed in range(150):
        numbers_N = drawn_numbers(seed)
        ordered = Ordered.of(numbers_N)
        tenths = np.quantile(numbers_N, np.arange(1, 10) / 10, method="inverted_cdf")
        assert ordered.tenths == tuple(np.unique(tenths).tolist())
        assert (ordered.low, ordered.high) == (numbers_N.min(), numbers_N.max())
        assert ordered.distinct == len(np.unique(numbers_N))
        with np.errstate(all="ignore"):  # scikit-learn adds them up to see whether one is infinite
            imputer = SimpleImputer(strategy="median").fit(numbers_N[:, None])
        assert ordered.median == imputer.statistics_[0]


def test_the_median_of_two_numbers_near_the_largest_is_finite() -> None:
    assert Ordered.of(np.array([1.5e308, 1.7e308])).median == pytest.approx(1.6e308)
    assert Ordered.of(np.array([-1e308, 1e308])).median == 0


@pytest.mark.parametrize("name", ["standard", "log", "min-max"])
def test_scales_equal_scikit_learn_for_any_number_of_rows(name: str) -> None:
    """NumPy adds up in blocks: whoever adds in another order differs in the last bit."""
    for seed in range(0, 60, 5):
        for rows in (1, 8, 9, 127, 129, 1000, 20_000):
            numbers_N = np.resize(drawn_numbers(seed + 1) + drawn_numbers(seed + 2)[:1], rows)
            scaler, column_N1 = SCALERS[name], numbers_N[:, None]
            expected_N1 = scaler.fit(column_N1).transform(column_N1)
            found = fit_rule(ColumnRule(rule=name), numbers_N, column="a")  # type: ignore[arg-type]
            assert not isinstance(found, Nothing | OneHot)
            np.testing.assert_array_equal(found.transform(numbers_N), expected_N1)
