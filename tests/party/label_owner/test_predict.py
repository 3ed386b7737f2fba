from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from moiety.crypto.ring import Z_BITS, decode
from moiety.data.table import read_table
from moiety.demo.compare import join
from moiety.demo.local import simulate
from moiety.errors import CheckpointCorruptError, CheckpointMismatchError, ConfigError, PolicyError
from moiety.nn.build import make_loss
from moiety.nn.fit import fit
from moiety.nn.top import build_top
from moiety.party.label_owner.predict import _class_name, predict
from moiety.party.label_owner.result import result_lines
from moiety.party.label_owner.run import open_run
from moiety.party.label_owner.train import train
from moiety.store import model as checkpoint
from tests.support.parties import (
    Files,
    Settings,
    configure,
    make_parties,
    rewrite_table,
    score,
    wire,
    with_column,
)
from tests.support.randomness import RecordedRandomness

HALF_DITHER = 2.0**-6
"""rho is uniform in [-2^44, 2^44), and z has 50 fractional bits."""


def trained(folder: Path, *, kind: str = "binary", changes: Settings | None = None) -> Files:
    files = make_parties(folder, kind=kind)
    configure(files.label_owner, changes or {})
    train(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"predictor"))
    return files


def scores_of(table: Any) -> NDArray[np.float64]:
    score_N: NDArray[np.float64] = table.column("score").to_numpy()
    return score_N


def clear_logits(files: Files, folder: Path) -> NDArray[np.float64]:
    """Run the saved network in the clear, from both halves: float64 (rows, outputs)."""
    own, _ = checkpoint.load_model(folder / "bank" / "small")
    peer, _ = checkpoint.load_model(folder / "telco" / "small")
    joined = join(files.label_owner, files.data_owner)
    weight_DK = decode(own["share"] + peer["share"], scale_bits=38)
    activation_ND, _ = joined.activations().batch(np.arange(600), training=False)
    z_NK = np.ldexp(activation_ND.astype(np.float64), -12) @ weight_DK + own["bias"]
    top = build_top(joined.settings, outputs=joined.target.outputs)
    top.load_state_dict(
        {name[4:]: torch.from_numpy(array) for name, array in own.items() if name.startswith("top.")}
    )
    with torch.no_grad():
        logits: NDArray[np.float64] = top(torch.from_numpy(z_NK).float()).numpy().astype(np.float64)
    return logits


def test_predict_gives_the_scores_of_the_trained_network(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    with open_run(files.label_owner, channel=wire(files)) as run:
        layer, top = run.interactive_layer(), build_top(run.settings, outputs=1)
        fit(run.batches, layer, top, settings=run.settings, criterion=make_loss("binary", None))
        rows, before = [], []
        with torch.no_grad():
            for batch in run.batches("test"):
                rows.append(run.schedule.rows_of(batch.rows))
                before.append(torch.sigmoid(top(layer(batch.rows))).squeeze(1))
        run.save(top)
    scores = scores_of(score(files, tmp_path / "scores.csv"))
    assert len(scores) == 600
    # The same rows under the same weights get the same dither, in training and afterwards.
    assert scores[np.concatenate(rows)] == pytest.approx(torch.cat(before).numpy(), abs=1e-6)


def test_predict_differs_from_the_clear_network_by_dither_only(tmp_path: Path) -> None:
    files = trained(tmp_path, changes={"model.hidden": []})
    scores = scores_of(score(files, tmp_path / "scores.csv"))
    own, _ = checkpoint.load_model(tmp_path / "bank" / "small")
    reach = HALF_DITHER * float(np.abs(own["top.1.weight"]).sum())
    difference = np.abs(np.log(scores / (1 - scores)) - clear_logits(files, tmp_path)[:, 0])
    assert 0 < difference.max() <= reach + 1e-4
    assert Z_BITS == 50


def test_predict_twice_gives_identical_scores(tmp_path: Path) -> None:
    files = trained(tmp_path)
    first = score(files, tmp_path / "first.csv", seed=b"one")
    second = score(files, tmp_path / "second.csv", seed=b"two")
    assert scores_of(first) == pytest.approx(scores_of(second), abs=1e-7)
    assert first.column("row") == second.column("row")


def test_predict_names_rows_by_id(tmp_path: Path) -> None:
    files = make_parties(tmp_path, ids=True)
    train(files.label_owner, channel=wire(files))
    table = score(files, tmp_path / "scores.csv")
    assert table.column_names == ["customer", "score"]
    assert sorted(table.column("customer").to_pylist()) == sorted(f"c{number}" for number in range(600))


def test_predict_numbers_rows_without_id(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    train(files.label_owner, channel=wire(files))
    table = score(files, tmp_path / "scores.csv")
    assert table.column("row").to_pylist() == list(range(600))


def test_predict_gives_one_column_a_class(tmp_path: Path) -> None:
    table = score(trained(tmp_path, kind="multiclass"), tmp_path / "scores.csv")
    assert table.column_names == ["row", "class_0", "class_1", "class_2"]
    total = sum(table.column(name).to_numpy() for name in table.column_names[1:])
    assert total == pytest.approx(1.0, abs=1e-6)


def test_predict_restores_the_scale_of_a_regression(tmp_path: Path) -> None:
    scores = scores_of(score(trained(tmp_path, kind="regression"), tmp_path / "scores.csv"))
    assert 90 < scores.mean() < 110


def test_predict_refuses_an_output_that_exists(tmp_path: Path) -> None:
    files = trained(tmp_path)
    output = tmp_path / "scores.csv"
    output.write_text("precious")
    with pytest.raises(ConfigError, match="exists") as caught:
        predict(files.label_owner, output)
    assert "another file" in caught.value.hint
    assert output.read_text() == "precious"


def test_predict_refuses_an_output_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        predict(make_parties(tmp_path).label_owner, tmp_path / "missing" / "scores.csv")


def test_predict_refuses_a_run_that_was_not_trained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorruptError, match="cannot be read") as caught:
        score(make_parties(tmp_path), tmp_path / "scores.csv")
    assert "train first" in caught.value.hint


def test_predict_refuses_a_damaged_own_half(tmp_path: Path) -> None:
    files = trained(tmp_path)
    saved = tmp_path / "bank" / "small" / "model.safetensors"
    saved.write_bytes(saved.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CheckpointCorruptError, match=r"bank.*digest"):
        score(files, tmp_path / "scores.csv")


def test_predict_refuses_a_damaged_peers_half(tmp_path: Path) -> None:
    files = trained(tmp_path)
    saved = tmp_path / "telco" / "small" / "model.json"
    saved.write_bytes(saved.read_bytes().replace(b'"updates": 4', b'"updates": 5'))
    with pytest.raises(CheckpointCorruptError, match=r"telco.*digest"):
        score(files, tmp_path / "scores.csv")


def test_predict_refuses_the_other_roles_half(tmp_path: Path) -> None:
    files = trained(tmp_path)
    for name in ("model.json", "model.safetensors"):
        half = (tmp_path / "bank" / "small" / name).read_bytes()
        (tmp_path / "telco" / "small" / name).write_bytes(half)
    with pytest.raises(CheckpointMismatchError, match="no data owner's side"):
        score(files, tmp_path / "scores.csv")


def test_predict_refuses_the_data_owners_half_on_its_own_side(tmp_path: Path) -> None:
    files = trained(tmp_path)
    for name in ("model.json", "model.safetensors"):
        half = (tmp_path / "telco" / "small" / name).read_bytes()
        (tmp_path / "bank" / "small" / name).write_bytes(half)
    with pytest.raises(CheckpointMismatchError, match="no label owner's half") as caught:
        score(files, tmp_path / "scores.csv")
    assert "folder of its own" in caught.value.hint


def test_predict_refuses_halves_of_two_trainings(tmp_path: Path) -> None:
    files = trained(tmp_path)
    old = {path: path.read_bytes() for path in (tmp_path / "bank" / "small").glob("model.*")}
    train(files.label_owner, channel=wire(files))
    for path, content in old.items():
        path.write_bytes(content)
    with pytest.raises(CheckpointMismatchError, match="different models"):
        score(files, tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()


def test_predict_refuses_another_top_network(tmp_path: Path) -> None:
    files = trained(tmp_path)
    configure(files.label_owner, {"model.hidden": [9]})
    with pytest.raises(CheckpointMismatchError, match="another shape") as caught:
        score(files, tmp_path / "scores.csv")
    assert "[model]" in caught.value.hint


def test_predict_refuses_other_units(tmp_path: Path) -> None:
    # The top network does not depend on the units here, so that the share is what is noticed.
    files = trained(
        tmp_path, changes={"model.top": "tests.party.label_owner.test_predict:sums", "model.hidden": None}
    )
    configure(files.label_owner, {"model.units": 5})
    with pytest.raises(CheckpointMismatchError, match="share has shape"):
        score(files, tmp_path / "scores.csv")


def sums(units: int, outputs: int) -> torch.nn.Module:
    del units
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool1d(1), torch.nn.Linear(1, outputs))


def test_predict_refuses_more_than_the_policy_allows(tmp_path: Path) -> None:
    files = trained(tmp_path)
    configure(files.data_owner, {"policy.predictions": 599})
    with pytest.raises(PolicyError) as caught:
        score(files, tmp_path / "scores.csv")
    assert caught.value.limit == "predictions"
    assert not (tmp_path / "scores.csv").exists()


def test_predict_scores_another_table_of_both_sides(tmp_path: Path) -> None:
    files = trained(tmp_path)
    all_rows = scores_of(score(files, tmp_path / "all.csv"))
    for source in (tmp_path / "bank" / "labels.parquet", tmp_path / "telco" / "features.parquet"):
        rewrite_table(source, lambda table: table.slice(100, 50))
    some = scores_of(score(files, tmp_path / "some.csv"))
    assert some == pytest.approx(all_rows[100:150], abs=1e-6)


def test_scores_of_classes_stand_under_the_names_of_the_classes(tmp_path: Path) -> None:
    files = make_parties(tmp_path, kind="multiclass")
    source = tmp_path / "bank" / "labels.parquet"
    words = ["low", "middle", "high"]

    def named(table: pa.Table) -> pa.Table:
        return with_column("target", [words[index] for index in table.column("target").to_pylist()])(table)

    rewrite_table(source, named)
    simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"names"))
    table = score(files, tmp_path / "scores.csv")
    assert table.column_names == ["row", "class_high", "class_low", "class_middle"]
    assert [_class_name(value) for value in ("a b", 3.0, 1234567.0, -0.5)] == ["a b", "3", "1234567", "-0.5"]


def test_report_gives_the_error_of_a_regression_in_the_unit_of_the_target(tmp_path: Path) -> None:
    files = make_parties(tmp_path, kind="regression")
    result = simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"unit"))
    said = next(line for line in result_lines(result) if line.startswith("test: "))
    target_N = read_table(tmp_path / "bank" / "labels.parquet", columns=["target"]).column("target")
    assert result.target_scale == pytest.approx(target_N.astype(float).std(), rel=0.1)
    assert said.endswith(f"{result.test['RMSE'] * result.target_scale:.4g} in the target's own unit")
