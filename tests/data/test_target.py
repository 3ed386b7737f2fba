import json

import numpy as np
import pytest

from moiety.data.table import Column
from moiety.data.target import MAX_CLASSES, Target, TargetKind
from moiety.errors import CheckpointCorruptError, DataError, ParameterError


def text(*values: str | None) -> Column:
    return np.array(values, dtype=np.object_)


def numbers(*values: float) -> Column:
    return np.array(values, dtype=np.float64)


def fit(values: Column, kind: TargetKind, rows: list[int] | None = None) -> Target:
    indices = np.array(range(len(values)) if rows is None else rows, dtype=np.int64)
    return Target.fit(values, name="y", kind=kind, rows=indices)


@pytest.mark.parametrize("values", [numbers(0, 1, 0), numbers(-3, 2, -3), text("no", "yes", "no")])
def test_binary_target_takes_the_later_class_as_one(values: Column) -> None:
    target = fit(values, "binary")
    encoded = target.transform(values)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [0, 1, 0]
    assert target.outputs == 1


def test_multiclass_target_gives_indices_and_remembers_classes() -> None:
    target = fit(text("b", "c", "a", "b"), "multiclass", rows=[0])
    encoded = target.transform(text("a", "c"))
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [0, 2]
    assert (target.classes, target.outputs) == (("a", "b", "c"), 3)


def test_regression_target_is_standardised_by_training_rows() -> None:
    values = numbers(10, 30, 1000)
    target = fit(values, "regression", rows=[0, 1])
    encoded = target.transform(values)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [-1, 1, 98]
    assert target.outputs == 1
    np.testing.assert_array_equal(target.restore(encoded), values)


def test_restore_of_classes_is_refused() -> None:
    with pytest.raises(ParameterError, match="binary target is not standardised"):
        fit(numbers(0, 1), "binary").restore(np.array([0.5]))


@pytest.mark.parametrize(
    ("values", "kind", "message", "hint"),
    [
        (numbers(7, 7), "binary", "has 1 distinct values; a binary", "another target"),
        (numbers(7, 8, 9), "binary", "has 3 distinct values; a binary", '"multiclass"'),
        (numbers(7, 7), "multiclass", "has 1 distinct values; a multiclass", "another target"),
        (
            np.arange(MAX_CLASSES + 1.0),
            "multiclass",
            f"has {MAX_CLASSES + 1} distinct values; a multiclass task needs 2 to {MAX_CLASSES}",
            '"regression"',
        ),
        (text("u", "v"), "regression", "holds text with 2 distinct values", '"binary"'),
        (
            text(*(f"n{number}" for number in range(MAX_CLASSES + 1))),
            "binary",
            f"has {MAX_CLASSES + 1} distinct values",
            "another target",
        ),
        (numbers(7, 7), "regression", "has 1 distinct values in the 2 training rows", "varies"),
        (numbers(-1e308, 1e308), "regression", "cannot be standardised", "ordinary"),
    ],
)
def test_target_that_does_not_fit_its_task_is_refused(
    values: Column, kind: TargetKind, message: str, hint: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        fit(values, kind)
    assert str(caught.value).startswith("target 'y' ")
    assert hint in caught.value.hint


def test_regression_without_training_rows_is_refused() -> None:
    with pytest.raises(DataError, match="0 training rows"):
        fit(numbers(1, 2), "regression", rows=[])


@pytest.mark.parametrize(
    ("values", "bad"), [(numbers(0, 1, np.nan, np.inf), 2), (text("a", None, "b", "a"), 1)]
)
def test_missing_or_infinite_target_is_refused_with_its_count(values: Column, bad: int) -> None:
    message = f"target 'y' has {bad} missing or infinite values in 4 rows"
    with pytest.raises(DataError, match=message):
        fit(values, "binary", rows=[0])
    with pytest.raises(DataError, match=message):
        fit(numbers(0, 1), "binary").transform(values)


def test_transform_of_unknown_class_is_refused_with_its_count() -> None:
    with pytest.raises(DataError, match="'y' has 2 rows of a class not there when fitted"):
        fit(numbers(0, 1), "binary").transform(numbers(0, 2, 3))


def test_transform_of_text_for_regression_is_refused() -> None:
    with pytest.raises(DataError, match="holds text where it held numbers"):
        fit(numbers(0, 1), "regression").transform(text("x"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (numbers(0, 1), "binary"),
        (text("a", "b", "c"), "multiclass"),
        (numbers(0.1, 0.7, 1e9), "regression"),
    ],
)
def test_saved_target_comes_back_exactly(values: Column, kind: TargetKind) -> None:
    target = fit(values, kind)
    assert Target.from_json(target.to_json()) == target


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "other"},
        {"kind": "regression"},
        {"classes": []},
        {"classes": [0.0, 0.0]},
        {"classes": [0.0, 1.0, 2.0]},
        {"mean": float("nan")},
        {"scale": 0.0},
        {"scale": float("inf")},
        {"more": 1},
    ],
)
def test_load_damaged_target_is_refused(change: dict[str, object]) -> None:
    saved = json.loads(fit(numbers(0, 1), "binary").to_json())
    with pytest.raises(CheckpointCorruptError, match="saved target is damaged"):
        Target.from_json(json.dumps(saved | change))


def test_target_repr_shows_no_values() -> None:
    shown = repr(fit(text("secret", "x"), "binary")) + repr(fit(numbers(4711, 4713), "regression"))
    assert "secret" not in shown
    assert "4712" not in shown
