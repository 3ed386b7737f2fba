"""Trainings in memory that die at a chosen moment and go on, and what they came to.

Both parties run in this process with parameters without security. A moment is before or after a frame
crosses, on either side, or before or after a file is replaced. What dies is everything: objects are dropped,
and what goes on reads the two folders. The order of rows, the first weights and the run's seed are pinned,
and the dither to the row: an unbroken run and one that went on then differ in nothing but keys, masks and
shares.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.config import load_run
from moiety.crypto.parameters import TESTING_ONLY
from moiety.crypto.sampling import SEED_BYTES, Seed, SystemRandomness, derive
from moiety.crypto.schemes import RlweScheme
from moiety.demo.local import attach_data_owner
from moiety.net.channel import MemoryChannel
from moiety.party.label_owner.result import Result
from moiety.party.label_owner.train import Observer, train
from moiety.protocol.dither import DITHER_BITS, _function_of
from moiety.protocol.messages import Kind
from moiety.store import files
from moiety.store import model as checkpoint
from tests.support.parties import Files, configure, make_parties

ROWS: Final = 60
PINNED: Final = Seed(b"pinned".ljust(SEED_BYTES, b"\0"))


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Fate:
    """Counts moments and ends the run at one of them.

    Args:
        at: the number of the moment; None lives on.
    """

    at: int | None = None
    moments: list[str] = field(default_factory=list)

    def pass_by(self, name: str) -> None:
        """Come to a moment."""
        self.moments.append(name)
        if len(self.moments) - 1 == self.at:
            raise Killed(name)


class MortalChannel(MemoryChannel):
    """One end of a pair in memory, with a moment before and after each frame."""

    def __init__(self, name: str, fate: Fate) -> None:
        super().__init__()
        self._name = name
        self._fate = fate

    def send(self, frame: bytes) -> None:
        kind = Kind(frame[7]).name
        self._fate.pass_by(f"{self._name} before sending {kind}")
        super().send(frame)
        self._fate.pass_by(f"{self._name} after sending {kind}")

    def receive(self, *, deadline_seconds: float) -> bytes:
        frame = super().receive(deadline_seconds=deadline_seconds)
        self._fate.pass_by(f"{self._name} after receiving {Kind(frame[7]).name}")
        return frame


def mortal_pair(fate: Fate) -> tuple[MortalChannel, MortalChannel]:
    """Make the label owner's end and the data owner's."""
    own, peer = MortalChannel("label owner", fate), MortalChannel("data owner", fate)
    own._other, peer._other = peer, own
    return own, peer


class ProbeRandomness(SystemRandomness):
    """Seeds of the operating system, recorded; some calls of a new run are pinned.

    Args:
        pinned: numbers of the calls that return `PINNED`; empty where a run goes on.
        given: what was drawn otherwise, over all sessions.
    """

    def __init__(self, pinned: set[int], given: list[Seed]) -> None:
        self._pinned = pinned
        self._calls = 0
        self._given = given

    def seed(self) -> Seed:
        number, self._calls = self._calls, self._calls + 1
        if number in self._pinned:
            return PINNED
        seed = super().seed()
        self._given.append(seed)
        return seed


def pin(monkeypatch: pytest.MonkeyPatch, *, small: bool = True) -> None:
    """Pin the order of rows and the dither; `small`: take parameters without security."""
    order = Seed(b"order".ljust(SEED_BYTES, b"\0"))
    monkeypatch.setattr("moiety.contract.contract.order_seed", lambda *_: order)
    monkeypatch.setattr("moiety.protocol.data_owner.dither", pinned_dither)
    if small:
        scheme = RlweScheme(parameters=TESTING_ONLY)
        monkeypatch.setattr("moiety.contract.contract.scheme_for", lambda *_: scheme)
        monkeypatch.setattr(RlweScheme, "require_secure", lambda _: None)


def pinned_dither(key: Seed, weights_DK: NDArray[np.uint64], digests_N: NDArray[np.uint8]) -> Any:
    """Return rho of a row by its content alone."""
    del key
    words = _function_of(derive(PINNED, b"dither"), digests_N, weights_DK.shape[1])
    return (words >> np.uint64(64 - DITHER_BITS)) - np.uint64(2 ** (DITHER_BITS - 1))


def tiny_parties(folder: Path, **changes: Any) -> Files:
    """Make both parties' folders for a training of two epochs with three steps each."""
    made = make_parties(folder, rows=ROWS, columns=3)
    usual = {
        "model.units": 2,
        "model.hidden": [3],
        "train.batch": 16,
        "train.epochs": 2,
        "checkpoint.every": "1 steps",
        "checkpoint.keep": 2,
    }
    configure(made.label_owner, {**usual, **changes})
    configure(
        made.data_owner,
        {"policy.smallest_batch": 4, "policy.released_z_per_row": 10**6, "checkpoint.keep": 2},
    )
    return made


def live(
    made: Files,
    fate: Fate,
    given: list[Seed],
    *,
    resume: bool = False,
    observer: Observer | None = None,
) -> Result:
    """Train, as one life of both processes."""
    own_end, peer_end = mortal_pair(fate)
    peer_source = ProbeRandomness(set() if resume else {0}, given)
    attach_data_owner(peer_end, made.data_owner, randomness=peer_source)
    source = ProbeRandomness(set() if resume else {1}, given)
    try:
        return train(made.label_owner, resume=resume, channel=own_end, randomness=source, observer=observer)
    finally:
        peer_end.pump = None


@contextmanager
def mortal_files(fate: Fate) -> Iterator[None]:
    """Put a moment before and after each file that is replaced."""
    replace = files.replace

    def mortal(path: Path, data: bytes) -> None:
        side = "data owner" if "telco" in str(path) else "label owner"
        fate.pass_by(f"{side} before writing")
        replace(path, data)
        fate.pass_by(f"{side} after writing")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moiety.store.checkpoints.replace", mortal)
        patch.setattr("moiety.store.model.replace", mortal)
        yield


def finished(made: Files) -> dict[str, bytes]:
    """Return everything that the finished training has learnt, W added up, as bytes."""
    own, _ = checkpoint.load_model(load_run(made.label_owner).folder)
    peer, _ = checkpoint.load_model(load_run(made.data_owner).folder)
    learnt = {name: array for name, array in own.items() if name != "share"}
    learnt |= {name: array for name, array in peer.items() if name.startswith("bottom.")}
    learnt["W"] = own["share"] + peer["share"]
    return {name: np.ascontiguousarray(array).tobytes() for name, array in learnt.items()}


def can_go_on(made: Files) -> bool:
    """Whether both parties hold a checkpoint."""
    folders = [load_run(path).folder / "checkpoints" for path in (made.label_owner, made.data_owner)]
    return all(folder.is_dir() and any(folder.glob("*.safetensors")) for folder in folders)


def killed_and_gone_on(template: Path, folder: Path, at: int) -> tuple[dict[str, bytes], str, list[Seed]]:
    """Train in a copy of the parties' folders, die at a moment, go on to the end."""
    shutil.copytree(template, folder)
    made = Files(label_owner=folder / "bank" / "run.toml", data_owner=folder / "telco" / "run.toml")
    fate, given = Fate(at), list[Seed]()
    try:
        with mortal_files(fate):
            live(made, fate, given)
    except Killed:
        resume = can_go_on(made)
        live(made, Fate(), given, resume=resume)
    return finished(made), fate.moments[-1], given
