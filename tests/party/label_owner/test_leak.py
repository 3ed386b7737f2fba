from collections.abc import Callable, Iterator

import numpy as np
import pytest

from moiety.errors import NonFiniteError, ParameterError
from moiety.party.label_owner.leak import (
    direction_attack,
    folded_auc,
    label_leakage,
    norm_attack,
    spectral_attack,
)
from tests.support.gradient_runs import Labels, one_thread, weak_run
from tests.support.paper_version import Draws, Numbers


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


ATTACKS: list[Callable[[Numbers], Numbers]] = [norm_attack, direction_attack, spectral_attack]


def opposite(rows: int, *, positives: float, noise: float = 0.05) -> tuple[Numbers, Labels]:
    """Gradients (p - y) x slope with p the share of positives, and labels."""
    draws = Draws("opposite")
    label_N = (draws.uniform(rows) < 2 * positives - 1).astype(np.int64)
    gradient = np.outer(positives - label_N, draws.normal(16)) + noise * draws.normal(rows, 16)
    return gradient, label_N


def classes(rows: int, *, count: int) -> tuple[Numbers, Labels]:
    """Gradients of a cross-entropy: probabilities minus the one-hot class."""
    draws = Draws("classes")
    target_N = (draws.uniform(rows) * 0.499 + 0.5) * count // 1
    scores = np.exp(0.3 * draws.normal(rows, count))
    gradient = scores / scores.sum(axis=1, keepdims=True)
    gradient[np.arange(rows), target_N.astype(np.int64)] -= 1
    return gradient, target_N.astype(np.int64)


def test_norm_attack_rare_positives() -> None:
    gradient, label_N = opposite(4000, positives=0.1)
    assert folded_auc(label_N == 1, norm_attack(gradient)) > 0.99


def test_norm_attack_balanced_labels() -> None:
    gradient, label_N = opposite(4000, positives=0.5)
    assert folded_auc(label_N == 1, norm_attack(gradient)) < 0.55


@pytest.mark.parametrize("positives", [0.1, 0.5])
@pytest.mark.parametrize("attack", [direction_attack, spectral_attack])
def test_side_attacks_any_balance(attack: Callable[[Numbers], Numbers], positives: float) -> None:
    gradient, label_N = opposite(4000, positives=positives)
    assert folded_auc(label_N == 1, attack(gradient)) > 0.99


def test_direction_attack_ignores_length() -> None:
    gradient, _ = opposite(100, positives=0.3)
    lengths = Draws("lengths").uniform(100, 1) + 2
    known_D = gradient[3]
    scored = direction_attack(gradient, known_D=known_D)
    np.testing.assert_allclose(direction_attack(gradient * lengths, known_D=5 * known_D), scored)
    assert scored[3] == pytest.approx(1.0)


def test_direction_attack_known_row_fixes_the_sign() -> None:
    gradient, label_N = opposite(1000, positives=0.5)
    positive = int(label_N.argmax())
    assert direction_attack(gradient, known_D=gradient[positive])[label_N == 1].mean() > 0.9
    assert not direction_attack(gradient, known_D=np.zeros(16)).any()


def test_spectral_attack_ignores_a_common_shift() -> None:
    gradient, _ = opposite(500, positives=0.4)
    shifted = spectral_attack(gradient + 1000.0)
    np.testing.assert_allclose(np.abs(shifted), np.abs(spectral_attack(gradient)), atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_zero_rows(attack: Callable[[Numbers], Numbers]) -> None:
    assert np.array_equal(attack(np.zeros((5, 3))), np.zeros(5))
    assert attack(np.zeros((0, 3))).shape == (0,)


def test_direction_attack_scores_a_zero_row_zero() -> None:
    gradient, _ = opposite(50, positives=0.5)
    gradient[7] = 0
    assert direction_attack(gradient)[7] == 0
    assert np.isfinite(direction_attack(gradient)).all()


def test_label_leakage_keys_and_types() -> None:
    leaked = label_leakage(*opposite(200, positives=0.5), kind="binary")
    assert list(leaked) == ["norm", "direction", "spectral"]
    assert all(type(each) is float and 0.5 <= each <= 1 for each in leaked.values())


def test_label_leakage_nothing_to_find() -> None:
    draws = Draws("nothing")
    leaked = label_leakage(draws.normal(40_000, 8), draws.bits(40_000), kind="binary")
    assert max(leaked.values()) <= 0.52


def test_label_leakage_one_class() -> None:
    chance = {"norm": 0.5, "direction": 0.5, "spectral": 0.5}
    gradient = Draws("one class").normal(30, 4)
    assert label_leakage(gradient, np.ones(30, dtype=np.int64), kind="binary") == chance
    assert label_leakage(gradient, np.full(30, 7), kind="multiclass") == chance
    assert label_leakage(gradient, np.full(30, 0.5), kind="regression") == chance


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_label_leakage_no_rows_and_zero_rows(kind: str) -> None:
    chance = {"norm": 0.5, "direction": 0.5, "spectral": 0.5}
    assert label_leakage(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), kind=kind) == chance
    assert label_leakage(np.zeros((6, 4)), np.array([0, 1, 0, 1, 0, 1]), kind=kind) == chance


def test_label_leakage_multiclass_is_the_worst_class() -> None:
    gradient, target_N = classes(3000, count=5)
    assert label_leakage(gradient, target_N, kind="multiclass")["direction"] > 0.99
    # One class alone stands out: the figure is its own and no average over classes.
    rare = np.where(np.arange(3000) % 10 == 0, 2, np.arange(3000) % 2)
    gradient = Draws("rare").normal(3000, 4)
    gradient[rare == 2] *= 100
    assert label_leakage(gradient, rare, kind="multiclass")["norm"] > 0.99


def test_label_leakage_multiclass_known_row_may_be_zero() -> None:
    gradient, target_N = classes(500, count=3)
    for each in range(3):
        gradient[np.argmax(target_N == each)] = 0
    assert label_leakage(gradient, target_N, kind="multiclass")["direction"] > 0.95


def test_label_leakage_regression() -> None:
    draws = Draws("regression")
    target_N = np.exp(draws.normal(4000))
    gradient = np.outer(1.0 - target_N, draws.normal(8))
    assert label_leakage(gradient, target_N, kind="regression")["spectral"] > 0.99
    assert label_leakage(draws.normal(40_000, 8), draws.normal(40_000), kind="regression")["norm"] <= 0.52


@pytest.mark.parametrize("positives", [0.5, 0.2])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", "abc")
def test_label_leakage_same_from_dz_and_da(name: str, *, trained: bool, positives: float) -> None:
    """What the label owner measures on its own dz is what the data owner finds in da = dz W^T."""
    run = weak_run(name, positives=positives)
    weights_DK = run.weights_DK if trained else Draws(f"random {name}").normal(64, 32)
    from_dz = label_leakage(run.dz_NK, run.label_N, kind="binary")
    from_da = label_leakage(run.dz_NK @ weights_DK.T, run.label_N, kind="binary")
    assert from_dz == pytest.approx(from_da, abs=0.03)


def test_label_leakage_many_rows() -> None:
    """No matrix of rows x rows: 200,000 squared would be 320 GB."""
    gradient, label_N = opposite(200_000, positives=0.5)
    assert label_leakage(gradient, label_N, kind="binary")["direction"] > 0.99


def test_label_leakage_refusals() -> None:
    gradient, label_N = opposite(20, positives=0.5)
    with pytest.raises(ParameterError, match="kind of target"):
        label_leakage(gradient, label_N, kind="ranking")
    with pytest.raises(ParameterError, match=r"\(20, 16\).*\(19,\)"):
        label_leakage(gradient, label_N[1:], kind="binary")
    with pytest.raises(ParameterError, match="do not fit"):
        label_leakage(gradient[0], label_N, kind="binary")
    gradient[3, 4] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        label_leakage(gradient, label_N, kind="binary")
    assert caught.value.hint
