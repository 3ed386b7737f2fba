"""The layer's own update rules against the formulas they state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.nn.step import DECAY, EPSILON, STEP_RULES, AdaptiveStep, PlainStep
from tests.support.randomness import words_of


def gradients(
    steps: int, *, rows: int = 6, columns: int = 3
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    words = words_of("dz", steps * rows * columns).view(np.int64)
    values = np.ldexp(words.astype(np.float64), -63).reshape(steps, rows, columns)
    return list(values * np.array([1.0, 1e-3, 1e3]))


def test_adaptive_step_follows_its_formula() -> None:
    rule, moment = AdaptiveStep(0.01), np.zeros(3)
    for number, dz_NK in enumerate(gradients(5), start=1):
        for column in range(3):
            moment[column] = 0.99 * moment[column] + 0.01 * sum(dz_NK[:, column] ** 2)
        corrected = moment / (1 - 0.99**number)
        expected = 0.01 * dz_NK / (np.sqrt(corrected) + 1e-8)
        assert np.allclose(rule.scale(dz_NK), expected, rtol=1e-12, atol=0)
    assert (DECAY, EPSILON) == (0.99, 1e-8)
    assert np.allclose(rule.state()["moment"], moment, rtol=1e-12)
    assert rule.state()["steps"].tolist() == [5.0]


def test_adaptive_step_starts_with_columns_of_norm_learning_rate() -> None:
    (dz_NK,) = gradients(1)
    scaled_NK = AdaptiveStep(0.25).scale(dz_NK)
    assert np.allclose(np.sqrt((scaled_NK**2).sum(axis=0)), 0.25, rtol=1e-5)


@given(factor=st.floats(1e-3, 1e3))
def test_adaptive_step_does_not_depend_on_the_scale_of_the_loss(factor: float) -> None:
    one, other = AdaptiveStep(0.01), AdaptiveStep(0.01)
    for dz_NK in gradients(3):
        assert np.allclose(one.scale(dz_NK), other.scale(factor * dz_NK), rtol=1e-2)


def test_adaptive_step_without_a_gradient_does_not_move() -> None:
    scaled_NK = AdaptiveStep(0.01).scale(np.zeros((4, 2)))
    assert np.array_equal(scaled_NK, np.zeros((4, 2)))


def test_adaptive_step_before_its_first_gradient_has_an_empty_state() -> None:
    state = AdaptiveStep(0.01).state()
    assert state["moment"].size == 0
    assert state["steps"].tolist() == [0.0]


def test_plain_step_multiplies_by_the_rate() -> None:
    rule = PlainStep(0.5)
    (dz_NK,) = gradients(1)
    assert np.array_equal(rule.scale(dz_NK), 0.5 * dz_NK)
    rule.learning_rate = 2.0
    assert np.array_equal(rule.scale(dz_NK), 2.0 * dz_NK)
    assert rule.state() == {}


@pytest.mark.parametrize(("name", "kind"), [("adaptive", AdaptiveStep), ("sgd", PlainStep)])
def test_rules_by_name(name: str, kind: type) -> None:
    rule = STEP_RULES[name](0.1)
    assert isinstance(rule, kind)
    assert rule.learning_rate == 0.1
