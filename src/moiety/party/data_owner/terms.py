"""The data owner's side of the handshake: what it states, and what it refuses before it reads its table.

Imported by the session's script.
"""

from dataclasses import dataclass

from moiety.contract import stated
from moiety.contract.assignment import Assignment
from moiety.contract.contract import Contract
from moiety.contract.terms import Assigned, DataOwnerTerms, LabelOwnerTerms, require_equal
from moiety.crypto.secret import Secret
from moiety.errors import ConfigError, ContractMismatchError, PolicyError
from moiety.party.alignment import AlignedTable, own_assignment
from moiety.party.data_owner.checkpoints import ResumedRun, find_run
from moiety.party.data_owner.model import SavedModel, load_own_side
from moiety.party.data_owner.party import DataOwnerParty, Script, Wait
from moiety.party.data_owner.start import Start
from moiety.protocol.handshake import DataOwnerHandshake, assignment_blocks
from moiety.protocol.messages import Block


@dataclass(frozen=True, kw_only=True, repr=False)
class Proposal(Secret):
    """What the label owner proposes, and what this side states to it so far.

    Args:
        handshake: that took the proposal.
        start: what this side starts from.
        draft: the contract but for the width of this side's table, with the parameters that follow from it.
    """

    handshake: DataOwnerHandshake
    start: Start
    draft: Contract


def hear(party: DataOwnerParty, aligned: AlignedTable, block: Block) -> Script[Proposal]:
    """Take the label owner's proposal, and refuse what can be refused without a look at the table.

    Args:
        party: who is asked.
        aligned: its table.
        block: the label owner's first after an alignment.

    Raises:
        RemoteProtocolError: a block is not the expected one.
        ContractMismatchError, PolicyError, ConfigError: the parties differ, or the policy does not cover the
            proposal. This side's terms are sent before, without a width: both sides name what differs.
        CheckpointError: the model to predict with cannot be read.
    """
    decided_by = party.settings.split.decided_by
    handshake = DataOwnerHandshake(split=decided_by, rows=aligned.table.rows)
    proposal = handshake.receive(block)
    while proposal is None:  # the label owner's assignment of rows to splits follows its terms
        proposal = handshake.receive((yield Wait.BETWEEN))
    start = _start(party, proposal)
    assignment = None
    if proposal.purpose == "train":
        assignment = handshake.assignment or own_assignment(party.settings.split, aligned.table)
    stated = _state(party, proposal, aligned=aligned, start=start, assignment=assignment)
    draft = Contract(label_owner=proposal, data_owner=stated, assignment=assignment)
    try:
        require_equal(stated, proposal)
        draft.check_proposal()
    except (ContractMismatchError, PolicyError, ConfigError):
        yield handshake.answer(stated)
        raise
    return Proposal(handshake=handshake, start=start, draft=draft)


def agree(proposal: Proposal, *, in_features: int) -> Script[Contract]:
    """State the width of the prepared table, and agree.

    Raises:
        ContractMismatchError, PolicyError, ConfigError: the policy or the parameters do not cover that width;
            this side's terms are sent before.

    Leaks:
        To the label owner: the terms, and which rows are in which split where an own column decides it.
    """
    draft = proposal.draft
    wide = draft.data_owner.model_copy(update={"in_features": in_features})
    parameters = Contract(label_owner=draft.label_owner, data_owner=wide).parameters
    terms = wide.model_copy(update={"parameters": parameters})
    yield proposal.handshake.answer(terms)
    contract = proposal.handshake.agree(terms, assignment=draft.assignment)
    if terms.assigned is not None and draft.assignment is not None:
        yield from assignment_blocks(draft.assignment)
    return contract


def _start(party: DataOwnerParty, proposal: LabelOwnerTerms) -> Start:
    if proposal.purpose == "predict":
        return load_own_side(party.settings.folder)
    resumed = find_run(party.checkpoints, proposal.resumes) if proposal.resumes else None
    return resumed or Start(weight_seed=party.randomness.seed())


def _state(
    party: DataOwnerParty,
    proposal: LabelOwnerTerms,
    *,
    aligned: AlignedTable,
    start: Start,
    assignment: Assignment | None,
) -> DataOwnerTerms:
    settings = party.settings
    own = None if settings.split.by is None else assignment
    return DataOwnerTerms(
        **stated.common(settings, purpose=proposal.purpose),
        **stated.answered(settings, purpose=proposal.purpose),
        before=party.released_before(),
        rows=aligned.table.rows,
        order_digest=aligned.order_digest,
        model=start.model if isinstance(start, SavedModel) else "",
        resumes=start.run if isinstance(start, ResumedRun) else "",
        order=start.order if isinstance(start, ResumedRun) else "",
        nonce=party.randomness.seed().hex(),
        assigned=None if own is None else Assigned.of(own),
        in_features=0,
    )
