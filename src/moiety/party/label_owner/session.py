"""How a label owner's session begins and ends: terms, contract, keys, the initial share, FINISH.

Imported by the run, the predictor and `check`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from moiety.config import LabelOwnerRun as Settings
from moiety.contract import stated
from moiety.contract.assignment import Assignment
from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.stated import Purpose
from moiety.contract.terms import Assigned, LabelOwnerTerms
from moiety.crypto.sampling import Randomness, Seed
from moiety.errors import (
    CheckpointMismatchError,
    ContractMismatchError,
    LocalProtocolError,
    RemoteProtocolError,
)
from moiety.net.channel import Channel
from moiety.net.connect import connect
from moiety.net.events import CONNECTED, log_agreed
from moiety.net.session import Session
from moiety.party.alignment import AlignedTable
from moiety.party.label_owner.blocks import BlockFile
from moiety.protocol.handshake import LabelOwnerHandshake, make_keys, public_key, read_public_key
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.messages import Block, Kind
from moiety.store.contract import keep_contract


def propose(
    settings: Settings,
    aligned: AlignedTable,
    *,
    purpose: Purpose,
    randomness: Randomness,
    model: str = "",
    assignment: Assignment | None = None,
) -> LabelOwnerTerms:
    """Return this side's terms for a session; the assignment is `periods.own_assignment`'s."""
    return LabelOwnerTerms(
        **stated.common(settings, purpose=purpose),
        **stated.proposed(settings, purpose=purpose),
        rows=aligned.table.rows,
        order_digest=aligned.order_digest,
        model=model,
        nonce=randomness.seed().hex(),
        assigned=None if assignment is None else Assigned.of(assignment),
    )


def open_session(settings: Settings, *, channel: Channel | None) -> Session:
    """Connect, unless a channel is given; nothing is sent.

    Raises:
        TransportError: no connection to the data owner.
    """
    recovery = None
    if channel is None:
        channel, connector = connect(settings)
        recovery = connector.recovery()
    deadline = settings.peer[0].answer_deadline
    session = Session(channel, role=Role.LABEL_OWNER, deadline_seconds=deadline, recovery=recovery)
    session.log.bind(run=settings.run, peer=settings.peer[0].name)
    session.log.emit(CONNECTED)
    return session


def agree(session: Session, terms: LabelOwnerTerms, *, assignment: Assignment | None = None) -> Contract:
    """Shake hands; the session is bound to the contract.

    Leaks:
        To the data owner, the terms, and the assignment of rows to splits where there is one.
    """
    handshake = LabelOwnerHandshake(terms, assignment=assignment)
    session.send(handshake.opening())
    try:
        contract = handshake.receive(session.receive())
        while contract is None:  # blocks of the data owner's assignment follow its terms
            contract = handshake.receive(session.receive())
    except ContractMismatchError as error:
        if error.field == "model":
            session.abort(error)
            raise CheckpointMismatchError(
                f"the parties saved different models: own {error.own}, peer {error.peer}",
                hint="train again, or restore both run folders from the same run",
            ) from error
        raise
    session.bind(contract=contract.digest, session=contract.session)
    log_agreed(session.log, contract)
    return contract


def open_machine(
    session: Session,
    contract: Contract,
    *,
    randomness: Randomness,
    folder: Path,
    share: "np.ndarray[Any, Any] | None" = None,
    updates: int = 0,
    weight_seed: Seed | None = None,
) -> LabelOwner:
    """Exchange this session's public keys, and wait for the initial share if there is none.

    Args:
        session: bound to the contract.
        contract: what was agreed.
        randomness: where seeds come from.
        folder: of the run; encrypted activations that serve the whole session are kept in it.
        share: W_label of a saved model.
        updates: steps it was trained for.
        weight_seed: of this side's part of W_0.
    """
    keep_contract(folder, contract)
    threads = torch.get_num_threads()
    keys = make_keys(contract, Role.LABEL_OWNER, randomness=randomness, threads=threads)
    session.send([public_key(keys)])
    evaluator = None
    if Role.DATA_OWNER in contract.schemes:
        evaluator = read_public_key(contract, Role.DATA_OWNER, session.receive(), threads=threads)
    machine = contract.flow.label_owner(
        contract,
        keys=keys,
        evaluator=evaluator,
        share_DK=share,
        updates=updates,
        weight_seed=weight_seed,
        store=BlockFile(folder) if contract.reuses_activations else None,
        randomness=randomness,
    )
    session.send(machine.start())
    session.drive(machine)
    return machine


def require_end(contract: Contract, *, updates: int) -> None:
    """Refuse an end that was not agreed on: within an epoch, or early and not declared.

    Raises:
        LocalProtocolError: the data owner would refuse it.
    """
    epochs, steps = divmod(updates, contract.steps_per_epoch)
    agreed = contract.label_owner
    if steps or not epochs or (epochs < agreed.epochs and not agreed.may_stop):
        raise LocalProtocolError(
            f"the training ends after {epochs} of {agreed.epochs} epochs and {steps} steps",
            hint="train all epochs; to end after fewer, declare it: early_stopping or a limit under [train]",
        )


def finish(session: Session) -> None:
    """Tell the data owner that the run is complete and wait until it has saved its half.

    Raises:
        RemoteProtocolError: something else came.
    """
    block = session.ask(Block(kind=Kind.FINISH, step=0, payload=b""))
    if block.kind is not Kind.FINISH:
        raise RemoteProtocolError(f"{block.kind.name} came where FINISH was expected")
    session.close()
