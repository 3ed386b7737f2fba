"""Classes counted in each split and evened out by weights, at the label owner only."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from moiety.config import load_label_owner_run
from moiety.contract.schedule import Schedule, Split
from moiety.crypto.sampling import Seed
from moiety.data.target import Target
from moiety.demo.local import simulate
from moiety.errors import ConfigError
from moiety.nn.fit import criterion_of
from moiety.nn.metrics import accuracy, auc, ks, measure
from moiety.nn.strata import Strata, class_counts, class_factors, row_weights, strata_of
from tests.support.parties import configure, make_parties, meet
from tests.support.randomness import RecordedRandomness, words_of

SCHEDULE = Schedule(seed=Seed(bytes(32)), rows=300, validation=0.2, test=0.3, batch=64, epochs=1)
TARGET = (words_of("classes", 300) % np.uint64(5) > 2).astype(np.int64) + (words_of("more", 300) < 2**62)


def test_class_counts_add_up_to_the_table() -> None:
    counts = class_counts(TARGET, SCHEDULE, classes=3)
    np.testing.assert_array_equal(np.sum(list(counts.values()), axis=0), np.bincount(TARGET, minlength=3))
    assert {name: sum(rows) for name, rows in counts.items()} == {"train": 150, "validation": 60, "test": 90}


def test_class_factors_give_every_split_the_shares_of_the_table() -> None:
    counts = class_counts(TARGET, SCHEDULE, classes=3)
    shares = np.bincount(TARGET, minlength=3) / 300
    for name, split in (("train", Split.TRAIN), ("validation", Split.VALIDATION), ("test", Split.TEST)):
        rows = SCHEDULE.split_rows(split)
        weight_N = row_weights(TARGET[rows].astype(float), class_factors(counts, name))
        np.testing.assert_allclose(weight_N.sum(), len(rows))
        weighted = np.bincount(TARGET[rows], weights=weight_N, minlength=3) / len(rows)
        np.testing.assert_allclose(weighted, shares)
        assert not np.allclose(np.bincount(TARGET[rows], minlength=3) / len(rows), shares)


def test_class_that_a_split_does_not_have_counts_nothing() -> None:
    assert class_factors({"train": [4, 4], "test": [2, 0]}, "test").tolist() == [0.6, 0.0]


def test_accuracy_counts_rows_by_weight() -> None:
    score_NK = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    target_N = np.array([0.0, 1.0, 1.0])
    assert accuracy(target_N, score_NK) == pytest.approx(2 / 3)
    assert accuracy(target_N, score_NK, np.array([1.0, 3.0, 1.0])) == pytest.approx(2 / 5)
    weighted = measure("multiclass", target_N, score_NK, weight_N=np.array([1.0, 3.0, 1.0]))
    assert weighted == {"accuracy": pytest.approx(2 / 5)}


def test_auc_and_ks_do_not_depend_on_the_shares_of_the_classes() -> None:
    target_N = (words_of("target", 200) % np.uint64(3) == 0).astype(float)
    score_N = words_of("score", 200).astype(float) * 2.0**-64 + target_N / 3
    repeated = np.repeat(np.arange(200), np.where(target_N == 1, 4, 1))
    for metric in (auc, ks):
        assert metric(target_N, score_N) == pytest.approx(metric(target_N[repeated], score_N[repeated]))


def strata_with(stratify: str | None, folder: Path) -> tuple[Strata | None, Path]:
    files = make_parties(folder, kind="multiclass")
    if stratify is not None:
        configure(files.label_owner, {"split.stratify": stratify})
    settings = load_label_owner_run(files.label_owner)
    return strata_of(settings, TARGET, SCHEDULE, classes=3), files.label_owner


@pytest.mark.parametrize(
    ("stratify", "in_metrics", "in_loss"),
    [(None, False, False), ("metrics", True, False), ("metrics and loss", True, True)],
)
def test_strata_weigh_what_the_run_file_says(
    tmp_path: Path, stratify: str | None, *, in_metrics: bool, in_loss: bool
) -> None:
    strata, path = strata_with(stratify, tmp_path)
    assert strata is not None
    assert (strata.metric_factors("test") is not None) is in_metrics
    assert (strata.loss_factors() is not None) is in_loss
    training_N = torch.from_numpy(TARGET[SCHEDULE.split_rows(Split.TRAIN)])
    settings = load_label_owner_run(path)
    target = Target(name="target", kind="multiclass", classes=(0.0, 1.0, 2.0))
    loss = criterion_of(settings, target, training_N, strata=strata)
    expected = torch.nn.CrossEntropyLoss(
        weight=torch.tensor(class_factors(strata.counts, "train"), dtype=torch.float32) if in_loss else None
    )
    output = torch.arange(9.0).reshape(3, 3) / 7 * torch.tensor([1.0, -1.0, 0.5])
    assert float(loss(output, torch.tensor([0, 1, 2]))) == pytest.approx(
        float(expected(output, torch.tensor([0, 1, 2])))
    )


def test_strata_multiply_the_class_weights_of_the_run_file(tmp_path: Path) -> None:
    strata, path = strata_with("metrics and loss", tmp_path)
    configure(path, {"task.class_weights": [1.0, 2.0, 3.0]})
    target = Target(name="target", kind="multiclass", classes=(0.0, 1.0, 2.0))
    loss = criterion_of(load_label_owner_run(path), target, torch.tensor([0, 1, 2]), strata=strata)
    assert strata is not None
    factor_C = torch.tensor(class_factors(strata.counts, "train"), dtype=torch.float32)
    expected = torch.nn.CrossEntropyLoss(weight=factor_C * torch.tensor([1.0, 2.0, 3.0]))
    output = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    target_N = torch.tensor([0, 1])
    assert float(loss(output, target_N)) == pytest.approx(float(expected(output, target_N)))


def test_stratified_run_reports_classes_at_the_label_owner_only(tmp_path: Path) -> None:
    files = make_parties(tmp_path, kind="multiclass")
    plain = simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"strata"))
    configure(files.label_owner, {"split.stratify": "metrics"})
    weighted = simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"strata"))
    assert weighted.test["accuracy"] != plain.test["accuracy"]
    assert weighted.test["accuracy"] == pytest.approx(plain.test["accuracy"], abs=0.05)
    assert {name: sum(rows) for name, rows in plain.class_counts.items()} == {
        "train": 420,
        "validation": 60,
        "test": 120,
    }
    configure(files.label_owner, {"peer.dial": "127.0.0.1:1"})
    said = " ".join(meet(files).reports)
    numbers = set(re.findall(r"\d+", said))  # as a part of a port's number a count says nothing
    assert not any(str(count) in numbers for count in weighted.class_counts["train"])


def test_stratified_regression_is_refused(tmp_path: Path) -> None:
    files = make_parties(tmp_path, kind="regression")
    configure(files.label_owner, {"split.stratify": "metrics"})
    with pytest.raises(ConfigError, match="a regression has no classes"):
        load_label_owner_run(files.label_owner)
    configure(files.label_owner, {"split.stratify": None})
    settings = load_label_owner_run(files.label_owner)
    assert strata_of(settings, TARGET, SCHEDULE, classes=1) is None
