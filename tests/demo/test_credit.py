import numpy as np
import pytest

from moiety.data.preparation import Preparation
from moiety.data.table import Table, read_table
from moiety.data.target import Target
from moiety.demo.credit import (
    CREDIT_FEATURES,
    CREDIT_ID,
    CREDIT_INPUTS,
    CREDIT_RULES,
    CREDIT_TARGET,
    credit_path,
)
from tests.data.test_preparation import unseen

ACTIVATION_LIMIT = 8


@pytest.fixture(scope="module")
def credit() -> Table:
    return read_table(credit_path(), columns=None)


def fit(credit: Table, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Preparation:
    return Preparation.fit(credit, features=CREDIT_FEATURES, rules=CREDIT_RULES, rows=rows)


def test_credit_has_the_published_shape_and_rates(credit: Table) -> None:
    assert credit.rows == 30_000
    assert set(credit.names) == {CREDIT_ID, CREDIT_TARGET, *CREDIT_FEATURES}
    assert len(CREDIT_FEATURES) == 23
    assert credit.column(CREDIT_TARGET).sum() == 6_636
    np.testing.assert_array_equal(credit.column(CREDIT_ID), np.arange(1, 30_001))


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        ("SEX", {1: 11_888, 2: 18_112}),
        ("EDUCATION", {0: 14, 1: 10_585, 2: 14_030, 3: 4_917, 4: 123, 5: 280, 6: 51}),
        ("MARRIAGE", {0: 54, 1: 13_659, 2: 15_964, 3: 323}),
    ],
)
def test_credit_has_the_published_categories(credit: Table, column: str, counts: dict[int, int]) -> None:
    values, found = np.unique(credit.column(column), return_counts=True)
    assert dict(zip(values.tolist(), found.tolist(), strict=True)) == counts


def test_credit_starts_with_the_published_row(credit: Table) -> None:
    row = [int(credit.column(name)[0]) for name in credit.names[1:]]
    pay, bills, paid = [2, 2, -1, -1, -2, -2], [3913, 3102, 689, 0, 0, 0], [0, 689, 0, 0, 0, 0]
    assert row == [20_000, 2, 2, 1, 24, *pay, *bills, *paid, 1]


def test_credit_gives_91_inputs_that_never_clip(credit: Table) -> None:
    preparation = fit(credit, np.arange(credit.rows))
    inputs_ND = preparation.transform(credit)
    assert inputs_ND.shape == (30_000, CREDIT_INPUTS)
    assert np.abs(inputs_ND).max() < ACTIVATION_LIMIT
    assert not any(unseen(preparation, credit).values())
    assert set(preparation.transform(credit)[:, 14:].ravel().tolist()) == {0.0, 1.0}


def test_credit_fitted_on_training_rows_lacks_only_rare_categories(credit: Table) -> None:
    rows = np.arange(21_000) * 7_919 % credit.rows  # 70 %, scattered, each once
    preparation = fit(credit, rows)
    # Two categories have a single row each, so about every second choice of rows misses one.
    assert CREDIT_INPUTS - 6 <= len(preparation.names) <= CREDIT_INPUTS
    assert sum(unseen(preparation, credit).values()) <= 12
    assert np.abs(preparation.transform(credit)).max() < ACTIVATION_LIMIT


def test_credit_target_is_binary(credit: Table) -> None:
    values = credit.column(CREDIT_TARGET)
    target = Target.fit(values, name=CREDIT_TARGET, kind="binary", rows=np.arange(credit.rows))
    assert target.transform(values).mean() == pytest.approx(0.2212)


def test_credit_file_is_small_and_has_its_licence_beside_it() -> None:
    assert credit_path().stat().st_size < 1_500_000
    notes = (credit_path().parent / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in notes
    assert "10.24432/C55S3H" in notes
