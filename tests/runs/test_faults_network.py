"""Trainings over connections that are cut, stalled, frozen, slowed and damaged below TLS."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.faulty_runs import FaultyRun, notice_quickly, run_with
from tests.support.hearing import Heard
from tests.support.parties import Files, configure, make_parties
from tests.support.patience import PATIENCE
from tests.support.proxy import Fault
from tests.support.randomness import words_of

BOUND = 8 * 2**10
"""Bytes of either direction after which the handshake is over."""
SENT, ANSWERED = 400_000, 600_000
"""Bytes of the two directions that the small training sends at least."""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = make_parties(tmp_path)
    configure(made.label_owner, {"train.epochs": 1, "peer.reconnect_deadline": PATIENCE})
    configure(made.data_owner, {"peer.reconnect_deadline": PATIENCE})
    return made


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> FaultyRun:
    made = make_parties(tmp_path_factory.mktemp("unbroken"))
    configure(made.label_owner, {"train.epochs": 1})
    with pytest.MonkeyPatch.context() as patch:
        return run_with(made, [], patch)


def require_same(run: FaultyRun, unbroken: FaultyRun) -> None:
    """The same weights, the same number of seeds, and no frame in two versions."""
    assert np.array_equal(run.weights, unbroken.weights)
    assert run.seeds == unbroken.seeds
    assert run.frames.keys() == unbroken.frames.keys()
    assert all(len(versions) == 1 for versions in run.frames.values())


def random_places(name: str, count: int) -> list[tuple[int, bool]]:
    """Draw bytes of either direction, after the handshake."""
    places = []
    for word in words_of(name, count).tolist():
        answers = bool(word & 1)
        limit = ANSWERED if answers else SENT
        places.append((BOUND + (word >> 1) % (limit - BOUND), answers))
    return places


def test_label_owner_is_told_of_a_lost_connection(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Heard()
    run_with(files, [Fault(kind="cut", at=SENT)], monkeypatch, listener=listener)
    assert listener.said == [
        f"the connection was lost; trying to connect again for {PATIENCE:.0f} s",
        "connected again",
    ]


@pytest.mark.parametrize("label_owner_listens", [False, True])
@pytest.mark.parametrize("kind", ["cut", "truncate", "corrupt"])
@pytest.mark.slow
def test_connection_broken_at_random_bytes(
    files: Files,
    unbroken: FaultyRun,
    monkeypatch: pytest.MonkeyPatch,
    *,
    kind: str,
    label_owner_listens: bool,
) -> None:
    faults = [
        Fault(kind=kind, at=at, answers=answers)  # type: ignore[arg-type]
        for at, answers in random_places(f"{kind} {label_owner_listens}", 2)
    ]
    run = run_with(files, faults, monkeypatch, label_owner_listens=label_owner_listens)
    require_same(run, unbroken)
    assert run.struck >= 1
    assert run.connections > run.struck
    assert run.attempts == 1


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True])
def test_half_open_connection_is_replaced(
    files: Files, unbroken: FaultyRun, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    notice_quickly(monkeypatch)
    run = run_with(files, [Fault(kind="freeze", at=100_000, answers=answers)], monkeypatch)
    require_same(run, unbroken)
    assert run.struck == 1
    assert run.connections > 1


@pytest.mark.slow
def test_connection_that_stalls_for_a_moment_is_used_again(
    files: Files, unbroken: FaultyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(files, [Fault(kind="stall", at=200_000, seconds=0.2)], monkeypatch)
    require_same(run, unbroken)
    assert (run.struck, run.connections) == (1, 1)


@pytest.mark.slow
def test_connection_that_stalls_is_replaced_and_does_not_disturb_when_it_is_back(
    files: Files, unbroken: FaultyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice_quickly(monkeypatch)
    run = run_with(files, [Fault(kind="hold", at=200_000)], monkeypatch)
    require_same(run, unbroken)
    assert run.struck == 1
    assert run.connections > 1


@pytest.mark.slow
def test_slow_connection_needs_no_other(
    files: Files, unbroken: FaultyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(files, [Fault(kind="slow", seconds=0.05)], monkeypatch)
    require_same(run, unbroken)
    assert run.connections == 1


@pytest.mark.parametrize("at", [0, 700, 4500])
def test_connection_cut_in_the_handshake_is_tried_again(
    files: Files, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """In TLS's handshake the dialler tries again by itself; in ours the command ends and is started again."""
    run = run_with(files, [Fault(kind="cut", at=at)], monkeypatch)
    assert run.struck == 1
    assert run.attempts <= 2
