"""The data owner's limits: each one, counted per row, and never rolled back."""

import ast
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from moiety.config import LIMITS, Policy, Totals, limit_label
from moiety.config.policy import PolicySection
from moiety.contract import policy as rules
from moiety.contract.policy import (
    STEPS_AHEAD,
    Asks,
    Meter,
    check_batches,
    check_budgets,
    check_choices,
    check_width,
    exceeded,
    require,
)
from moiety.errors import PolicyError
from tests.support.pair import data_terms

NOTHING = Totals()


def meter(*, released: int = 100, predictions: int = 100, before: Totals = NOTHING) -> Meter:
    policy = Policy(released_z_per_row=released, predictions=predictions)
    return Meter(policy, before=before, rows=10, asks=Asks(passes=1))


def rows(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, dtype=np.int64)


def test_require_at_and_over_the_limit() -> None:
    require(Policy(predictions=5), "predictions", asked=5)
    with pytest.raises(PolicyError) as caught:
        require(Policy(predictions=5), "predictions", asked=6)
    assert (caught.value.limit, caught.value.allowed, caught.value.asked) == ("predictions", 5, 6)
    assert caught.value.hint


def test_meter_counts_each_row_by_itself() -> None:
    counted = meter(released=8)
    counted.charge(rows(0, 1), out_features=4, prediction=False, step=False)
    assert counted.charge(rows(2, 3), out_features=4, prediction=False, step=False).released_z_per_row == 4
    assert counted.charge(rows(1, 2), out_features=4, prediction=False, step=False).released_z_per_row == 8
    counted.charge(rows(0, 3), out_features=4, prediction=False, step=False)
    with pytest.raises(PolicyError):
        counted.charge(rows(3, 4), out_features=4, prediction=False, step=False)


def test_meter_at_and_over_released_z() -> None:
    counted = meter(released=8)
    counted.charge(rows(0), out_features=8, prediction=False, step=False)
    with pytest.raises(PolicyError, match="released_z_per_row 8, and 9"):
        counted.charge(rows(0), out_features=1, prediction=False, step=False)


def test_meter_at_and_over_predictions() -> None:
    counted = meter(predictions=3)
    assert counted.charge(rows(0, 1, 2), out_features=1, prediction=True, step=False).predictions == 3
    with pytest.raises(PolicyError, match="predictions 3, and 4"):
        counted.charge(rows(3), out_features=1, prediction=True, step=False)


def test_meter_counts_no_predictions_in_training() -> None:
    assert meter().charge(rows(0, 1), out_features=1, prediction=False, step=False).predictions == 0


@pytest.mark.parametrize("prediction", [False, True])
def test_meter_counts_nothing_where_it_refuses(*, prediction: bool) -> None:
    counted = meter(released=8, predictions=2)
    with pytest.raises(PolicyError):
        counted.charge(rows(0, 1), out_features=9, prediction=prediction, step=False)
    with pytest.raises(PolicyError):
        counted.charge(rows(0, 1, 2), out_features=8, prediction=True, step=False)
    totals = counted.charge(rows(0, 1), out_features=8, prediction=True, step=False)
    assert totals == Totals(released_z_per_row=8, predictions=2)


def test_meter_starts_at_what_was_released_before() -> None:
    before = Totals(released_z_per_row=6, predictions=4)
    counted = meter(released=8, predictions=5, before=before)
    assert counted.charge(rows(9), out_features=2, prediction=True, step=False) == Totals(
        released_z_per_row=8, predictions=5
    )
    with pytest.raises(PolicyError):
        counted.charge(rows(5), out_features=3, prediction=False, step=False)


def test_meter_totals_never_fall() -> None:
    counted = meter()
    totals = [
        counted.charge(rows(*numbers), out_features=2, prediction=True, step=False).released_z_per_row
        for numbers in ((0, 1), (0,), (5,), (6, 7), (0,))
    ]
    assert totals == [2, 4, 4, 4, 6]


def test_meter_charging_no_rows() -> None:
    assert meter().charge(rows(), out_features=3, prediction=True, step=False) == NOTHING


@pytest.mark.parametrize("out_features", [5, 6])
def test_run_with_a_layer_as_wide_as_the_table(out_features: int) -> None:
    with pytest.raises(PolicyError) as caught:
        check_width(Policy(), in_features=5, out_features=out_features)
    assert (caught.value.limit, caught.value.allowed) == ("wide_layer", "false")
    check_width(Policy(wide_layer=True), in_features=5, out_features=out_features)
    check_width(Policy(), in_features=out_features + 1, out_features=out_features)


def test_run_at_and_over_the_budget_of_all_passes() -> None:
    policy, before = Policy(released_z_per_row=50), Totals(released_z_per_row=10)
    check_budgets(policy, before=before, out_features=4, asks=Asks(passes=10))
    with pytest.raises(PolicyError, match="released_z_per_row 50, and 54"):
        check_budgets(policy, before=before, out_features=4, asks=Asks(passes=11))


def test_batches_at_and_under_the_smallest() -> None:
    check_batches(Policy(smallest_batch=16), smallest=16)
    with pytest.raises(PolicyError, match="smallest_batch 16, and 15"):
        check_batches(Policy(smallest_batch=16), smallest=15)


# --- steps, runs and choices ---


def trained(*, policy: Policy, before: Totals = NOTHING, steps: int = 10, runs: int = 1) -> Meter:
    return Meter(policy, before=before, rows=10, asks=Asks(passes=1, steps=steps, runs=runs))


def test_meter_records_steps_ahead_and_never_beyond_the_run() -> None:
    counted = trained(policy=Policy(released_z_per_row=10**6), steps=STEPS_AHEAD + 5)
    totals = [
        counted.charge(rows(0), out_features=1, prediction=False, step=True).steps
        for _ in range(STEPS_AHEAD + 5)
    ]
    assert totals[:STEPS_AHEAD] == [STEPS_AHEAD] * STEPS_AHEAD
    assert totals[STEPS_AHEAD:] == [STEPS_AHEAD + 5] * 5


def test_meter_counts_steps_that_were_not_asked_for() -> None:
    counted = trained(policy=Policy(), before=Totals(steps=3), steps=1)
    asked = [counted.charge(rows(0), out_features=1, prediction=False, step=True).steps for _ in range(3)]
    assert asked == [4, 5, 6]


def test_meter_at_and_over_steps() -> None:
    counted = trained(policy=Policy(steps=5), before=Totals(steps=3), steps=2)
    for _ in range(2):
        counted.charge(rows(0), out_features=1, prediction=False, step=True)
    with pytest.raises(PolicyError, match="steps 5, and 6"):
        counted.charge(rows(0), out_features=1, prediction=False, step=True)
    assert counted.charge(rows(0), out_features=1, prediction=False, step=False).steps == 5


def test_meter_counts_a_run_when_it_begins_and_not_when_it_goes_on() -> None:
    begun = trained(policy=Policy(runs=3), before=Totals(runs=2, steps=7))
    assert begun.begin() == Totals(runs=3, steps=7)
    assert begun.charge(rows(0), out_features=1, prediction=False, step=True).runs == 3
    resumed = trained(policy=Policy(runs=2), before=Totals(runs=2), runs=0)
    assert resumed.charge(rows(0), out_features=1, prediction=False, step=True).runs == 2
    assert resumed.begin().runs == 2
    with pytest.raises(PolicyError, match="runs 2, and 3"):
        trained(policy=Policy(runs=2), before=Totals(runs=2)).begin()


@pytest.mark.parametrize(("limit", "allowed"), [("steps", 29), ("runs", 2)])
def test_check_budgets_covers_steps_and_runs(limit: str, allowed: int) -> None:
    before, asks = Totals(steps=20, runs=2), Asks(passes=1, steps=10, runs=1)
    covered, exhausted = (Policy.model_validate({limit: number}) for number in (allowed + 1, allowed))
    check_budgets(covered, before=before, out_features=4, asks=asks)
    with pytest.raises(PolicyError) as caught:
        check_budgets(exhausted, before=before, out_features=4, asks=asks)
    assert (caught.value.limit, caught.value.allowed, caught.value.asked) == (limit, allowed, allowed + 1)


@pytest.mark.parametrize(
    ("policy", "limit"),
    [
        (Policy(protocols=("blind",)), "protocols"),
        (Policy(schemes=("rlwe",)), "schemes"),
        (Policy(reveals=()), "reveals"),
    ],
)
def test_check_choices_names_what_is_not_allowed(policy: Policy, limit: str) -> None:
    check_choices(policy, protocol="blind", scheme="rlwe", reveals="nothing")
    with pytest.raises(PolicyError) as caught:
        check_choices(policy, protocol="joint", scheme="paillier", reveals="gradients")
    assert caught.value.limit == limit
    check_choices(Policy(), protocol="joint", scheme="paillier", reveals="gradients")


# --- every limit, also one that is added later ---


def limits_enforced(source: str) -> set[str]:
    """Find the limits that a module's text names where it refuses."""
    places = {"exceeded": 0, "require": 1, "_require_one": 1}
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call.args[places[name]] for call in calls if (name := getattr(call.func, "id", "")) in places]
    return {str(each.value) for each in named if isinstance(each, ast.Constant)}


def test_every_limit_is_enforced() -> None:
    assert limits_enforced(Path(rules.__file__).read_text(encoding="utf-8")) == set(Policy.model_fields)


def test_every_total_is_of_a_limit_and_counts_from_nothing() -> None:
    assert set(Totals.model_fields) <= set(Policy.model_fields)
    assert set(Totals().model_dump().values()) == {0}


@pytest.mark.parametrize("limit", Policy.model_fields)
def test_every_limit_has_words_a_bound_and_a_way_out(limit: str) -> None:
    field, known = Policy.model_fields[limit], LIMITS[limit]
    assert field.description
    counts = type(field.default) is int or limit in Totals.model_fields
    assert bool(known.unit) == counts
    beyond: object = 2**53 + 1 if counts else ["x" * 10]
    with pytest.raises(ValidationError):
        Policy.model_validate({limit: beyond})
    error = exceeded(limit, allowed=1, asked=2)
    assert error.limit == limit
    assert f"{limit} 1, and 2" in error.message
    assert limit_label(limit) in error.message
    assert error.hint.startswith(known.remedy)
    assert error.hint.endswith(f"a different {limit}")


def test_policy_that_holds_more_than_the_peer_may_know_is_not_stated() -> None:
    with pytest.raises(ValidationError, match=r"policy\.ledger"):
        data_terms(policy=PolicySection(ledger=None))
