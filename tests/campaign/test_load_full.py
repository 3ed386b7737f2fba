"""A data owner's process faced with 500 strangers in the middle of a training: `pytest -m faults`."""

import time
from pathlib import Path

import pytest

from moiety.net.identity import create_identity
from moiety.party.label_owner.train import train
from tests.runs.test_load import InvitesStrangers
from tests.support.parties import Files, address_in, configure, make_parties, process
from tests.support.strangers import KINDS, Strangers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

STRANGERS = 500
HANDSHAKE_SECONDS = 10.0


def report(sentence: str) -> None:
    """Print a figure for docs/faults.md."""
    print(f"\n{sentence}")  # noqa: T201


def threads_and_files(pid: int) -> tuple[int, int]:
    """Count a process's threads and open files."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    threads = next(line for line in status.splitlines() if line.startswith("Threads:"))
    return int(threads.split()[1]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Measured(InvitesStrangers):
    """Also watches what the strangers cost the listener's process."""

    def __init__(self, strangers: Strangers, count: int, pid: int) -> None:
        super().__init__(strangers, count)
        self._pid = pid
        self.peak = (0, 0)

    def step(self, *, epoch: int, rows: int, loss: float, sent: int, received: int) -> None:
        if self.came < STRANGERS:
            super().step(epoch=epoch, rows=rows, loss=loss, sent=sent, received=received)
        found = threads_and_files(self._pid)
        self.peak = max(self.peak[0], found[0]), max(self.peak[1], found[1])


def test_500_strangers_in_the_middle_of_a_training(tmp_path: Path) -> None:
    files: Files = make_parties(tmp_path)
    create_identity(tmp_path / "stranger", "telco")
    configure(files.label_owner, {"train.epochs": 10})
    with process("provide", "--once", files.data_owner) as provider:
        address = address_in(provider.wait_for("listening at"))
        configure(files.label_owner, {"peer.dial": address})
        pid = provider.process.pid
        quiet = threads_and_files(pid)
        with Strangers(address, tmp_path / "stranger") as strangers:
            listener = Measured(strangers, 4 * 25, pid)
            started = time.monotonic()
            result = train(files.label_owner, listener=listener)
            took = time.monotonic() - started
            assert listener.came == STRANGERS
        provided = provider.end()
    assert provided.code == 0
    assert provided.errors == ""
    assert "lost" not in provided.output
    assert result.steps == 20
    assert listener.peak[1] <= quiet[1] + STRANGERS + 50
    assert listener.peak[0] <= quiet[0] + 30
    report(
        f"{STRANGERS} strangers ({', '.join(KINDS)}) within a training of {took:.1f} s: finished; threads of "
        f"the listener {quiet[0]} to {listener.peak[0]}, open files {quiet[1]} to {listener.peak[1]}"
    )


def test_strangers_are_shown_out_after_the_handshakes_deadline(tmp_path: Path) -> None:
    files: Files = make_parties(tmp_path)
    configure(files.data_owner, {"peer.connect_deadline": 60.0})
    create_identity(tmp_path / "stranger", "telco")
    with process("provide", "--once", files.data_owner) as provider:
        address = address_in(provider.wait_for("listening at"))
        quiet = threads_and_files(provider.process.pid)
        with Strangers(address, tmp_path / "stranger") as strangers:
            started = time.monotonic()
            strangers.come(STRANGERS)
            assert all(strangers.shown_out())
            took = time.monotonic() - started
        assert took < HANDSHAKE_SECONDS + 10
        left = threads_and_files(provider.process.pid)
        provider.process.terminate()
        provider.end()
    assert left[1] <= quiet[1] + 20
    report(
        f"{STRANGERS} strangers shown out after {took:.1f} s; open files {quiet[1]} before, {left[1]} after"
    )
