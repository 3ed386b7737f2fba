"""When a training ends and which epoch it keeps: the rules, their saved state, and whole runs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from moiety.cli.result import result_lines
from moiety.config import LabelOwnerRun, load_label_owner_run
from moiety.config.listener import SILENT, Listener
from moiety.contract.schedule import Schedule, Split
from moiety.crypto.sampling import Seed
from moiety.demo.compare import compare, join, train_twin
from moiety.demo.local import simulate
from moiety.demo.twin import TwinLink
from moiety.errors import ConfigError, LocalProtocolError, PeerAbortedError, PolicyError, RemoteProtocolError
from moiety.nn.build import make_optimizer, make_schedule
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import AdaptiveStep, PlainStep
from moiety.nn.stopping import BestModel, Followed, Stopping, check_plan, metric_of, stopping_of
from moiety.party.label_owner.run import open_run
from moiety.party.label_owner.train import train
from moiety.store import model as checkpoint
from tests.support.pair import contract_of, table_of
from tests.support.parties import Files, configure, make_parties, meet, rewrite_table, run_here, score, wire
from tests.support.randomness import RecordedRandomness, words_of

SCHEDULE = Schedule(seed=Seed(bytes(32)), rows=100, validation=0.2, test=0.0, batch=10, epochs=10)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def settings_with(folder: Path, *, kind: str = "binary", **train: Any) -> LabelOwnerRun:
    files = make_parties(folder, kind=kind)
    configure(files.label_owner, {"train": {"epochs": 10, **train}})
    return load_label_owner_run(files.label_owner)


def ends(rule: Stopping, values: Sequence[float], *, name: str = "AUC") -> tuple[int, str | None]:
    """Return after how many epochs a rule stops, and why."""
    for epoch, value in enumerate(values):
        reason = rule.ended(epoch, {name: value})
        if reason is not None:
            return epoch + 1, reason
    return len(values), None


@pytest.mark.parametrize(
    ("rule", "values", "epochs", "best"),
    [
        ({"patience": 1}, [0.6, 0.7, 0.7, 0.9], 3, 1),
        ({"patience": 2}, [0.6, 0.5, 0.7, 0.6, 0.6, 0.9], 5, 2),
        ({"patience": 2}, [0.5, 0.6, 0.7, 0.8], 4, 3),
        # Gains below 0.1 do not count against the patience, and the best epoch is the best all the same.
        ({"patience": 2, "least_gain": 0.1}, [0.5, 0.55, 0.58, 0.9], 3, 2),
        ({"patience": 2, "least_gain": 0.1}, [0.5, 0.55, 0.62, 0.65, 0.9], 5, 4),
        ({"patience": 2}, [math.nan, 0.6, math.nan, 0.5], 4, 1),
        ({"patience": 2}, [math.nan, math.nan, 0.5], 2, 0),
    ],
)
def test_early_stopping_waits_for_a_gain_as_long_as_it_should(
    tmp_path: Path, rule: dict[str, Any], values: list[float], epochs: int, best: int
) -> None:
    stopping = Stopping(settings_with(tmp_path, early_stopping=rule), steps_per_epoch=4)
    assert stopping.keeps_best
    ended, reason = ends(stopping, values)
    assert (ended, stopping.best_epoch) == (epochs, best)
    assert (reason is None) == (values[-1] in (0.8, 0.9) and epochs == len(values))


def test_metric_that_should_fall_counts_when_it_falls(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, kind="regression", early_stopping={"patience": 2})
    stopping = Stopping(settings, steps_per_epoch=4)
    assert ends(stopping, [3.0, 2.0, 2.5, 2.5, 1.0], name="RMSE")[0] == 4
    assert stopping.best_epoch == 1


def test_rule_never_stops_at_the_last_epoch(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, epochs=2, early_stopping={"patience": 1}, time_limit=1.0)
    stopping = Stopping(settings, steps_per_epoch=4)
    assert ends(stopping, [0.5, 0.4]) == (2, None)


def test_time_limit_stops_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    clock = Clock()
    stopping = Stopping(settings_with(tmp_path, time_limit=60.0), steps_per_epoch=4, clock=clock)
    assert stopping.ended(0, {"AUC": 0.5}) is None
    clock.now += 59.0
    assert stopping.ended(1, {"AUC": 0.5}) is None
    clock.now += 1.0
    assert stopping.ended(2, {"AUC": 0.9}) == "the time limit of 60 s has passed"
    assert not stopping.keeps_best


def test_steps_limit_lets_no_epoch_begin_that_would_pass_it(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, steps_limit=11)
    assert ends(Stopping(settings, steps_per_epoch=4), [0.5] * 5)[0] == 2
    assert ends(Stopping(settings, steps_per_epoch=11), [0.5] * 5)[0] == 1
    with pytest.raises(ConfigError, match="one epoch has 12 steps"):
        Stopping(settings, steps_per_epoch=12)


def test_state_of_a_rule_continues_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, early_stopping={"patience": 3, "least_gain": 0.05}, time_limit=1e3)
    values = [0.6, 0.7, 0.71, 0.69, 0.72, 0.9]
    for cut in range(1, 4):
        clock, later = Clock(), Clock()
        first = Stopping(settings, steps_per_epoch=4, clock=clock)
        for epoch in range(cut):
            assert first.ended(epoch, {"AUC": values[epoch]}) is None
        clock.now += 400.0
        later.now = 7.0
        again = Stopping(settings, steps_per_epoch=4, clock=later)
        again.load(json.loads(json.dumps(first.state())))
        assert again.state() == first.state()
        reasons = [again.ended(epoch, {"AUC": values[epoch]}) for epoch in range(cut, 5)]
        assert reasons[:-1] == [None] * (4 - cut)
        assert reasons[-1] == "validation AUC has not gained 0.05 for 3 epochs"
        assert again.best_epoch == 4
        later.now += 600.0
        assert again.ended(1, {"AUC": 1.0}) == "the time limit of 1000 s has passed"


def test_followed_rule_ends_and_keeps_where_the_other_did() -> None:
    rule = Followed(epochs=3, best_epoch=1)
    assert [rule.ended(epoch, {}) is None for epoch in range(3)] == [True, True, False]
    assert rule.best_epoch == 1
    assert not Followed(epochs=3, best_epoch=None).keeps_best


def layer_with(rule: AdaptiveStep | PlainStep, link: TwinLink) -> InteractiveLinear:
    return InteractiveLinear(link, in_features=5, out_features=3, rule=rule)


def test_best_model_returns_everything_to_the_epoch_it_was_taken_at() -> None:
    contract = contract_of()
    weights_DK = words_of("weights", 15).reshape(5, 3)
    link = TwinLink(table_of(contract), weights_DK, schedule=contract.schedule, rounding_seed=Seed(bytes(32)))
    layer, top = layer_with(AdaptiveStep(0.1), link), nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    layer.rule.scale(np.ones((4, 3)))
    layer.bias.data += 1.0
    best = BestModel()
    best.capture(4, layer, top)
    kept = {name: value.clone() for name, value in top.state_dict().items()}
    rule = {name: value.copy() for name, value in layer.rule.state().items()}

    link.weights = weights_DK + np.uint64(1)
    layer.bias.data += 1.0
    layer.rule.scale(np.full((4, 3), 9.0))
    top(torch.arange(12.0).reshape(4, 3)).sum().backward()
    with torch.no_grad():
        for parameter in top.parameters():
            parameter.add_(1.0)
    again = BestModel()
    again.load(*best.state())
    again.go_back(layer, top)
    np.testing.assert_array_equal(link.weights, weights_DK)
    assert layer.bias.tolist() == [1.0] * 3
    for name, value in layer.rule.state().items():
        np.testing.assert_array_equal(value, rule[name])
    assert all(torch.equal(value, kept[name]) for name, value in top.state_dict().items())
    assert again.epoch == 4


def test_best_model_of_an_ordinary_network_returns_too() -> None:
    layer, top = nn.Linear(2, 2), nn.Linear(2, 1)
    best = BestModel()
    best.capture(0, layer, top)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1.0
    best.go_back(layer, top)
    assert torch.equal(layer.weight, before)


# --- what cannot be used ---


@pytest.mark.parametrize(
    "train", [{"early_stopping": {}}, {"keep": "best"}, {"schedule": "ReduceLROnPlateau"}]
)
def test_rule_without_validation_rows_is_refused(tmp_path: Path, train: dict[str, Any]) -> None:
    settings = settings_with(tmp_path, **train)
    stopping_of(settings, SCHEDULE, steps_per_epoch=8)
    empty = Schedule(seed=Seed(bytes(32)), rows=100, validation=0.0, test=0.2, batch=10, epochs=10)
    with pytest.raises(ConfigError, match="the split has none"):
        stopping_of(settings, empty, steps_per_epoch=8)


def test_metric_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is none of a binary task's") as caught:
        check_plan(settings_with(tmp_path, metric="accuracy"))
    assert "AUC, KS" in caught.value.hint
    assert metric_of(settings_with(tmp_path / "other", metric="KS")) == "KS"


# --- the schedule that steps by a metric ---


@pytest.mark.slow
def test_plateau_schedule_lowers_both_rates_when_the_metric_stalls(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    options = {"factor": 0.5, "patience": 0, "threshold": 1.0}  # nothing gains that much: every epoch stalls
    configure(
        files.label_owner,
        {"train": {"epochs": 4, "schedule": "ReduceLROnPlateau", "schedule_options": options}},
    )
    with_plateau = run(files)
    halved = {"step_size": 1, "gamma": 0.5}
    configure(files.label_owner, {"train.schedule": "StepLR", "train.schedule_options": halved})
    # The first epoch is the best so far, and does not stall: its rate lasts one epoch longer than StepLR's.
    assert run(files).validation[1] != with_plateau.validation[1]
    configure(files.label_owner, {"train.schedule": None, "train.schedule_options": None})
    plain = run(files)
    assert plain.validation[:2] == with_plateau.validation[:2]
    assert plain.validation[2] != with_plateau.validation[2]


@pytest.mark.parametrize(("kind", "mode"), [("binary", "max"), ("multiclass", "max"), ("regression", "min")])
def test_plateau_schedule_knows_which_way_the_metric_should_go(tmp_path: Path, kind: str, mode: str) -> None:
    settings = settings_with(tmp_path, kind=kind, schedule="ReduceLROnPlateau")
    check_plan(settings)
    optimizer = make_optimizer(settings.train, [nn.Parameter(torch.zeros(1))])
    made: Any = make_schedule(settings.train, optimizer, smaller_is_better=kind == "regression")
    assert made.mode == mode


# --- whole runs ---


def run(files: Files, *, seed: bytes = b"stopping") -> Any:
    return simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(seed))


def stopping_run(files: Files, **train: Any) -> Any:
    usual = {"epochs": 12, "batch": 256, "learning_rate": 0.05, "early_stopping": {"patience": 2}}
    configure(files.label_owner, {"train": {**usual, **train}})
    return run(files)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        ("blind", "binary"),
        pytest.param("blind", "multiclass", marks=pytest.mark.slow),
        pytest.param("blind", "regression", marks=pytest.mark.slow),
        pytest.param("joint", "binary", marks=pytest.mark.slow),
        ("acml", "multiclass"),
    ],
)
def test_run_stops_early_and_saves_its_best_epoch(tmp_path: Path, protocol: str, kind: str) -> None:
    files = make_parties(tmp_path, kind=kind)
    chosen = {"name": protocol} | ({} if protocol == "blind" else {"reveals": "gradients"})
    for path in (files.label_owner, files.data_owner):
        configure(path, {"protocol": chosen})
    if protocol == "joint":
        configure(files.data_owner, {"model": {"bottom": "moiety.demo.networks:bottom"}})
    result = stopping_run(files)
    name = {"binary": "AUC", "multiclass": "accuracy", "regression": "RMSE"}[kind]
    values = [each[name] for each in result.validation]
    best = int(np.argmin(values) if kind == "regression" else np.argmax(values))
    assert result.kept_epoch == best
    if result.stopped is not None:
        assert len(values) < 12
        assert best == len(values) - 3
    twin = train_twin(join(files.label_owner, files.data_owner))
    assert result.test[name] == pytest.approx(twin[name], rel=0.02, abs=0.01)
    own, own_facts = checkpoint.load_model(tmp_path / "bank" / "small")
    peer, peer_facts = checkpoint.load_model(tmp_path / "telco" / "small")
    assert own_facts["updates"] == peer_facts["updates"] == 2 * len(values)
    assert own["share"].shape == peer["share"].shape
    assert len(score(files, tmp_path / "scores.csv")) == 600


def test_best_epoch_of_a_run_gives_the_metrics_that_were_printed(tmp_path: Path) -> None:
    """Kept weights are those of the best epoch: the same validation rows have the same score again."""
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train": {"epochs": 4, "learning_rate": 0.3, "keep": "best"}})
    with open_run(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"best")) as opened:
        layer, top = opened.interactive_layer(), nn.Linear(4, 1)
        optimizer = torch.optim.Adam([*layer.parameters(), *top.parameters()], lr=0.1)
        best, scores = BestModel(), []
        for epoch in range(4):
            for batch in opened.batches("train"):
                loss = nn.functional.mse_loss(top(layer(batch.rows)).squeeze(1), batch.target)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
            if epoch == 1:
                best.capture(epoch, layer, top)
            with torch.no_grad():
                scores.append(torch.cat([top(layer(b.rows)) for b in opened.batches("validation")]))
        best.go_back(layer, top)
        with torch.no_grad():
            again = torch.cat([top(layer(b.rows)) for b in opened.batches("validation")])
        opened.save(top)
    # The same weights under a dither of their own: width 2^-5, and weights of the top model of about 1.
    assert (again - scores[1]).abs().max() < 2**-4
    assert (again - scores[3]).abs().max() > 2**-4


@pytest.mark.usefixtures("exact")
def test_kept_last_epoch_is_the_one_that_it_stopped_at(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    kept = stopping_run(files, keep="last")
    assert kept.kept_epoch is None
    assert kept.stopped is not None
    fixed_epochs = {"epochs": len(kept.validation), "learning_rate": 0.05, "batch": 256}
    configure(files.label_owner, {"train": fixed_epochs})
    fixed = run(files)
    assert fixed.test == pytest.approx(kept.test, abs=0.02)
    assert fixed.released_z_per_row == kept.released_z_per_row


def test_limits_stop_a_run_and_say_so(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train": {"epochs": 9, "batch": 256, "steps_limit": 5}})
    result = run(files)
    assert (result.steps, result.kept_epoch, result.released_z_per_row) == (4, None, 8)
    assert result.stopped == "another epoch would pass the limit of 5 steps"
    lines = "\n".join(result_lines(result))
    assert "stopped after epoch 2: another epoch would pass the limit of 5 steps" in lines
    assert "this run may stop early: the data owner learns when" in lines
    configure(files.label_owner, {"train": {"epochs": 9, "batch": 256, "time_limit": 1e-9}})
    assert run(files).steps == 2
    configure(files.label_owner, {"train": {"epochs": 9, "batch": 256, "steps_limit": 1}})
    with pytest.raises(ConfigError, match="one epoch has 2 steps"):
        run(files)


def test_comparison_follows_the_run_that_stopped(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    result = stopping_run(files)
    compared = compare(files.label_owner, files.data_owner)
    assert compared.encrypted.kept_epoch == result.kept_epoch
    assert compared.rows["twin, in the clear"].metrics["AUC"] == pytest.approx(result.test["AUC"], abs=0.01)


def test_both_sides_say_that_a_run_may_stop(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train": {"epochs": 3, "batch": 256, "early_stopping": {"patience": 1}}})
    meeting = meet(files)
    assert meeting.result is not None
    assert any("may stop early" in sentence for sentence in meeting.reports)
    assert meeting.result.disclosed == [
        "this run may stop early: the data owner learns when, and that depends on labels"
    ]
    assert "may stop early" in "\n".join(result_lines(meeting.result))


def test_data_owner_that_allows_no_early_stopping_refuses_it(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train.keep": "best"})
    configure(files.data_owner, {"policy.early_stopping": False})
    assert run(files).stopped is None  # all epochs are made: nothing to refuse
    configure(files.label_owner, {"train.steps_limit": 100})
    with pytest.raises(PolicyError) as caught:
        run(files)
    assert caught.value.limit == "early_stopping"


@pytest.mark.parametrize("early", [True, False])
def test_loop_of_ones_own_ends_early_only_where_it_was_declared(tmp_path: Path, *, early: bool) -> None:
    files = make_parties(tmp_path)
    rules = {"early_stopping": {"patience": 1}, "keep": "last"} if early else {}
    configure(files.label_owner, {"train": {"epochs": 3, "batch": 256, **rules}})
    with open_run(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"own")) as opened:
        layer = opened.interactive_layer()
        for batch in opened.batches("train"):
            layer(batch.rows).mean().backward()
            layer.bias.grad = None
        if early:
            assert opened.save(nn.Linear(4, 1)).is_dir()
        else:
            with pytest.raises(LocalProtocolError, match="after 1 of 3 epochs and 0 steps") as caught:
                opened.save(nn.Linear(4, 1))
            assert "early_stopping" in caught.value.hint


def test_end_within_an_epoch_is_refused_even_where_stopping_is_declared(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train": {"epochs": 3, "batch": 256, "time_limit": 1e3}})
    with open_run(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"own")) as opened:
        layer = opened.interactive_layer()
        layer(next(opened.batches("train")).rows).mean().backward()
        with pytest.raises(LocalProtocolError, match="0 of 3 epochs and 1 steps"):
            opened.save(nn.Linear(4, 1))


def test_data_owner_refuses_an_end_that_was_not_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label owner that leaves its own check out is stopped by the data owner, which saves nothing."""
    monkeypatch.setattr("moiety.party.label_owner.run.require_end", lambda *_, **__: None)
    files = make_parties(tmp_path)
    opened = open_run(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"own"))
    layer = opened.interactive_layer()
    for batch in opened.batches("train"):
        layer(batch.rows).mean().backward()
        layer.bias.grad = None
    with pytest.raises((RemoteProtocolError, PeerAbortedError), match="does not allow"):
        opened.save(nn.Linear(4, 1))
    assert not (tmp_path / "telco" / "small" / "model.json").exists()


def test_check_says_when_a_training_may_end(tmp_path: Path) -> None:
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train": {"early_stopping": {"patience": 1}}})
    said = " ".join(run_here("check", files.label_owner).output.split())
    assert "how many epochs are trained, which depends on the labels" in said
    assert "encrypted: not which one it is" in said


# --- a run that continues after a restart ---


class Gone(BaseException):
    """The process is gone."""


class Dying(Listener):
    """A listener that ends the process at the first step of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        del rows, loss, sent, received
        if epoch == self._epoch:
            raise Gone


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 3])
def test_run_that_continues_stops_and_keeps_as_it_would_have(tmp_path: Path, epoch: int) -> None:
    """Patience, best epoch, its candidates on both sides, and a split by time survive a restart."""
    files = make_parties(tmp_path, kind="multiclass")
    days = pa.array([float(row * 7 % 600) for row in range(600)])
    table = files.data_owner.parent / "features.parquet"
    rewrite_table(table, lambda found: found.append_column("day", days))
    configure(files.data_owner, {"split": {"by": "day", "reveals": "periods"}})
    rules = {"early_stopping": {"patience": 2}, "learning_rate": 0.05}
    configure(
        files.label_owner,
        {
            "train": {"epochs": 12, "batch": 256, **rules},
            "split": {"reveals": "periods"},
            "checkpoint.every": "1 steps",
        },
    )
    with pytest.raises(Gone):
        go(files, listener=Dying(epoch))
    result = go(files, resume=True)
    values = [each["accuracy"] for each in result.validation]
    assert len(values) > epoch
    assert result.kept_epoch == int(np.argmax(values))
    assert (result.stopped is None) == (len(values) == 12)
    assert result.stopped is None or result.kept_epoch == len(values) - 3
    joined = join(files.label_owner, files.data_owner)
    assert joined.schedule.split_rows(Split.TEST).size == 120
    assert train_twin(joined)["accuracy"] == pytest.approx(result.test["accuracy"], abs=0.05)


def go(files: Files, *, resume: bool = False, listener: Listener = SILENT) -> Any:
    return train(
        files.label_owner,
        resume=resume,
        listener=listener,
        channel=wire(files),
        randomness=RecordedRandomness(b"resumed" if resume else b"first"),
    )
