"""Bottom models in runs: what both parties are told, and run files that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moiety.cli.result import result_lines
from moiety.contract.products import REVEALS_GRADIENTS
from moiety.errors import (
    CheckpointMismatchError,
    ConfigError,
    ContractMismatchError,
    MoietyError,
    NonFiniteError,
)
from tests.support.bottom_runs import MODULE, Folder, Losses, make_folder
from tests.support.hearing import Heard
from tests.support.parties import meet, run_here, score


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return make_folder(tmp_path, monkeypatch)


# --- what the result says ---


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_result_tells_how_well_the_labels_leak(folder: Folder, protocol: str) -> None:
    folder.choose(protocol, "dense")
    result = folder.run()
    assert result.label_leakage.keys() == {"norm", "direction", "spectral"}
    assert result.label_leakage["direction"] > 0.95
    assert all(0.5 <= figure <= 1 for figure in result.label_leakage.values())
    saved = json.loads((folder.path / "bank" / "small" / "result.json").read_text())
    assert saved["label_leakage"] == result.label_leakage
    (line,) = [line for line in result_lines(result) if line.startswith("data owner learnt")]
    assert f"direction {result.label_leakage['direction']:.3f}" in line
    assert "no label" not in line


class Notices(Heard):
    """Keeps what it is told before the training."""

    def begin(self, *, epochs: int, rows: int) -> None:
        self.said.append(f"begin {epochs} {rows}")


def test_notice_comes_before_the_training_where_gradients_are_revealed(folder: Folder) -> None:
    for protocol, bottom, expected in (("joint", "dense", 1), ("acml", "dense", 1), ("blind", None, 0)):
        folder.choose(protocol, bottom)
        notices = Notices()
        folder.run(listener=notices)
        assert len(notices.said) == expected + 1
        assert notices.said[-1] == "begin 6 420"
        assert ("can tell the labels" in notices.said[0]) is bool(expected)


# --- what is refused ---


def refused(folder: Folder) -> MoietyError:
    with pytest.raises(MoietyError) as caught:
        folder.run()
    assert caught.value.hint
    for party in ("bank", "telco"):
        saved = folder.path / party / "small"
        assert not (saved / "model.json").exists()
    return caught.value


@pytest.mark.parametrize(
    ("bottom", "says"),
    [
        ("absent", "cannot be imported"),
        ("nothing", "returned str"),
        ("three", "the bottom model returned (2, 1, 8)"),
    ],
)
def test_bottom_model_that_cannot_be_used_is_refused(folder: Folder, bottom: str, says: str) -> None:
    folder.choose("joint", bottom)
    error = refused(folder)
    assert isinstance(error, ConfigError)
    assert says in error.message


def test_activations_that_stop_being_finite_end_the_run(folder: Folder) -> None:
    folder.choose("joint", "Exploding")
    error = refused(folder)
    assert isinstance(error, NonFiniteError)
    assert "activations of the bottom model" in error.message
    assert "learning rate" in error.hint


def configured(folder: Folder, change: Callable[[Folder], None]) -> MoietyError:
    folder.choose("joint", "dense")
    change(folder)
    return refused(folder)


def append(party: str, table: str, text: str) -> Callable[[Folder], None]:
    return lambda folder: folder.options(party, table, text)


BAD: list[tuple[Callable[[Folder], None], str, str]] = [
    (lambda f: f.data_owner(model={}), "no bottom model to train", "reveals nothing"),
    (lambda f: f.data_owner(protocol={"name": "blind"}), "trains none", "frozen = true"),
    (lambda f: f.data_owner(model={"frozen": True}), "frozen and no bottom", "name a bottom model"),
    (
        lambda f: f.data_owner(protocol={"name": "blind"}, model={}, train={"optimizer": "adam"}),
        "[train] and no bottom model",
        "leave [train] out",
    ),
    (lambda f: f.data_owner(train__optimizer="adamm"), "train.optimizer is not known", "torch.optim"),
    (lambda f: f.data_owner(train__optimizer="lbfgs"), "'lbfgs' cannot be used", "closure"),
    (lambda f: f.data_owner(train__schedule="Steps"), "train.schedule is not known", "lr_scheduler"),
    (lambda f: f.data_owner(train__schedule="ReduceLROnPlateau"), "cannot be used", "without a metric"),
    (append("data owner", "optimizer_options", "speed = 1"), "train.optimizer cannot be made", "options"),
    (lambda f: f.label_owner(train__optimizer="adamm"), "train.optimizer is not known", "torch.optim"),
    (lambda f: f.label_owner(train__optimizer="lbfgs"), "'lbfgs' cannot be used", "closure"),
    (lambda f: f.label_owner(train__schedule="Steps"), "train.schedule is not known", "lr_scheduler"),
    (lambda f: f.label_owner(train__schedule="StepLR"), "train.schedule cannot be made", "options"),
    (append("label owner", "optimizer_options", "speed = 1"), "train.optimizer cannot be made", "options"),
    (lambda f: f.label_owner(task__class_weights=[1.0, 2.0, 3.0]), "has 3 values", "one weight for each"),
    (lambda f: f.label_owner(protocol={"name": "joint"}), "names joint, which shows", "on both sides"),
]


@pytest.mark.parametrize(("change", "says", "hint"), BAD)
def test_run_file_that_cannot_be_used_is_refused_with_a_hint(
    folder: Folder, change: Callable[[Folder], None], says: str, hint: str
) -> None:
    error = configured(folder, change)
    assert isinstance(error, ConfigError)
    assert says in error.message
    assert hint in error.hint


def test_schedule_that_ends_too_early_is_refused_before_the_training(folder: Folder) -> None:
    folder.choose("joint", "dense")
    folder.label_owner(train__schedule="OneCycleLR")
    folder.options("label owner", "schedule_options", "max_lr = 0.1\ntotal_steps = 3")
    rates = Losses()
    with pytest.raises(ConfigError, match="cannot step") as caught:
        folder.run(listener=rates)
    assert "over all epochs" in caught.value.hint
    assert rates.losses == []


def test_data_owners_schedule_that_ends_too_early_ends_the_run(folder: Folder) -> None:
    folder.choose("joint", "dense")
    folder.data_owner(train__schedule="OneCycleLR")
    folder.options("data owner", "schedule_options", "max_lr = 0.1\ntotal_steps = 3")
    assert "cannot step" in refused(folder).message


def test_protocols_that_differ_are_named_on_both_sides(folder: Folder) -> None:
    folder.choose("joint", "dense")
    folder.label_owner(protocol={"name": "acml", "reveals": "gradients"})
    error = refused(folder)
    assert isinstance(error, ContractMismatchError)
    assert (error.field, {error.own, error.peer}) == ("protocol", {"joint", "acml"})


def test_saved_bottom_model_of_another_shape_is_refused(folder: Folder) -> None:
    folder.choose("joint", "dense")
    folder.run()
    folder.data_owner(model__bottom=f"{MODULE}:wide")
    with pytest.raises(CheckpointMismatchError, match=r"another shape than model\.bottom makes") as caught:
        score(folder.files, folder.path / "scores.csv")
    assert "restore the module" in caught.value.hint
    assert not (folder.path / "scores.csv").exists()


def test_command_line_says_what_is_wrong_with_a_bottom_model(folder: Folder) -> None:
    folder.choose("joint", "absent")
    outcome = run_here("simulate", folder.files.label_owner, folder.files.data_owner)
    assert outcome.code == 2
    assert "error: model.bottom = 'bottoms_of_runs:absent' cannot be imported" in outcome.errors
    assert "hint: write module:factory" in outcome.errors


# --- what the data owner is told ---


def test_data_owner_is_told_of_clipped_activations_and_of_what_it_is_shown(folder: Folder) -> None:
    folder.choose("joint", "large")
    folder.label_owner(train__epochs=1)
    meeting = meet(folder.files)
    assert meeting.data_owner is meeting.label_owner is None
    assert REVEALS_GRADIENTS in meeting.reports
    (before,) = [line for line in meeting.reports if line.endswith("beyond 8 and were clipped")]
    (after,) = [line for line in meeting.reports if line.endswith("of the bottom model were clipped at 8")]
    # 10 x 1.7 at most, uniform: about 1 - 8 / 17 of all entries; then of 420 + 60 + 120 rows of one epoch.
    assert 0.4 < int(before.split(" ")[0]) / (600 * 8) < 0.65
    assert 0.3 < int(after.split(" ")[0]) / (600 * 8) < 0.75


def test_data_owner_that_is_shown_nothing_is_told_nothing_of_gradients(folder: Folder) -> None:
    folder.choose("blind", "dense", frozen=True)
    folder.label_owner(train__epochs=1)
    meeting = meet(folder.files)
    assert meeting.result is not None
    assert REVEALS_GRADIENTS not in meeting.reports
    assert not [line for line in meeting.reports if "clipped" in line]
