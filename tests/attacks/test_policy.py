"""Attacks on the data owner's policy: killing runs, and asking again, to get more z than it allows."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from moiety.config import Totals, load_data_owner_run
from moiety.contract.products import Role
from moiety.errors import MoietyError, PeerPolicyError, PolicyError
from moiety.net.channel import MemoryChannel, memory_pair
from moiety.net.session import Session
from moiety.party.data_owner.features import open_ledger, read_features
from moiety.party.data_owner.party import DataOwnerParty
from moiety.party.data_owner.session import DataOwnerSession, answer
from moiety.party.label_owner.run import LabelOwnerRun, open_run
from moiety.store.checkpoints import open_checkpoints
from moiety.store.ledger import read_ledger
from tests.support.parties import Files, Provider, configure, make_parties
from tests.support.randomness import RecordedRandomness

UNITS = 4
ALLOWED = 2 * UNITS
TRIES = 5


class KilledError(Exception):
    """The attacker's process dies."""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = make_parties(tmp_path, rows=120, columns=8)
    configure(made.data_owner, {"policy": {"released_z_per_row": ALLOWED, "smallest_batch": 16}})
    configure(made.label_owner, {"train.epochs": 1, "train.batch": 64, "model.units": UNITS})
    return made


def connected(files: Files) -> tuple[MemoryChannel, Callable[[], None]]:
    """Return the label owner's end of a channel to a data owner that counts in its ledger, and its end."""
    settings = load_data_owner_run(files.data_owner)
    own_end, peer_end = memory_pair()
    ledger = open_ledger(settings)
    party = DataOwnerParty(
        settings=settings,
        table=read_features(settings),
        ledger=ledger,
        randomness=RecordedRandomness(b"data owner"),
        report=lambda _: None,
        checkpoints=open_checkpoints(settings.folder, settings.checkpoint, report=lambda _: None),
    )
    session = Session(peer_end, role=Role.DATA_OWNER, deadline_seconds=0.0)
    own = DataOwnerSession(party, session)

    def pump() -> None:
        try:
            while peer_end.inbox and not session.closed:
                answer(own, session)
        except MoietyError as error:
            session.abort(error)

    peer_end.pump = pump
    return own_end, ledger.close


def one_pass(files: Files) -> None:
    """Take z of every training row once, and die before the run is over."""
    channel, end = connected(files)
    try:
        with pytest.raises(KilledError), open_run(files.label_owner, channel=channel) as run:
            train_and_die(run)
    finally:
        end()


def train_and_die(run: LabelOwnerRun) -> NoReturn:
    """Take a pass of training steps; the process dies before it says that it has finished."""
    layer = run.interactive_layer()
    for batch in run.batches("train"):
        layer(batch.rows).sum().backward()
        layer.zero_grad()
    raise KilledError


def z_for_a_row(files: Files, *, counters_in_checkpoint: bool) -> int:
    """The attack: kill, start again, as long as it is answered; return the values of z got for each row."""
    ledger = load_data_owner_run(files.data_owner).ledger
    got = 0
    for _ in range(TRIES):
        before = ledger.read_bytes() if ledger.exists() else b""
        try:
            one_pass(files)
        except PolicyError:
            break
        got += UNITS
        if counters_in_checkpoint:  # what is restored with a checkpoint, a kill rolls back
            ledger.write_bytes(before)
    return got


def test_killing_and_resuming_gets_more_z_where_counters_are_rolled_back(files: Files) -> None:
    """Row 24. A label owner lets each run die after a pass and starts the next one.

    Control: counters that are restored with a checkpoint forget what left, and it never ends.
    """
    assert z_for_a_row(files, counters_in_checkpoint=True) == TRIES * UNITS > ALLOWED


def test_killing_and_resuming_gets_no_more_z_than_the_policy_allows(files: Files) -> None:
    """Row 24. Ours: the ledger is on disk before z leaves, and nothing takes a line back."""
    assert z_for_a_row(files, counters_in_checkpoint=False) == ALLOWED


def test_run_that_dies_before_its_first_step_is_counted(files: Files) -> None:
    """A label owner begins a run, dies before the first request and resumes: it was a run all the same."""
    channel, end = connected(files)
    with open_run(files.label_owner, channel=channel):
        pass  # `save` is never called: the run is not over
    end()
    assert read_ledger(load_data_owner_run(files.data_owner).ledger).totals == Totals(runs=1)


def test_asking_for_z_again_within_a_run_ends_at_the_limit_and_says_which(files: Files) -> None:
    """A label owner repeats a forward pass, which no contract announces; it is stopped and told why."""
    with Provider(files) as provider, open_run(files.label_owner) as run:
        layer = run.interactive_layer()
        with pytest.raises(PeerPolicyError) as caught, torch.no_grad():
            _ = [layer(batch.rows) for _ in range(TRIES) for batch in run.batches("validation")]
    assert caught.value.limit == "released_z_per_row"
    assert caught.value.exit_code == PolicyError.exit_code
    assert isinstance(provider.error, PolicyError)
    assert (provider.error.allowed, provider.error.asked) == (ALLOWED, ALLOWED + UNITS)
