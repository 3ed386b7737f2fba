import json
import math
from pathlib import Path

import pytest
from torch import nn

from moiety.demo.local import simulate
from moiety.errors import ConfigError, DataError, PolicyError
from moiety.party.label_owner.result import Result
from tests.support.parties import Files, configure, make_parties, rewrite_table, with_column
from tests.support.randomness import RecordedRandomness


def wide_top(units: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Tanh(), nn.Linear(units, 11), nn.Tanh(), nn.Linear(11, outputs))


def not_a_network(units: int, outputs: int) -> int:
    return units + outputs


def run(files: Files, **changes: object) -> Result:
    configure(files.label_owner, {key.replace("__", "."): value for key, value in changes.items()})
    return simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"local"))


def test_simulate_learns_two_classes(tmp_path: Path) -> None:
    result = run(make_parties(tmp_path), train__epochs=6)
    assert result.test["AUC"] > 0.9
    assert 0 < result.test["KS"] <= 1
    assert [sorted(each) for each in result.validation] == [["AUC", "KS"]] * 6
    assert result.released_z_per_row == 4 * 6


def test_simulate_learns_three_classes(tmp_path: Path) -> None:
    result = run(make_parties(tmp_path, kind="multiclass"), train__epochs=8, train__learning_rate=0.05)
    assert result.test["accuracy"] > 0.7


def test_simulate_learns_a_regression(tmp_path: Path) -> None:
    result = run(make_parties(tmp_path, kind="regression"), train__epochs=8, train__learning_rate=0.05)
    # Of the standardised target: 1 would be the mean of the training rows.
    assert result.test["RMSE"] < 0.7


def test_simulate_learns_with_plain_steps(tmp_path: Path) -> None:
    result = run(
        make_parties(tmp_path),
        train__update="sgd",
        train__optimizer="sgd",
        train__epochs=8,
        train__learning_rate=1.0,
    )
    assert result.test["AUC"] > 0.75


@pytest.mark.slow
def test_simulate_learns_with_plain_local_optimizer(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    result = run(files, train__optimizer="sgd", train__epochs=6, train__learning_rate=0.1)
    assert result.test["AUC"] > 0.75


@pytest.mark.slow
def test_simulate_gives_other_result_with_other_optimizer(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    adam = run(files)
    assert run(files).test == adam.test
    assert run(files, train__optimizer="sgd").test != adam.test


def test_simulate_uses_own_top_network(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    result = run(files, model__hidden=None, model__top="tests.demo.test_local:wide_top", train__epochs=4)
    assert result.test["AUC"] > 0.75
    saved = json.loads((tmp_path / "bank" / "small" / "result.json").read_text())
    assert saved["out_features"] == 4


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tests.demo.test_local:missing", "cannot be imported"),
        ("no_such_module:factory", "cannot be imported"),
        ("tests.demo.test_local:not_a_network", "returned int"),
    ],
)
def test_simulate_refuses_top_network_that_is_none(tmp_path: Path, name: str, says: str) -> None:
    files = make_parties(tmp_path)
    with pytest.raises(ConfigError, match=says) as caught:
        run(files, model__hidden=None, model__top=name)
    assert "(units, outputs)" in caught.value.hint or "module:factory" in caught.value.hint


def test_simulate_leaves_no_ledger(tmp_path: Path) -> None:
    run(make_parties(tmp_path))
    assert not (tmp_path / "telco" / "ledger").exists()


def test_simulate_without_held_out_rows_has_no_metrics(tmp_path: Path) -> None:
    result = run(make_parties(tmp_path), split__validation=0.0, split__test=0.0, train__epochs=1)
    assert result.test == {}
    assert result.validation == [{}]
    assert math.isfinite(result.session_error)


def test_simulate_refuses_two_run_files_of_one_folder(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    moved = files.label_owner.parent / "telco.toml"
    moved.write_bytes(files.data_owner.read_bytes())
    with pytest.raises(ConfigError, match="one folder") as caught:
        simulate(files.label_owner, moved)
    assert "folder of its own" in caught.value.hint


def test_simulate_refuses_a_run_file_of_the_other_role(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    with pytest.raises(ConfigError, match="role is data-owner"):
        simulate(files.data_owner, files.label_owner)


def test_simulate_shows_the_data_owners_own_error(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.data_owner, {"policy.smallest_batch": 300})
    with pytest.raises(PolicyError) as caught:
        run(files)
    assert caught.value.limit == "smallest_batch"
    assert not (tmp_path / "bank" / "small").exists()
    assert not (tmp_path / "telco" / "small").exists()


def test_simulate_refuses_a_bad_table_before_anything_is_sent(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    rewrite_table(tmp_path / "telco" / "features.parquet", with_column("f3", [math.inf] * 600))
    with pytest.raises(DataError, match="f3"):
        run(files)


def choose(files: Files, protocol: str, *, bottom: bool = True) -> None:
    """Write a protocol into both run files, with the example's bottom model."""
    chosen = {"name": protocol} | ({} if protocol == "blind" else {"reveals": "gradients"})
    configure(files.label_owner, {"protocol": chosen})
    model = {"bottom": "moiety.demo.networks:bottom"} if bottom else {}
    configure(files.data_owner, {"protocol": chosen, "model": model})


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_simulate_learns_with_a_bottom_model(tmp_path: Path, protocol: str) -> None:
    files = make_parties(tmp_path)
    choose(files, protocol)
    result = run(files, train__epochs=8)
    assert result.test["AUC"] > 0.9
    assert (result.protocol, result.in_features) == (protocol, 16)
    assert result.label_leakage["direction"] > 0.95


def test_simulate_learns_under_acml_without_a_bottom_model(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    choose(files, "acml", bottom=False)
    result = run(files, train__epochs=6)
    assert result.test["AUC"] > 0.9
    assert result.label_leakage == {}


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_simulate_twice_with_the_same_seeds_gives_the_same_result(tmp_path: Path, protocol: str) -> None:
    files = make_parties(tmp_path)
    choose(files, protocol)
    first, again = run(files), run(files)
    assert (first.test, first.validation) == (again.test, again.validation)
    assert first.label_leakage == again.label_leakage


def test_simulate_refuses_a_bottom_model_before_anything_is_sent(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    choose(files, "joint")
    configure(files.data_owner, {"model.bottom": "moiety.demo.networks:missing"})
    with pytest.raises(ConfigError, match=r"model\.bottom = .* cannot be imported") as caught:
        run(files)
    assert "module:factory" in caught.value.hint


def test_simulate_refuses_reveals_on_one_side_only(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    choose(files, "joint")
    configure(files.label_owner, {"protocol.reveals": None})
    with pytest.raises(ConfigError, match="labels can be read from it") as caught:
        run(files)
    assert 'reveals = "gradients" on both sides' in caught.value.hint


def test_simulate_leaves_no_encrypted_activations_behind(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    choose(files, "acml", bottom=False)
    run(files)
    left = {path.name for path in (tmp_path / "bank" / "small").iterdir()}
    assert left == {"contract.json", "model.json", "model.safetensors", "result.json"}
