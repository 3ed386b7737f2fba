"""Trainings that die and continue end with the weights of the unbroken one, or say why they cannot."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from torch import nn

from moiety.config import load_run
from moiety.crypto.sampling import Seed
from moiety.errors import (
    CapacityError,
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    ConfigError,
    DataError,
    LocalProtocolError,
    MoietyError,
    PeerAbortedError,
)
from moiety.party.label_owner.run import LabelOwnerRun, open_run
from moiety.party.label_owner.train import train
from tests.support.hearing import Heard
from tests.support.killed_runs import (
    Fate,
    Killed,
    ProbeRandomness,
    finished,
    killed_and_gone_on,
    live,
    mortal_files,
    pin,
    tiny_parties,
)
from tests.support.parties import Files, configure, run_here, wire

SLICES = 6


@pytest.fixture(autouse=True)
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch)


def pin_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the parameters of production: these products need their room."""
    monkeypatch.undo()
    pin(monkeypatch, small=False)


def copied(template: Path, folder: Path) -> Files:
    shutil.copytree(template, folder)
    return Files(label_owner=folder / "bank" / "run.toml", data_owner=folder / "telco" / "run.toml")


def unbroken(template: Path, folder: Path) -> tuple[dict[str, bytes], list[str]]:
    made = copied(template, folder)
    fate = Fate()
    with mortal_files(fate):
        live(made, fate, [])
    return finished(made), fate.moments


def distinct(moments: list[str]) -> list[int]:
    """Number the first moment of each kind after the second step, or wherever it is where it comes once."""
    # The first file is the contract, the next the checkpoint before any step.
    second = [at for at, name in enumerate(moments) if name == "label owner after writing"][2]
    return sorted({moments[second:].index(name) + second for name in moments[second:]} | {*range(16)})


@pytest.mark.slow
@pytest.mark.parametrize("part", range(SLICES))
def test_run_killed_at_every_kind_of_moment_ends_alike(tmp_path: Path, part: int) -> None:
    tiny_parties(tmp_path / "template")
    expected, moments = unbroken(tmp_path / "template", tmp_path / "whole")
    assert len(distinct(moments)) > 40
    for at in distinct(moments)[part::SLICES]:
        learnt, name, seeds = killed_and_gone_on(tmp_path / "template", tmp_path / str(at), at)
        assert learnt == expected, name
        assert len(set(seeds)) == len(seeds)


def choose(made: Files, protocol: str) -> None:
    """Train a bottom model with dropout and batch norm, a top with dropout, a schedule and a best epoch."""
    agreed = {"name": protocol, "reveals": "gradients"}
    settings: dict[str, Any] = {
        "train.schedule": "ExponentialLR",
        "train.schedule_options": {"gamma": 0.5},
        "train.keep": "best",
        "model.hidden": None,
        "model.top": "tests.support.killed_networks:top",
        "protocol": agreed,
    }
    configure(made.label_owner, settings)
    bottom = {
        "protocol": agreed,
        "model": {"bottom": "tests.support.killed_networks:bottom"},
        "train": {"optimizer": "RMSprop", "schedule": "StepLR", "schedule_options": {"step_size": 1}},
    }
    configure(made.data_owner, bottom)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_trained_bottom_model_continues_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    pin_alone(monkeypatch)
    choose(tiny_parties(tmp_path / "template"), protocol)
    expected, moments = unbroken(tmp_path / "template", tmp_path / "whole")
    assert any(name.startswith("bottom.") for name in expected)
    fourth = [at for at, name in enumerate(moments) if name == "label owner after writing"][5]
    for at in (fourth + 9, next(at for at, name in enumerate(moments) if "CHOICE" in name)):
        learnt, name, _ = killed_and_gone_on(tmp_path / "template", tmp_path / str(at), at)
        assert learnt == expected, name


def test_activations_that_are_kept_encrypted_cross_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin_alone(monkeypatch)
    made = tiny_parties(tmp_path / "template")
    for path in (made.label_owner, made.data_owner):
        configure(path, {"protocol": {"name": "acml", "reveals": "gradients"}})
    expected, moments = unbroken(tmp_path / "template", tmp_path / "whole")
    last = len(moments) - 30
    learnt, _, _ = killed_and_gone_on(tmp_path / "template", tmp_path / "killed", last)
    assert learnt == expected


# --- which checkpoint ---


class Notes(Heard):
    """Keeps what it is told, and ends the process after some steps."""

    def __init__(self, *, steps: int | None = None) -> None:
        super().__init__()
        self.steps = 0
        self._end = steps

    def step(self, **_: Any) -> None:
        self.steps += 1
        if self.steps == self._end:
            raise Killed


def stopped(folder: Path, *, steps: int = 4, **changes: Any) -> Files:
    """A training that died after some steps, with a checkpoint after each."""
    made = tiny_parties(folder, **changes)
    with pytest.raises(Killed):
        live(made, Fate(), [], listener=Notes(steps=steps))
    return made


def newest(path: Path) -> Path:
    return max((load_run(path).folder / "checkpoints").iterdir())


def test_run_continues_after_the_last_step(tmp_path: Path) -> None:
    made, notes = stopped(tmp_path), Notes()
    result = live(made, Fate(), [], resume=True, listener=notes)
    assert notes.said == ["the run resumes after step 3"]
    assert (notes.steps, result.steps) == (3, 6)
    assert len(result.validation) == 2


def identify(made: Files) -> None:
    """Give both parties' rows ids, and the data owner's another order."""
    folders = {made.label_owner: "labels.parquet", made.data_owner: "features.parquet"}
    for path, name in folders.items():
        table = parquet.read_table(path.parent / name)
        table = table.append_column("customer", pa.array(range(table.num_rows)))
        turned = table if path == made.label_owner else table.take(list(range(table.num_rows))[::-1])
        parquet.write_table(turned, path.parent / name)
        configure(path, {"table.id": ["customer"]})


def test_aligned_run_continues_in_the_order_that_was_kept(tmp_path: Path) -> None:
    made, notes = tiny_parties(tmp_path), Notes()
    identify(made)
    with pytest.raises(Killed):
        live(made, Fate(), [], listener=Notes(steps=4))
    result = live(made, Fate(), [], resume=True, listener=notes)
    assert [sentence.partition(":")[0] for sentence in notes.said] == [
        "aligned",
        "the run resumes after step 3",
    ]
    assert (notes.steps, result.steps) == (3, 6)


def test_aligned_run_without_its_alignment_says_that_the_order_is_another(tmp_path: Path) -> None:
    made = tiny_parties(tmp_path)
    identify(made)
    with pytest.raises(Killed):
        live(made, Fate(), [], listener=Notes(steps=4))
    next((tmp_path / "telco" / "small").glob("alignment-*.json")).unlink()
    with pytest.raises(CheckpointMismatchError, match="order_digest"):
        live(made, Fate(), [], resume=True)


@pytest.mark.parametrize("side", ["label owner", "data owner"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_half_that_is_not_there_leads_back_to_the_one_before(tmp_path: Path, side: str, how: str) -> None:
    made = stopped(tmp_path)
    path = newest(made.label_owner if side == "label owner" else made.data_owner)
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    notes, peer = Notes(), Heard()
    train(
        made.label_owner,
        resume=True,
        channel=wire(made, listener=peer),
        randomness=ProbeRandomness(set(), []),
        listener=notes,
    )
    assert notes.said[-1] == "the run resumes after step 2"
    assert "the run resumes after step 2" in peer.said
    damaged = notes.said if side == "label owner" else peer.said
    assert any("does not match" in line or "not a checkpoint" in line for line in damaged) == (
        how == "damaged"
    )
    if side == "data owner":
        assert "the newest checkpoint is not on both sides: back to step 2" in notes.said
    assert any("back to step 2" in line for line in peer.said)


def test_halves_without_a_common_checkpoint_are_refused_on_both_sides(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    kept = newest(made.data_owner)
    shutil.rmtree(newest(made.label_owner).parent)
    other = stopped(tmp_path / "other")
    for path in kept.parent.iterdir():
        path.unlink()
    run = newest(other.label_owner).name.split(".")[0]
    shutil.copytree(newest(other.label_owner).parent, made.label_owner.parent / "small" / "checkpoints")
    kept.write_bytes(b"damaged")
    kept.rename(kept.with_name(f"{run}.00000001.safetensors"))
    with pytest.raises(MoietyError) as caught:
        live(made, Fate(), [], resume=True)
    assert "resumes" in caught.value.message
    assert "holds no checkpoint" in caught.value.hint


def test_checkpoints_of_different_moments_are_refused(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    folder = newest(made.data_owner).parent
    for path in sorted(folder.iterdir())[:-1]:
        path.unlink()
    newest(made.label_owner).unlink()
    with pytest.raises(CheckpointMismatchError, match="no checkpoint of this run in common"):
        live(made, Fate(), [], resume=True)


def test_run_without_a_checkpoint_cannot_go_on(tmp_path: Path) -> None:
    made = tiny_parties(tmp_path)
    with pytest.raises(CheckpointCorruptError, match="no checkpoint to resume from") as caught:
        live(made, Fate(), [], resume=True)
    assert "without --resume" in caught.value.hint


def test_new_training_does_not_replace_an_unfinished_one(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    with pytest.raises(ConfigError, match="stopped after step 3") as caught:
        live(made, Fate(), [])
    assert "--resume" in caught.value.hint
    shutil.rmtree(newest(made.label_owner).parent)
    assert live(made, Fate(), []).steps == 6


def test_finished_run_leaves_no_checkpoint_at_the_label_owner(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    live(made, Fate(), [], resume=True)
    assert not (made.label_owner.parent / "small" / "checkpoints").exists()
    with pytest.raises(CheckpointCorruptError):
        live(made, Fate(), [], resume=True)


# --- the same run ---


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train.batch": 15}, "batch = 16, and the own terms now say 15"),
        ({"train.epochs": 3}, "epochs = 2, and the own terms now say 3"),
        ({"model.units": 1}, "out_features = 2, and the own terms now say 1"),
        ({"split.test": 0.3}, "test = 0.2, and the own terms now say 0.3"),
    ],
)
def test_run_file_that_changed_is_named_before_anything_is_proposed(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    made = stopped(tmp_path)
    configure(made.label_owner, changes)
    fate = Fate()
    with pytest.raises(CheckpointMismatchError, match=says) as caught:
        live(made, fate, [], resume=True)
    assert caught.value.hint
    assert [moment for moment in fate.moments if "ABORT" not in moment] == []


def test_column_that_the_run_began_with_must_still_be_there(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    configure(made.data_owner, {"table.features": ["f0", "f1"]})
    with pytest.raises(DataError, match="no column 'f2'"):
        live(made, Fate(), [], resume=True)


def test_networks_that_changed_are_named(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    configure(made.label_owner, {"model.hidden": [4]})
    with pytest.raises(CheckpointMismatchError, match="checkpoint's top is of another kind or shape"):
        live(made, Fate(), [], resume=True)


def test_limit_may_be_raised_between_two_sessions(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    configure(made.data_owner, {"policy.released_z_per_row": 2 * 10**6})
    assert live(made, Fate(), [], resume=True).steps == 6


# --- what can be kept, and when ---


def test_optimizer_that_cannot_be_kept_is_refused_at_the_start(tmp_path: Path) -> None:
    made = tiny_parties(tmp_path, **{"train.optimizer": "tests.support.killed_networks:odd_optimizer"})
    with pytest.raises(CheckpointError, match=r"optimizer\.param_groups\.0\.rule is a function"):
        live(made, Fate(), [])
    configure(made.label_owner, {"checkpoint.every": "never"})
    assert live(made, Fate(), []).steps == 6
    assert not (made.data_owner.parent / "small" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("every", "writes"), [("1 steps", 7), ("2 steps", 4), ("epoch", 2), ("9999 s", 1), ("never", 0)]
)
def test_checkpoints_are_as_frequent_as_the_run_file_says(tmp_path: Path, every: str, writes: int) -> None:
    made = tiny_parties(tmp_path, **{"checkpoint.every": every})
    fate = Fate()
    with mortal_files(fate):
        live(made, fate, [])
    # Each party writes them, the contract before, and two files of the model at the end.
    assert fate.moments.count("label owner after writing") == 1 + writes + 2
    assert fate.moments.count("data owner after writing") == 1 + writes + 2


def loop(run: LabelOwnerRun, *, steps: int | None = None) -> nn.Module:
    """A training loop of one's own, which dies after some steps."""
    layer = run.interactive_layer()
    top = nn.Sequential(nn.Dropout(0.3), nn.ReLU(), nn.Linear(2, 1))
    optimizer = torch.optim.Adam([*layer.parameters(), *top.parameters()], lr=0.02)
    run.keep(top=top, optimizer=optimizer)
    for _ in run.epochs():
        for batch in run.batches("train"):
            output = top(layer(batch.rows)).squeeze(1)
            nn.functional.binary_cross_entropy_with_logits(output, batch.target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            if run.updates == steps:
                raise Killed
    return top


def opened(made: Files, *, resume: bool = False) -> LabelOwnerRun:
    source = ProbeRandomness(set() if resume else {1}, list[Seed]())
    return open_run(made.label_owner, resume=resume, channel=wire(made), randomness=source)


def test_loop_of_ones_own_continues_to_the_bit(tmp_path: Path) -> None:
    whole, broken = tiny_parties(tmp_path / "whole"), tiny_parties(tmp_path / "broken")
    with opened(whole) as run:
        run.save(loop(run))
    with pytest.raises(Killed), opened(broken) as run:
        loop(run, steps=5)
    with opened(broken, resume=True) as run:
        assert run.epochs() == range(1, 2)
        run.save(loop(run))
    assert finished(broken) == finished(whole)


def test_checkpoint_is_taken_when_the_loop_asks_for_it(tmp_path: Path) -> None:
    made = tiny_parties(tmp_path, **{"checkpoint.every": "epoch"})
    with opened(made) as run:
        with pytest.raises(LocalProtocolError, match="nothing to save"):
            run.checkpoint()
        with pytest.raises(LocalProtocolError, match="no interactive layer"):
            run.keep()
        layer = run.interactive_layer()
        run.keep(schedule=None)
        run.checkpoint()
        layer(next(run.batches("train")).rows)
        with pytest.raises(LocalProtocolError, match="step is open"):
            run.checkpoint()
    assert len(list(newest(made.label_owner).parent.iterdir())) == 1


def test_program_that_registers_something_else_is_refused(tmp_path: Path) -> None:
    made = stopped(tmp_path)
    with opened(made, resume=True) as run:
        run.interactive_layer()
        with pytest.raises(CheckpointMismatchError, match="the program registers layer, step_rule, top"):
            run.keep(top=nn.Linear(2, 1))


# --- disks, memory, clocks ---


def test_full_disk_ends_the_run_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny_parties(tmp_path)
    count = 0

    def full(_: int) -> None:
        nonlocal count
        count += 1
        if count > 10:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises((CheckpointError, PeerAbortedError)) as caught:
            live(made, Fate(), [])
    assert caught.value.hint
    assert live(made, Fate(), [], resume=True).steps == 6


def test_memory_that_runs_out_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, notes = tiny_parties(tmp_path), Notes()

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("std::bad_alloc")

    class Hungry(Notes):
        def step(self, **options: Any) -> None:
            super().step(**options)
            if self.steps == 3:
                monkeypatch.setattr("moiety.party.label_owner.link.encode_gradients", fail)

    with monkeypatch.context(), pytest.raises(CapacityError, match="memory ran out") as caught:
        live(made, Fate(), [], listener=Hungry())
    assert "--resume" in caught.value.hint
    monkeypatch.undo()
    pin(monkeypatch)
    assert live(made, Fate(), [], resume=True, listener=notes).steps == 6
    assert notes.steps == 3


def test_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stopped(tmp_path)
    monkeypatch.setattr("time.time", lambda: -1e9)
    assert live(made, Fate(), [], resume=True).steps == 6


# --- the command line ---


def test_train_and_provide_refuse_to_resume_what_is_not_there(tmp_path: Path) -> None:
    made = tiny_parties(tmp_path)
    trained = run_here("train", made.label_owner, "--resume")
    assert trained.code == 7
    assert "no checkpoint to resume from" in trained.errors
    provided = run_here("provide", made.data_owner, "--resume")
    assert provided.code == 7
    assert "no unfinished run" in provided.errors
