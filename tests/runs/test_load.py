"""A listener that strangers connect to keeps serving its peer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moiety.config.listener import Listener
from moiety.net.identity import Identity, create_identity, load_identity
from moiety.net.transport import CONNECTIONS, Acceptor, dial
from moiety.party.label_owner.train import train
from tests.support.parties import Files, Provider, make_parties
from tests.support.patience import PATIENCE
from tests.support.strangers import Strangers


@pytest.fixture
def strangers_files(tmp_path: Path) -> Path:
    create_identity(tmp_path / "stranger", "telco")  # a name proves nothing
    return tmp_path / "stranger"


def identity_in(folder: Path, name: str) -> Identity:
    create_identity(folder / name, name)
    return load_identity(folder / name / "own.key", folder / name / "own.crt")


def test_strangers_who_say_nothing_leave_room_for_the_peer(tmp_path: Path, strangers_files: Path) -> None:
    """More than the listener has threads and calls, and there before the peer; none becomes a thread."""
    bank, telco = identity_in(tmp_path, "bank"), identity_in(tmp_path, "telco")
    with (
        Acceptor("127.0.0.1:0", identity=bank, pinned=telco.certificate) as listener,
        Strangers(listener.address, strangers_files) as strangers,
        ThreadPoolExecutor(1) as pool,
    ):
        threads = threading.active_count()
        strangers.come(4 * CONNECTIONS)
        assert threading.active_count() <= threads
        dialling = pool.submit(
            dial,
            listener.address,
            identity=telco,
            pinned=bank.certificate,
            deadline_seconds=PATIENCE,
        )
        accepted = listener.accept(deadline_seconds=PATIENCE)
        dialled = dialling.result()
        dialled.send(b"there")
        assert accepted.receive(deadline_seconds=PATIENCE) == b"there"
        pool.submit(dialled.close)
        accepted.close()


class InvitesStrangers(Listener):
    """A listener of a training that lets strangers come at every step."""

    def __init__(self, strangers: Strangers, count: int) -> None:
        self._strangers = strangers
        self._count = count
        self.came = 0

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        del epoch, rows, loss, sent, received
        self._strangers.come(self._count)
        self.came += self._count


def test_training_continues_while_strangers_come(tmp_path: Path, strangers_files: Path) -> None:
    files: Files = make_parties(tmp_path)
    with Provider(files) as provider:
        address = provider.reports[0].split("listening at ")[1].split(" ", maxsplit=1)[0]
        with Strangers(address, strangers_files) as strangers:
            listener = InvitesStrangers(strangers, 12)
            result = train(files.label_owner, listener=listener)
    assert provider.error is None
    assert result.steps * 12 == listener.came >= 48
    assert not any("lost" in each for each in provider.reports)
