"""Both parties in one process, joined by an in-memory channel: what `moiety simulate` runs.

The same trainer, machines and messages as between two organisations; no network, no certificates, no
ledger. The peer runs inside `receive`: there are no threads.
"""

from pathlib import Path

from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.contract.products import Role
from moiety.crypto.sampling import Randomness, SystemRandomness
from moiety.errors import ConfigError, MoietyError
from moiety.net.channel import MemoryChannel, memory_pair
from moiety.net.session import Session
from moiety.party.alignment import Report
from moiety.party.data_owner.features import read_features
from moiety.party.data_owner.party import DataOwnerParty
from moiety.party.data_owner.session import DataOwnerSession, answer
from moiety.party.label_owner.result import Result
from moiety.party.label_owner.train import Observer, train
from moiety.store.checkpoints import open_checkpoints
from moiety.store.ledger import Ledger


def simulate(
    label_owner: Path,
    data_owner: Path,
    *,
    observer: Observer | None = None,
    randomness: Randomness | None = None,
) -> Result:
    """Train with both parties' run files in this process.

    Raises:
        ConfigError: the run files are of the same party's folder.
        MoietyError: as `trainer.train`.

    Leaks:
        Nothing leaves the process; it sees both parties' data.
    """
    settings = load_label_owner_run(label_owner)
    if settings.folder == load_data_owner_run(data_owner).folder:
        raise ConfigError("both run files lie in one folder", hint="give each party a folder of its own")
    own_end, peer_end = memory_pair()
    attach_data_owner(peer_end, data_owner, randomness=randomness or SystemRandomness())
    try:
        return train(label_owner, observer=observer, channel=own_end, randomness=randomness)
    finally:
        peer_end.pump = None  # it holds the data owner, who would wait for the garbage collector otherwise


def attach_data_owner(
    channel: MemoryChannel,
    path: Path,
    *,
    randomness: Randomness,
    ledger: Ledger | None = None,
    report: Report = lambda _: None,
) -> None:
    """Let a data owner answer at one end of an in-memory channel, whenever the other end waits."""
    settings = load_data_owner_run(path)
    party = DataOwnerParty(
        settings=settings,
        table=read_features(settings),
        ledger=ledger,
        randomness=randomness,
        report=report,
        checkpoints=open_checkpoints(settings.folder, settings.checkpoint, report=report),
    )
    session = Session(channel, role=Role.DATA_OWNER, deadline_seconds=0.0)
    session.log.bind(run=settings.run, peer=settings.peer[0].name)
    own = DataOwnerSession(party, session)

    def pump() -> None:
        try:
            while channel.inbox and not session.closed:
                answer(own, session)
        except MoietyError as error:
            # The label owner finds the abort in its inbox; the cause is the data owner's to show.
            session.abort(error)
            raise

    channel.pump = pump
