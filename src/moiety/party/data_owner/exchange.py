"""What a data owner does once the parties agree: keys, then exchanges until the label owner finishes.

Imported by the session's script.
"""

from dataclasses import dataclass

import torch

from moiety.contract.agreement import revealed_lines
from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.crypto.secret import Secret
from moiety.errors import CheckpointMismatchError
from moiety.net.events import MODEL_SAVED, RUN_RESUMED, log_agreed
from moiety.net.session import Session
from moiety.party.data_owner.checkpoints import OwnCheckpoints, ResumedRun, restore, resume, state_of
from moiety.party.data_owner.model import SavedModel, save_own_side
from moiety.party.data_owner.party import FINISHED, DataOwnerParty, Script, Wait
from moiety.party.data_owner.prepared import Prepared
from moiety.party.data_owner.release import Release
from moiety.party.data_owner.start import Start
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.handshake import make_keys, public_key, read_public_key
from moiety.protocol.messages import Block, Kind
from moiety.protocol.resume import Mark
from moiety.protocol.state import DataOwnerState
from moiety.store.checkpoints import Saved
from moiety.store.contract import keep_contract


@dataclass(frozen=True, kw_only=True, repr=False)
class Agreed(Secret):
    """A session that both parties agreed on.

    Args:
        party: this side.
        session: gives the transcript, and takes events.
        contract: what was agreed.
        start: what this side starts from.
        prepared: what it computes with.
    """

    party: DataOwnerParty
    session: Session
    contract: Contract
    start: Start
    prepared: Prepared

    def begin(self) -> None:
        """Check what only this side can, tell what was agreed, and bind the session to it.

        Raises:
            CheckpointMismatchError: a run is not resumed as it was left, or not this one is expected.
        """
        if isinstance(self.start, ResumedRun):
            self.start.check(self.contract, table=self.prepared.table)
        elif self.party.only_resume and self.contract.training:
            raise CheckpointMismatchError(
                "the label owner began a new training, and this side resumes an unfinished one",
                hint="start without --resume to answer new trainings too",
            )
        terms, contract = self.contract.label_owner, self.contract
        self.party.report(
            f"{terms.purpose}: {terms.rows} rows, {contract.in_features} in_features, "
            f"{contract.out_features} out_features, {contract.data_owner.parameters}"
        )
        for sentence in revealed_lines(contract, Role.DATA_OWNER):
            self.party.report(sentence)
        self.session.bind(contract=contract.digest, session=contract.session)
        log_agreed(self.session.log, contract)

    def release(self) -> Release:
        """Return what counts this session's release; nothing is counted yet."""
        return Release(self.contract, self.party.ledger, log=self.session.log)

    def end(self, release: Release) -> Block:
        """Tell what the session came to; return the last message."""
        for sentence in self.prepared.end_sentences():
            self.party.report(sentence)
        self.party.report(
            f"finished; z released per row so far: {release.totals.released_z_per_row} of "
            f"{self.party.settings.policy.released_z_per_row}"
        )
        return FINISHED

    def here(self, machine: DataOwner) -> Mark:
        """Return the name that a checkpoint would have now, between exchanges."""
        return Mark(updates=machine.state().updates, transcript=self.session.transcript.digest())


def predict(agreed: Agreed, model: SavedModel) -> Script[None]:
    """Answer a prediction's requests.

    Raises:
        RemoteProtocolError: a block is not the expected one.
        PolicyError: a request would exceed the policy.

    Leaks:
        To the label owner: dithered z of the rows it asks for.
    """
    release = agreed.release()
    block = yield Wait.BETWEEN
    if block.kind is not Kind.FINISH:
        machine = yield from open_machine(agreed, block, release, state=model.state)
        yield from exchange(agreed, machine)
    yield agreed.end(release)


def train(agreed: Agreed) -> Script[None]:
    """Answer a training's requests, and save this side of the model.

    Raises:
        RemoteProtocolError: a block is not the expected one.
        PolicyError: a request would exceed the policy.
        CheckpointError: a checkpoint or the model cannot be read or written.

    Leaks:
        To the label owner: dithered z of the batches it asks for, and masked shares.
    """
    release = agreed.release()
    restored = None
    if isinstance(agreed.start, ResumedRun):
        restored = yield from resume(agreed.party, agreed.start)
        agreed.session.transcript.continue_from(restored.mark.transcript)
        agreed.session.log.emit(RUN_RESUMED, step=restored.mark.updates)
    block = yield Wait.BETWEEN
    if block.kind is Kind.FINISH and restored is None:  # the label owner wanted the terms only
        yield agreed.end(release)
        return
    machine = yield from _begin(agreed, block, release, restored)
    checkpoints = OwnCheckpoints(
        agreed.party.checkpoints,
        agreed.contract,
        prepared=agreed.prepared,
        weight_seed=agreed.start.weight_seed,
        log=agreed.session.log,
        restored=restored,
    )
    yield from exchange(agreed, machine, checkpoints)
    _save(agreed, machine)
    checkpoints.finished()
    yield agreed.end(release)


def _begin(agreed: Agreed, block: Block, release: Release, restored: Saved | None) -> Script[DataOwner]:
    """Draw own part of W_0, or take up a checkpoint."""
    if restored is None:
        machine = yield from open_machine(agreed, block, release, state=None)
        yield from machine.open(agreed.start.weight_seed)
    else:
        machine = yield from open_machine(agreed, block, release, state=state_of(restored))
        restore(restored, machine, agreed.prepared)
    return machine


def open_machine(
    agreed: Agreed, block: Block, release: Release, *, state: DataOwnerState | None
) -> Script[DataOwner]:
    """Count the run, exchange public keys, and make this side's machine.

    Args:
        agreed: the session.
        block: with the label owner's public key.
        release: counts what leaves.
        state: the share; None where the training begins.
    """
    contract, party = agreed.contract, agreed.party
    release.begin()
    keep_contract(party.settings.folder, contract)
    threads = torch.get_num_threads()
    evaluator = read_public_key(contract, Role.LABEL_OWNER, block, threads=threads)
    keys = make_keys(contract, Role.DATA_OWNER, randomness=party.randomness, threads=threads)
    if keys is not None:
        yield public_key(keys)
    return contract.flow.data_owner(
        contract,
        keys=keys,
        evaluator=evaluator,
        features=agreed.prepared.activations,
        state=state,
        charge=release,
        randomness=party.randomness,
    )


def exchange(agreed: Agreed, machine: DataOwner, checkpoints: OwnCheckpoints | None = None) -> Script[None]:
    """Answer requests, and checkpoints where there are any, until FINISH comes between two exchanges.

    An interrupted process writes a checkpoint at the last boundary between two exchanges.
    """
    here = None
    try:
        while True:
            here = agreed.here(machine) if machine.idle else None
            machine.prepare()  # while the label owner works
            block = yield Wait.WITHIN if here is None else Wait.BETWEEN
            if here is not None and block.kind is Kind.FINISH:
                return
            if here is not None and checkpoints is not None and block.kind is Kind.CHECKPOINT:
                yield checkpoints.answer(block, machine, here)
            else:
                yield from machine.receive(block)
    except (KeyboardInterrupt, SystemExit):
        if here is not None and checkpoints is not None:
            checkpoints.interrupted(machine, here)
        raise


def _save(agreed: Agreed, machine: DataOwner) -> None:
    machine.require_end()
    state = machine.state()
    save_own_side(
        agreed.party.settings.folder,
        agreed.contract,
        state,
        prepared=agreed.prepared,
        weight_seed=agreed.start.weight_seed,
    )
    agreed.session.log.emit(MODEL_SAVED, step=state.updates)
