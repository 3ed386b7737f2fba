"""Real processes over loopback that are killed by signal 9 and started again, and what they came to.

Each party is forked from a server that has imported everything, so that a life starts in a moment. A process
kills itself at a frame of a given number, or its keeper kills it at an instant. The order of rows, the first
weights, the run's seed and the dither are pinned as in `killed_runs`; the parameters are those of production.
"""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from moiety.config import load_run
from moiety.crypto.sampling import SEED_BYTES, Seed, SystemRandomness
from moiety.errors import MoietyError
from moiety.net import transport
from moiety.party.data_owner.provide import provide
from moiety.party.data_owner.start import Start
from moiety.party.label_owner.train import train
from tests.support.forked import SERVER
from tests.support.killed_runs import PINNED, finished, pin, tiny_parties
from tests.support.parties import Files, configure, free_address
from tests.support.patience import PATIENCE


@dataclass(frozen=True, kw_only=True)
class Death:
    """How one life of a process ends.

    Args:
        frame: after so many frames were sent and received together.
        seconds: or so long after its first frame.
    """

    frame: int | None = None
    seconds: float | None = None


@dataclass(kw_only=True)
class Killings:
    """What a training over several lives came to.

    Attributes:
        kills: by signal 9.
        lives: processes started.
        learnt: as `killed_runs.finished`.
        seeds: everything drawn, over all lives.
    """

    kills: int = 0
    lives: int = 0
    learnt: dict[str, bytes] = field(default_factory=dict)
    seeds: list[bytes] = field(default_factory=list)


class FileRandomness(SystemRandomness):
    """Seeds of the operating system, each appended to a file before it is used.

    Args:
        path: the file.
        pinned: number of the call that returns `PINNED`.
    """

    def __init__(self, path: Path, pinned: int | None) -> None:
        self._path = path
        self._pinned = pinned
        self._calls = 0

    def seed(self) -> Seed:
        number, self._calls = self._calls, self._calls + 1
        if number == self._pinned:
            return PINNED
        seed = super().seed()
        with self._path.open("ab", buffering=0) as file:
            file.write(seed)
        return seed


def live(role: str, run_file: Path, seeds: Path, death: Death, *, resume: bool) -> None:
    """Be one process, until it is done, killed or at its wits' end."""
    patch = pytest.MonkeyPatch()
    pin(patch, small=False)
    patch.setattr("moiety.party.data_owner.terms.Start", lambda *, weight_seed: Start(weight_seed=PINNED))  # noqa: ARG005
    die_by_frames(patch, death)
    source = FileRandomness(seeds, None if resume or role == "data owner" else 1)
    try:
        if role == "data owner":
            provide(run_file, once=True, report=lambda _: None, randomness=source)
        else:
            train(run_file, resume=resume, randomness=source)
    except MoietyError as error:
        raise SystemExit(error.exit_code) from error


def die_by_frames(patch: pytest.MonkeyPatch, death: Death) -> None:
    """Kill this process after a number of frames, or some time after the first."""
    count = 0

    def passed() -> None:
        nonlocal count
        count += 1
        if count == 1 and death.seconds is not None:
            threading.Timer(death.seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if count == death.frame:
            os.kill(os.getpid(), signal.SIGKILL)

    send, receive = transport.StreamChannel.send, transport.StreamChannel.receive

    def sending(channel: transport.StreamChannel, data: bytes) -> None:
        send(channel, data)
        passed()

    def receiving(channel: transport.StreamChannel, *, deadline_seconds: float) -> bytes:
        data = receive(channel, deadline_seconds=deadline_seconds)
        passed()
        return data

    patch.setattr(transport.StreamChannel, "send", sending)
    patch.setattr(transport.StreamChannel, "receive", receiving)


class Keeper:
    """Keeps both processes alive until the training has ended.

    Args:
        folder: for both parties.
        label_owner: how its lives end, in turn; the last one lives on.
        data_owner: the same.
    """

    def __init__(self, folder: Path, *, label_owner: list[Death], data_owner: list[Death]) -> None:
        self.made = real_parties(folder)
        self._seeds = folder / "seeds"
        self._deaths: dict[str, Iterator[Death]] = {
            "label owner": chain(label_owner, repeat(Death())),
            "data owner": chain(data_owner, repeat(Death())),
        }
        self._processes: dict[str, Any] = {}
        self.result = Killings()

    def run(self) -> Killings:
        """Train to the end."""
        try:
            while not self._over():
                alive = [process for process in self._processes.values() if process.is_alive()]
                wait([process.sentinel for process in alive], timeout=PATIENCE)
            self._processes["data owner"].join(PATIENCE)  # it may still save its side
        finally:
            for process in self._processes.values():
                process.kill()
                process.join()
        seeds = self._seeds.read_bytes()
        self.result.seeds = [seeds[at : at + SEED_BYTES] for at in range(0, len(seeds), SEED_BYTES)]
        self.result.learnt = finished(self.made)
        return self.result

    def _over(self) -> bool:
        """Start again what has died; tell whether the label owner has done its work."""
        codes = {role: process.exitcode for role, process in self._processes.items()}
        if codes.get("label owner", 1) == 0:
            return True
        for role in ("data owner", "label owner"):
            done = role == "data owner" and codes.get(role, 1) == 0 and codes["label owner"] is None
            if not done and codes.get(role, 1) is not None:
                self.result.kills += codes.get(role) == -signal.SIGKILL
                self._start(role)
        return False

    def _start(self, role: str) -> None:
        path = self.made.data_owner if role == "data owner" else self.made.label_owner
        saved = load_run(path).folder / "checkpoints"
        resume = role == "label owner" and saved.is_dir() and any(saved.glob("*.safetensors"))
        process = SERVER.Process(
            target=live, args=(role, path, self._seeds, next(self._deaths[role])), kwargs={"resume": resume}
        )
        process.start()
        self._processes[role] = process
        self.result.lives += 1


def real_parties(folder: Path) -> Files:
    """Make tiny parties at an address that both know beforehand."""
    made = tiny_parties(folder)
    address = free_address()
    configure(made.data_owner, {"peer.listen": address})
    configure(made.label_owner, {"peer.dial": address})
    return made
