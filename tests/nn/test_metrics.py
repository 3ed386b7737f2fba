"""Metrics against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve, root_mean_squared_error

from moiety.nn.metrics import METRICS, accuracy, auc, ks, rmse

Cases = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=60)


def arrays(
    cases: list[tuple[bool, int]],
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    target = np.array([float(label) for label, _ in cases])
    score = np.array([number / 8 for _, number in cases])
    return target, score


@given(Cases.filter(lambda cases: len({label for label, _ in cases}) == 2))
def test_auc_and_ks_equal_scikit_learn(cases: list[tuple[bool, int]]) -> None:
    target, score = arrays(cases)
    assert auc(target, score) == pytest.approx(roc_auc_score(target, score), abs=1e-12)
    false_rate, true_rate, _ = roc_curve(target, score, drop_intermediate=False)
    assert ks(target, score) == pytest.approx(np.abs(true_rate - false_rate).max(), abs=1e-12)


def test_auc_and_ks_of_perfect_reversed_and_useless_scores() -> None:
    target = np.array([0.0, 0.0, 1.0, 1.0])
    assert (auc(target, target), ks(target, target)) == (1.0, 1.0)
    assert (auc(target, -target), ks(target, -target)) == (0.0, 1.0)
    assert (auc(target, np.zeros(4)), ks(target, np.zeros(4))) == (0.5, 0.0)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_auc_and_ks_of_one_class_are_undefined(label: float) -> None:
    target, score = np.full(4, label), np.arange(4.0)
    assert math.isnan(auc(target, score))
    assert math.isnan(ks(target, score))


@given(st.lists(st.tuples(st.integers(0, 2), *[st.integers(-3, 3)] * 3), min_size=1, max_size=30))
def test_accuracy_equals_scikit_learn(cases: list[tuple[int, int, int, int]]) -> None:
    target = np.array([float(case[0]) for case in cases])
    score = np.array([[float(value) for value in case[1:]] for case in cases])
    assert accuracy(target, score) == pytest.approx(accuracy_score(target, score.argmax(axis=1)))


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 2), min_size=1, max_size=30))
def test_rmse_equals_scikit_learn(cases: list[tuple[float, float]]) -> None:
    target, score = (np.array(values) for values in zip(*cases, strict=True))
    assert rmse(target, score) == pytest.approx(root_mean_squared_error(target, score), abs=1e-9)


def test_metrics_of_each_kind() -> None:
    assert {
        "binary": {"AUC": auc, "KS": ks},
        "multiclass": {"accuracy": accuracy},
        "regression": {"RMSE": rmse},
    } == METRICS
