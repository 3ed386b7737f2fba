"""The data owner's limits: each one, counted per row, and never rolled back."""

import numpy as np
import pytest

from moiety.errors import PolicyError
from moiety.policy import Meter, Policy, Totals, check_batches, check_run, require

NOTHING = Totals()


def meter(*, released: int = 100, predictions: int = 100, before: Totals = NOTHING) -> Meter:
    policy = Policy(released_z_per_row=released, predictions=predictions)
    return Meter(policy, before=before, rows=10)


def rows(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, dtype=np.int64)


def test_require_at_and_over_the_limit() -> None:
    require("predictions", allowed=5, asked=5)
    with pytest.raises(PolicyError) as caught:
        require("predictions", allowed=5, asked=6)
    assert (caught.value.limit, caught.value.allowed, caught.value.asked) == ("predictions", 5, 6)
    assert caught.value.hint


def test_meter_counts_each_row_by_itself() -> None:
    counted = meter(released=8)
    counted.charge(rows(0, 1), out_features=4, prediction=False)
    assert counted.charge(rows(2, 3), out_features=4, prediction=False).released_z_per_row == 4
    assert counted.charge(rows(1, 2), out_features=4, prediction=False).released_z_per_row == 8
    counted.charge(rows(0, 3), out_features=4, prediction=False)
    with pytest.raises(PolicyError):
        counted.charge(rows(3, 4), out_features=4, prediction=False)


def test_meter_at_and_over_released_z() -> None:
    counted = meter(released=8)
    counted.charge(rows(0), out_features=8, prediction=False)
    with pytest.raises(PolicyError, match="released_z_per_row 8, and 9"):
        counted.charge(rows(0), out_features=1, prediction=False)


def test_meter_at_and_over_predictions() -> None:
    counted = meter(predictions=3)
    assert counted.charge(rows(0, 1, 2), out_features=1, prediction=True).predictions == 3
    with pytest.raises(PolicyError, match="predictions 3, and 4"):
        counted.charge(rows(3), out_features=1, prediction=True)


def test_meter_counts_no_predictions_in_training() -> None:
    assert meter().charge(rows(0, 1), out_features=1, prediction=False).predictions == 0


@pytest.mark.parametrize("prediction", [False, True])
def test_meter_counts_nothing_where_it_refuses(*, prediction: bool) -> None:
    counted = meter(released=8, predictions=2)
    with pytest.raises(PolicyError):
        counted.charge(rows(0, 1), out_features=9, prediction=prediction)
    with pytest.raises(PolicyError):
        counted.charge(rows(0, 1, 2), out_features=8, prediction=True)
    totals = counted.charge(rows(0, 1), out_features=8, prediction=True)
    assert totals == Totals(released_z_per_row=8, predictions=2)


def test_meter_starts_at_what_was_released_before() -> None:
    before = Totals(released_z_per_row=6, predictions=4)
    counted = meter(released=8, predictions=5, before=before)
    assert counted.charge(rows(9), out_features=2, prediction=True) == Totals(
        released_z_per_row=8, predictions=5
    )
    with pytest.raises(PolicyError):
        counted.charge(rows(5), out_features=3, prediction=False)


def test_meter_totals_never_fall() -> None:
    counted = meter()
    totals = [
        counted.charge(rows(*numbers), out_features=2, prediction=True).released_z_per_row
        for numbers in ((0, 1), (0,), (5,), (6, 7), (0,))
    ]
    assert totals == [2, 4, 4, 4, 6]


def test_meter_charging_no_rows() -> None:
    assert meter().charge(rows(), out_features=3, prediction=True) == NOTHING


@pytest.mark.parametrize("out_features", [5, 6])
def test_run_with_a_layer_as_wide_as_the_table(out_features: int) -> None:
    with pytest.raises(PolicyError) as caught:
        check_run(Policy(), before=NOTHING, in_features=5, out_features=out_features, passes=1)
    assert (caught.value.limit, caught.value.allowed) == ("out_features", 4)
    allowed = Policy(wide_layer=True)
    check_run(allowed, before=NOTHING, in_features=5, out_features=out_features, passes=1)


def test_run_at_and_over_the_budget_of_all_passes() -> None:
    policy, before = Policy(released_z_per_row=50), Totals(released_z_per_row=10)
    check_run(policy, before=before, in_features=9, out_features=4, passes=10)
    with pytest.raises(PolicyError, match="released_z_per_row 50, and 54"):
        check_run(policy, before=before, in_features=9, out_features=4, passes=11)


def test_batches_at_and_under_the_smallest() -> None:
    check_batches(Policy(smallest_batch=16), smallest=16)
    with pytest.raises(PolicyError, match="smallest_batch 16, and 15"):
        check_batches(Policy(smallest_batch=16), smallest=15)
