"""The data owner's loop: answers the label owner's sessions in turn, and goes on with unfinished runs.

A session that fails is reported and ends; the next one finds nothing half-applied. Imported by the command
line and by users.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from moiety.config import DataOwnerRun as Settings
from moiety.config import load_data_owner_run
from moiety.contract.products import Role
from moiety.crypto.sampling import Randomness, SystemRandomness
from moiety.crypto.secret import Secret
from moiety.errors import (
    CheckpointCorruptError,
    CheckpointError,
    ConfigError,
    MoietyError,
    PeerIdentityError,
    SessionLostError,
)
from moiety.net.connect import Connector
from moiety.net.events import CONNECTED
from moiety.net.interrupts import Interrupts
from moiety.net.session import Session
from moiety.party.alignment import Report
from moiety.party.data_owner.features import open_ledger, read_features
from moiety.party.data_owner.party import DataOwnerParty
from moiety.party.data_owner.session import serve
from moiety.party.memory import memory_guard
from moiety.party.retry import saved_hint
from moiety.store import model as checkpoint
from moiety.store.checkpoints import Checkpoints, open_checkpoints


def provide(
    path: str | Path,
    *,
    once: bool = False,
    resume: bool = False,
    report: Report = print,
    randomness: Randomness | None = None,
    interrupts: Interrupts | None = None,
) -> None:
    """Answer a label owner's runs in turn until interrupted; an unfinished one goes on when it asks.

    Args:
        path: the run file.
        once: return after one run, and raise if it failed for good. A run whose label owner started anew
            has not failed: it is waited for.
        resume: there must be an unfinished run to go on with, and no new training is begun before it ends.
        report: told what happens, in a sentence.
        randomness: where seeds come from; the operating system when left out.
        interrupts: obeyed between two exchanges; without them Ctrl-C ends a session wherever it is.

    Raises:
        ConfigError, DataError, PeerIdentityError: nothing can be provided; nobody was connected.
        CheckpointError: there is nothing to go on with, or this side's half cannot be written.

    Leaks:
        To the label owner: dithered z of the batches it asks for, within the policy.
    """
    settings = load_data_owner_run(Path(path))
    table = read_features(settings)
    checkpoints = open_checkpoints(settings.folder, settings.checkpoint, report=report)
    if resume:
        require_unfinished(settings, checkpoints)
    with Connector(settings) as connector, closing(open_ledger(settings)) as ledger:
        party = DataOwnerParty(
            settings=settings,
            table=table,
            ledger=ledger,
            randomness=randomness or SystemRandomness(),
            report=report,
            checkpoints=checkpoints,
            only_resume=resume,
        )
        desk = _Desk(party, connector, interrupts=interrupts or Interrupts(), once=once)
        report(_waiting(party, connector))
        while desk.serve_next():
            pass


def require_unfinished(settings: Settings, checkpoints: Checkpoints) -> None:
    """Refuse to wait for a run that is not there.

    Raises:
        CheckpointCorruptError: no checkpoint of an unfinished run can be read.
    """
    run = checkpoints.newest_run()
    if run is None or not checkpoints.saved(run) or run == _finished_run(settings):
        raise CheckpointCorruptError(
            f"{settings.folder} holds no unfinished run to go on with",
            hint="start without --resume: an unfinished run goes on whenever the label owner asks for it",
        )


def _finished_run(settings: Settings) -> str | None:
    try:
        _, facts = checkpoint.load_model(settings.folder)
    except CheckpointError:
        return None
    return str(facts.get("run_id"))


class _Desk(Secret):
    """Serves one session after the other."""

    def __init__(
        self, party: DataOwnerParty, connector: Connector, *, interrupts: Interrupts, once: bool
    ) -> None:
        self._party = party
        self._connector = connector
        self._interrupts = interrupts
        self._once = once

    def serve_next(self) -> bool:
        """Serve one session; return whether another is to follow.

        Raises:
            ConfigError, PeerIdentityError: the next session would end in the same way.
            MoietyError: the only one failed.
        """
        try:
            self._serve()
        except (ConfigError, PeerIdentityError):
            raise
        except SessionLostError as lost:
            self._party.report(lost.message)
            return True  # the label owner starts anew
        except MoietyError as error:
            self._note(error)
            return True
        self._party = replace(self._party, only_resume=False)
        return not self._once

    def _serve(self) -> None:
        settings, report = self._party.settings, self._party.report
        peer = settings.peer[0]
        patient = self._connector.listens and not self._once
        with self._interrupts.at_once(waits=True):
            channel = self._connector.connect(deadline_seconds=None if patient else peer.connect_deadline)
        report(f"{peer.name} is connected")
        session = Session(
            channel,
            role=Role.DATA_OWNER,
            deadline_seconds=peer.answer_deadline,
            recovery=self._connector.recovery(report),
        )
        session.log.bind(run=settings.run, peer=peer.name)
        session.log.emit(CONNECTED)
        with memory_guard():
            serve(self._party, session, interrupts=self._interrupts)

    def _note(self, error: MoietyError) -> None:
        if self._once:
            raise saved_hint(error, self._party.checkpoints, command="provide")
        self._party.report(f"session ended: {error.message}" + (f" ({error.hint})" if error.hint else ""))


def _waiting(party: DataOwnerParty, connector: Connector) -> str:
    how = "listening at" if connector.listens else "dialling"
    return f"{party.table.rows} rows ready; {how} {connector.address} for {party.settings.peer[0].name}"
