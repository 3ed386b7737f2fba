"""Attacks that a restart could help: the same key, mask or counter twice, and more released than allowed."""

import json
import shutil
from pathlib import Path

import pytest

from moiety.config import Totals, load_data_owner_run
from moiety.config.listener import Listener
from moiety.crypto.sampling import SEED_BYTES, Seed
from moiety.demo.local import attach_data_owner
from moiety.errors import PeerPolicyError, PolicyError
from moiety.party.data_owner.features import open_ledger
from moiety.party.label_owner.train import train
from tests.support.killed_runs import (
    Fate,
    Killed,
    ProbeRandomness,
    can_go_on,
    live,
    mortal_pair,
    pin,
    tiny_parties,
)
from tests.support.parties import Files, configure


@pytest.fixture(autouse=True)
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch)


class CountedRandomness(ProbeRandomness):
    """The control: seeds from a generator whose counter is restored with the checkpoint."""

    def seed(self) -> Seed:
        number, self._calls = self._calls, self._calls + 1
        seed = Seed(number.to_bytes(SEED_BYTES, "little"))
        self._given.append(seed)
        return seed


def drawn(folder: Path, kind: type[ProbeRandomness]) -> list[Seed]:
    """Kill a training within its third step, continue, and return every seed that both parties drew."""
    made, given = tiny_parties(folder), list[Seed]()
    moment = Fate()
    live(tiny_parties(folder / "counted"), moment, [])
    third = [at for at, name in enumerate(moment.moments) if name == "label owner after sending GRADIENTS"][2]
    for fate, resume in ((Fate(third), False), (Fate(), True)):
        own_end, peer_end = mortal_pair(fate)
        attach_data_owner(peer_end, made.data_owner, randomness=kind(set(), given))
        try:
            train(made.label_owner, resume=resume, channel=own_end, randomness=kind(set(), given))
        except Killed:
            assert can_go_on(made)
    return given


def test_seeds_drawn_twice_after_a_kill(tmp_path: Path) -> None:
    """Attack 16. A party is killed within a step and continues; what it makes again must be made anew.

    Whoever holds both transcripts compares them: the same mask twice cancels, the same key and errors twice
    solve. Every key, mask and encryption comes from a seed that is drawn for it alone, so that the seeds
    drawn by both parties, over both lives, tell. `test_resume` kills at every moment and checks the same.
    Control: a generator whose state is saved repeats itself. Ours: no seed comes twice.
    """
    control = drawn(tmp_path / "control", CountedRandomness)
    assert len(set(control)) < len(control) / 2
    ours = drawn(tmp_path / "ours", ProbeRandomness)
    assert len(ours) > 20
    assert len(set(ours)) == len(ours)


def test_nothing_on_disk_that_a_restart_could_repeat(tmp_path: Path) -> None:
    """Attack 16, at the source: neither half holds a key, a mask or the state of a generator of such."""
    made = tiny_parties(tmp_path)
    with pytest.raises(Killed):
        live(made, Fate(150), [])
    holds = {}
    for path in (made.label_owner, made.data_owner):
        newest = max((path.parent / "small" / "checkpoints").iterdir())
        data = newest.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        facts = json.loads(header.pop("__metadata__")["facts"])
        holds[facts["role"]] = {name.split(".")[0] for name in header}, set(facts)
    common = {"role", "terms", "table", "order", "parts", "run", "mark", "version", "sha256", "digest"}
    assert holds == {
        "label-owner": (
            {"share", "layer", "top", "optimizer", "step_rule"},
            common | {"place", "seed", "clipped"},
        ),
        "data-owner": ({"share", "dither_key"}, common | {"weight_seed", "preparation"}),
    }


class DiesEarly(Listener):
    """Ends the label owner's process right after its first step, before anything new is saved."""

    def step(self, **_: object) -> None:
        raise Killed


def kill_and_resume(made: Files, *, times: int, counters_in_checkpoint: bool) -> tuple[int, Totals]:
    """Let a label owner die after each step; return how many lives were answered, and the totals on record.

    A checkpoint is taken at the start only, so that every life asks for the same batch again.
    """
    settings = load_data_owner_run(made.data_owner)
    ledger = open_ledger(settings)
    lives = 0
    try:
        for number in range(times):
            if counters_in_checkpoint and number:
                ledger.close()
                shutil.rmtree(made.data_owner.parent / "ledger")
                ledger = open_ledger(settings)
            own_end, peer_end = mortal_pair(Fate())
            source = ProbeRandomness(set(), [])
            attach_data_owner(peer_end, made.data_owner, randomness=source, ledger=ledger)
            with pytest.raises(Killed):
                train(
                    made.label_owner,
                    resume=number > 0,
                    channel=own_end,
                    randomness=ProbeRandomness(set(), []),
                    listener=DiesEarly(),
                )
            lives += 1
    except (PolicyError, PeerPolicyError):
        pass  # counted by its lives
    finally:
        totals = ledger.totals()
        ledger.close()
    return lives, totals


@pytest.mark.parametrize("spare_passes", [0, 2])
def test_kill_and_resume_to_exceed_the_policy(tmp_path: Path, spare_passes: int) -> None:
    """Attack 24. A label owner kills itself after each step and resumes, to get the same rows' z again.

    From the second step on the data owner's share differs each time, so the dither does, and averaging m
    answers takes it away. Control: counters that go back with the checkpoint answer as often as it likes.
    Ours: the ledger is on disk before an answer leaves and never goes back; the data owner refuses as soon as
    the passes that are left do not fit any more.
    """
    units, epochs, times = 2, 2, 8
    limit = units * (epochs + spare_passes)
    control = tiny_parties(tmp_path / "control", **{"checkpoint.every": "epoch"})
    ours = tiny_parties(tmp_path / "ours", **{"checkpoint.every": "epoch"})
    for made in (control, ours):
        configure(made.data_owner, {"policy.released_z_per_row": limit})
    lives, _ = kill_and_resume(control, times=times, counters_in_checkpoint=True)
    assert lives == times
    lives, totals = kill_and_resume(ours, times=times, counters_in_checkpoint=False)
    assert lives == 1 + spare_passes
    assert totals.released_z_per_row <= limit
