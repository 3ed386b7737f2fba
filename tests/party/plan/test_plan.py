"""What `moiety plan` says: what it takes from where, what it assumes, refuses and warns of."""

import json
from contextlib import closing
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from moiety.cli.plan import plan_lines, plan_values
from moiety.config import Totals, load_data_owner_run, load_run
from moiety.errors import ConfigError, DataError, ParameterError
from moiety.party.data_owner.features import open_ledger
from moiety.party.plan.options import Options, training_of
from moiety.party.plan.plan import Plan, largest_z, plan
from tests.support.parties import configure, make_parties, run_here
from tests.support.plan_cases import (
    CASES,
    DATA_OPTIONS,
    LABEL_OWNER,
    LOOPBACK,
    files_of,
    label_options,
    planned,
)


def test_timed_plan_gives_seconds_for_every_part(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[0])
    made = plan(files.label_owner, label_options(CASES[0]), line=LOOPBACK)
    for part in plan_values(made)["parts"].values():
        assert part["seconds"] >= 0
    assert made.forecast.run.label_owner_seconds > 0
    assert any("like this one" in sentence for sentence in made.assumed)


def test_plan_of_paillier_has_bytes_and_no_seconds(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[0])
    configure(files.label_owner, {"protocol.scheme": "paillier"})
    made = plan(files.label_owner, label_options(CASES[0]), line=LOOPBACK)
    values = json.loads(json.dumps(plan_values(made), allow_nan=False))
    assert values["parts"]["run"]["seconds"] is None
    assert values["parts"]["run"]["label_owner_bytes"] > 0
    assert values["spare_bits"] == {"forward": None, "update": None}
    assert isnan(made.forecast.run.seconds(LOOPBACK))
    assert any("seconds are not forecast" in sentence for sentence in made.assumed)
    assert any("exact" in line for line in plan_lines(made))


def test_options_replace_what_the_run_file_says(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[0])
    options = Options(rows=5000, in_features=91, units=32, batch=1024, epochs=7, validation=0.2, test=0.3)
    for path in (files.label_owner, files.data_owner):
        # Neither table is read: rows and columns are given.
        configure(path, {"table.source": "missing.csv"})
        made = planned(path, options)
        values = plan_values(made)
        assert values["rows"] == {"train": 2500, "validation": 1000, "test": 1500}
        assert (values["in_features"], values["out_features"], values["steps"]) == (91, 32, 21)
        assert made.released_z_per_row == 32 * 7


def test_rows_and_columns_come_from_the_tables(tmp_path: Path) -> None:
    files = make_parties(tmp_path, rows=77, columns=9)
    label = training_of(load_run(files.label_owner), Options(in_features=5))
    data = training_of(load_run(files.data_owner), Options(units=4, batch=16, epochs=1))
    assert (label.rows, label.in_features) == (77, 5)
    assert (data.rows, data.in_features) == (77, 9)
    assert training_of(load_run(files.label_owner), Options(rows=50, in_features=5)).rows == 50
    only_rows = training_of(load_run(files.data_owner), Options(rows=50, units=4, batch=16, epochs=1))
    assert (only_rows.rows, only_rows.in_features) == (50, 9)
    only_columns = training_of(
        load_run(files.data_owner), Options(in_features=3, units=4, batch=16, epochs=1)
    )
    assert (only_columns.rows, only_columns.in_features) == (77, 3)


def test_what_is_not_known_is_assumed_and_said(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    data = training_of(load_run(files.data_owner), Options(units=4, batch=16, epochs=1))
    assert (data.validation, data.test) == (0.1, 0.2)
    assert [sentence for sentence in data.assumed if "--validation" in sentence or "--test" in sentence]
    label = training_of(load_run(files.label_owner), Options(in_features=8))
    assert label.assumed == ("the data owner's policy is the usual one, and nothing was released before",)
    given = Options(rows=9, in_features=8, units=4, batch=16, epochs=1, validation=0.0, test=0.0)
    assert training_of(load_run(files.data_owner), given).assumed == ()


@pytest.mark.parametrize("missing", ["units", "batch", "epochs"])
def test_data_owner_is_told_what_to_ask_the_label_owner(tmp_path: Path, missing: str) -> None:
    known: dict[str, Any] = {"units": 4, "batch": 150, "epochs": 3}
    del known[missing]
    with pytest.raises(ConfigError, match=f"--{missing} is missing") as caught:
        planned(files_of(tmp_path, CASES[0]).data_owner, Options(**known))
    assert f"--{missing} N" in caught.value.hint


def test_label_owner_is_told_what_to_ask_the_data_owner(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--in-features is missing") as caught:
        planned(files_of(tmp_path / "blind", CASES[0]).label_owner, Options())
    assert "--in-features N" in caught.value.hint
    with pytest.raises(ConfigError, match="--activations is missing") as caught:
        planned(files_of(tmp_path / "acml", CASES[3]).label_owner, Options(in_features=8))
    assert "--activations trained" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"units": 5000}, "--units is out of its range"),
        ({"epochs": 0}, "--epochs is out of its range"),
        ({"batch": 2**21}, "--batch is out of its range"),
        ({"rows": -1}, "--rows is out of its range"),
        ({"in_features": 0}, "--in-features is out of its range"),
        ({"in_features": 2**17}, "--in-features is out of its range"),
        ({"validation": 1.5}, "--validation is out of its range"),
        ({"test": -0.1}, "--test is out of its range"),
        ({"rows": 0}, "no training rows"),
        ({"validation": 0.6, "test": 0.6}, "no training rows"),
        ({"activations": "trained"}, "--activations cannot be that"),
        ({"activations": "frozen"}, "--activations cannot be that"),
    ],
)
def test_an_option_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    files = files_of(tmp_path, CASES[0])
    with pytest.raises(ConfigError, match=says) as caught:
        planned(files.label_owner, Options(**{"in_features": 8, **changes}))
    assert caught.value.hint


def test_a_product_that_fits_no_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError):
        planned(
            files_of(tmp_path, CASES[3]).label_owner,
            Options(rows=2**20, in_features=8, batch=2**20, activations="fixed"),
        )


def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[0])
    configure(files.label_owner, {"table.target": "nowhere"})
    with pytest.raises(DataError, match="nowhere"):
        planned(files.label_owner, label_options(CASES[0]))


def test_policy_is_compared_with_what_the_run_releases(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[0])
    configure(files.data_owner, {"policy.released_z_per_row": 12})
    fits = planned(files.data_owner, DATA_OPTIONS)
    assert fits.warnings == ()
    assert "12 values of z for each training row, after 0 before; its policy allows 12" in _text(fits)
    configure(files.data_owner, {"policy.released_z_per_row": 11})
    (refused,) = planned(files.data_owner, DATA_OPTIONS).warnings
    assert refused.startswith("this run would be refused: the data owner's policy allows")
    assert "released_z_per_row 11, and 12 was asked for" in refused
    (usual,) = planned(files.label_owner, Options(in_features=8, epochs=200, batch=600)).warnings
    assert "refused under the usual policy" in usual


def _text(made: Plan) -> str:
    return "\n".join(plan_lines(made))


def test_what_earlier_runs_released_counts(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[0])
    assert not (tmp_path / "telco" / "ledger").exists()
    planned(files.data_owner, DATA_OPTIONS)
    assert not (tmp_path / "telco" / "ledger").exists()
    with closing(open_ledger(load_data_owner_run(files.data_owner))) as ledger:
        ledger.record(Totals(released_z_per_row=635))
        made = planned(files.data_owner, DATA_OPTIONS)  # read while it is in use
    assert plan_values(made)["released_z_per_row_before"] == 635
    assert "and 647 was asked for" in made.warnings[0]


def test_range_of_z_is_a_warning_beyond_the_guard(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[0])
    assert largest_z(8) == 8 * 8 * 16 == 2**10
    configure(files.data_owner, {"policy.smallest_batch": 1})
    assert planned(files.data_owner, DATA_OPTIONS).warnings == ()
    wider = Options(**{**DATA_OPTIONS.__dict__, "in_features": 9})
    (warning,) = planned(files.data_owner, wider).warnings
    assert "z can move by 1152" in warning
    assert "in_features x 8 x 16" in warning
    assert "1024" in warning


def test_json_says_what_the_lines_say(tmp_path: Path) -> None:
    files = files_of(tmp_path, CASES[3])
    known = ["--in-features", "8", "--activations", "fixed"]
    line = ["--bandwidth", "1 Gbit/s", "--latency", "1 ms"]
    outcome = run_here("plan", files.label_owner, *known, *line, "--json")
    assert outcome.code == 0
    values = json.loads(outcome.output)
    made = planned(files.label_owner, label_options(CASES[3])).forecast
    assert values["parts"]["run"]["label_owner_bytes"] == made.run.label_owner_bytes
    assert values["parts"]["later_epoch"]["data_owner_bytes"] == made.later_epoch.data_owner_bytes
    assert values["memory_bytes"]["label_owner"] == made.memory_bytes[LABEL_OWNER]
    assert values["bytes_per_second"] == 125e6
    run = values["parts"]["run"]
    assert run["transfer_seconds"] == pytest.approx(
        (run["label_owner_bytes"] + run["data_owner_bytes"]) / 125e6 + run["round_trips"] / 1000
    )
    assert values["spare_bits"]["forward"] > 40


def test_later_parts_are_shown_where_they_differ(tmp_path: Path) -> None:
    fixed = planned(files_of(tmp_path / "fixed", CASES[3]).label_owner, label_options(CASES[3]))
    assert {"later_step", "later_epoch"} < set(plan_values(fixed)["parts"])
    trained = planned(files_of(tmp_path / "trained", CASES[4]).label_owner, label_options(CASES[4]))
    assert not {"later_step", "later_epoch"} & set(plan_values(trained)["parts"])
    once = planned(
        files_of(tmp_path / "once", CASES[3]).label_owner,
        Options(in_features=8, activations="fixed", epochs=1),
    )
    assert not {"later_step", "later_epoch"} & set(plan_values(once)["parts"])
