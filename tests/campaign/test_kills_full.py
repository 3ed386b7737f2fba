"""Kills at full count: every moment in memory, and real processes at every frame and at random instants."""

import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.killed_processes import Death, Keeper, Killings
from tests.support.killed_runs import (
    Fate,
    finished,
    killed_and_gone_on,
    live,
    mortal_files,
    pin,
    tiny_parties,
)
from tests.support.parties import Files
from tests.support.randomness import words_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

KILLS = 200
FRAMES = range(1, 75)
"""An unbroken life of either process sends and receives fewer frames than that."""
LIVES = 40


def test_every_moment_in_memory(tmp_path: Path) -> None:
    tiny_parties(tmp_path / "template")
    with pytest.MonkeyPatch.context() as patch:
        pin(patch)
        shutil.copytree(tmp_path / "template", tmp_path / "whole")
        whole = Files(
            label_owner=tmp_path / "whole" / "bank" / "run.toml",
            data_owner=tmp_path / "whole" / "telco" / "run.toml",
        )
        fate = Fate()
        with mortal_files(fate):
            live(whole, fate, [])
        expected = finished(whole)
        for at in range(len(fate.moments)):
            learnt, name, seeds = killed_and_gone_on(tmp_path / "template", tmp_path / str(at), at)
            assert learnt == expected, name
            assert len(set(seeds)) == len(seeds)
            shutil.rmtree(tmp_path / str(at))
    say(f"\nin memory: {len(fate.moments)} kills, all ended with the unbroken run's weights")


def test_real_kills(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    say(f"\nseed {seed}")
    instants = iter((words_of(f"{seed}", 10**4) % 2000 / 1000).tolist())
    whole = Keeper(tmp_path / "whole", label_owner=[], data_owner=[]).run()
    frames = {role: iter(FRAMES) for role in ("label owner", "data owner")}
    total, lives, trainings = 0, 0, 0
    while total < KILLS:
        deaths = {role: [death(frames[role], instants) for _ in range(LIVES // 2)] for role in frames}
        killed: Killings = Keeper(
            tmp_path / str(trainings), label_owner=deaths["label owner"], data_owner=deaths["data owner"]
        ).run()
        assert killed.learnt == whole.learnt, deaths
        assert len(set(killed.seeds)) == len(killed.seeds)
        total, lives, trainings = total + killed.kills, lives + killed.lives, trainings + 1
        shutil.rmtree(tmp_path / str(trainings - 1))
        say(f"{total} kills, {lives} lives, {trainings} trainings")


def say(line: str) -> None:
    """Report a figure."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def death(frames: Iterator[int], instants: Iterator[float]) -> Death:
    """The next frame's number, while there are any; then a random instant."""
    number = next(frames, None)
    return Death(seconds=next(instants)) if number is None else Death(frame=number)
