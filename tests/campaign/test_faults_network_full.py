"""Connections broken at many random bytes and boundaries, with fresh seeds: `pytest -m faults`."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.net.test_reconnect import BOUNDARIES, FAULTS, run_over
from tests.net.test_reconnect import require_same as require_same_frames
from tests.runs.test_faults_network import ANSWERED, BOUND, SENT, require_same
from tests.support.faulty_runs import FaultyRun, run_with
from tests.support.parties import Files, configure, make_parties
from tests.support.proxy import Fault
from tests.support.randomness import words_of
from tests.support.wire import Wire

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]

RUNS_OVER_TLS = 60
RUNS_IN_MEMORY = 2000


def report(sentence: str) -> None:
    """Print a figure for docs/faults.md."""
    print(sentence)  # noqa: T201


class Drawn:
    """Places and kinds of faults that follow from a seed, printed so that a failure can be repeated."""

    def __init__(self) -> None:
        seed = os.environ.get("MOIETY_FAULTS_SEED") or os.urandom(8).hex()
        report(f"\nMOIETY_FAULTS_SEED={seed}")
        self._words = iter(words_of(seed, 10**6).tolist())

    def below(self, limit: int, *, start: int = 0) -> int:
        """Draw a number in [start, limit)."""
        return start + int(next(self._words)) % (limit - start)

    def kind(self, kinds: Sequence[str]) -> str:
        """Draw one of some kinds."""
        return kinds[self.below(len(kinds))]

    def place(self) -> tuple[int, bool]:
        """Draw a byte after the handshake, and whether it is one of the answers."""
        answers = bool(self.below(2))
        return self.below(ANSWERED if answers else SENT, start=BOUND), answers


def files_in(folder: Path) -> Files:
    made = make_parties(folder)
    configure(made.label_owner, {"train.epochs": 1, "peer.reconnect_deadline": 60.0})
    configure(made.data_owner, {"peer.reconnect_deadline": 60.0})
    return made


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> FaultyRun:
    made = make_parties(tmp_path_factory.mktemp("unbroken"))
    configure(made.label_owner, {"train.epochs": 1})
    with pytest.MonkeyPatch.context() as patch:
        return run_with(made, [], patch)


def some_fault(drawn: Drawn) -> Fault:
    at, answers = drawn.place()
    kind = drawn.kind(["cut", "truncate", "corrupt"])
    return Fault(kind=kind, at=at, answers=answers)  # type: ignore[arg-type]


def test_connections_broken_at_random_bytes(
    tmp_path: Path, unbroken: FaultyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, struck, connections = Drawn(), 0, 0
    for number in range(RUNS_OVER_TLS):
        faults = [some_fault(drawn) for _ in range(drawn.below(5, start=1))]
        with monkeypatch.context() as patch:
            run = run_with(
                files_in(tmp_path / str(number)), faults, patch, label_owner_listens=bool(drawn.below(2))
            )
        require_same(run, unbroken)
        assert run.attempts == 1
        struck, connections = struck + run.struck, connections + run.connections
    report(
        f"{RUNS_OVER_TLS} runs over TLS, {struck} faults, {connections} connections: all finished, identical"
    )


@pytest.mark.parametrize("kind", ["stall", "freeze"])
@pytest.mark.parametrize("answers", [False, True])
def test_connections_that_stall_for_ten_seconds_or_for_ever(
    tmp_path: Path, unbroken: FaultyRun, monkeypatch: pytest.MonkeyPatch, *, kind: str, answers: bool
) -> None:
    drawn = Drawn()
    for number in range(3):
        at = drawn.below(ANSWERED if answers else SENT, start=BOUND)
        fault = Fault(kind=kind, at=at, answers=answers, seconds=10.0)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            run = run_with(files_in(tmp_path / str(number)), [fault], patch)
        require_same(run, unbroken)
        assert run.struck == 1
        report(f"{kind} at byte {at}: finished over {run.connections} connections, identical")


def test_faults_at_random_boundaries_of_many_connections() -> None:
    drawn, counted = Drawn(), Counter[str]()
    expected = run_over(Wire())
    for _ in range(RUNS_IN_MEMORY):
        faults = []
        for _ in range(drawn.below(9, start=1)):
            kinds = [drawn.kind(list(FAULTS)) for _ in range(2)]
            counted.update(kinds)
            first, second = (FAULTS[kind](drawn.below(BOUNDARIES)) for kind in kinds)
            faults.append((first, second))
        require_same_frames(run_over(Wire(faults=faults)), expected)
    report(f"{RUNS_IN_MEMORY} runs in memory, faults drawn {dict(counted)}: all finished, identical")
