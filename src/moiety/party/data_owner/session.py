"""One session of the data owner, from alignment or HELLO to FINISH, within its policy.

`converse` is the script: read it first. `DataOwnerSession` takes blocks and gives blocks by it, `serve` joins
that to a connection. A session that fails ends for good, and nothing is half-applied. Imported by `provide`
and by what runs both parties in one process.
"""

from collections.abc import Iterator
from contextlib import closing, nullcontext

from moiety.crypto.secret import Secret
from moiety.errors import LocalProtocolError
from moiety.net.interrupts import Interrupts
from moiety.net.session import Session
from moiety.party.alignment import in_order
from moiety.party.data_owner.align import align
from moiety.party.data_owner.exchange import Agreed, predict, train
from moiety.party.data_owner.model import SavedModel
from moiety.party.data_owner.party import FINISHED, DataOwnerParty, Script, Wait
from moiety.party.data_owner.prepared import prepare
from moiety.party.data_owner.terms import agree, hear
from moiety.protocol.messages import Block, Kind


def converse(party: DataOwnerParty, session: Session) -> Script[None]:
    """Answer one session: an alignment where one is asked for, terms, and what the terms are for.

    Args:
        party: who answers.
        session: bound once the parties agree; its transcript names checkpoints, and its log is told.

    Raises:
        RemoteProtocolError: a block is not the expected one.
        ContractMismatchError, PolicyError: the parties do not agree.
        MoietyError: as `prepare`, `predict` and `train`.

    Leaks:
        To the label owner: dithered z of the batches it asks for, within the policy.
    """
    aligned = in_order(party.table)
    block = yield Wait.BETWEEN
    if block.kind is Kind.ALIGNMENT:
        aligned = yield from align(party, block)
        block = yield Wait.BETWEEN
        if block.kind is Kind.FINISH:  # the session was for the alignment only
            yield FINISHED
            return
    proposal = yield from hear(party, aligned, block)
    start = proposal.start
    prepared = prepare(party.settings, aligned.table, draft=proposal.draft, start=start, report=party.report)
    with closing(prepared):
        contract = yield from agree(proposal, in_features=prepared.in_features)
        agreed = Agreed(party=party, session=session, contract=contract, start=start, prepared=prepared)
        agreed.begin()
        if isinstance(start, SavedModel):
            yield from predict(agreed, start)
        else:
            yield from train(agreed)


class DataOwnerSession(Secret):
    """One session's data owner: blocks in, blocks out.

    Args:
        party: who answers.
        session: as in `converse`; it is neither read nor written here.

    Attributes:
        finished: the label owner said so, and the model is saved.
    """

    def __init__(self, party: DataOwnerParty, session: Session) -> None:
        self._script = converse(party, session)
        self._wait: Block | Wait | None = next(self._script)
        self.finished = False

    @property
    def idle(self) -> bool:
        """Whether nothing is half done."""
        return self._wait is Wait.BETWEEN

    def receive(self, block: Block) -> Iterator[Block]:
        """Take a block; yield the answer's blocks as they are computed.

        Any error, and an answer that is not taken to its end, closes the session for good.

        Raises:
            RemoteProtocolError: the block is not the expected one.
            ContractMismatchError, PolicyError: the parties do not agree.
            LocalProtocolError: the session is over.
        """
        if self._wait is None:
            raise LocalProtocolError("this side's session is over", hint="start a new run")
        self._wait = None
        try:
            answer = self._script.send(block)
            while isinstance(answer, Block):
                yield answer
                answer = next(self._script)
            self._wait = answer
        except StopIteration:
            self.finished = True

    def stop(self, error: BaseException) -> None:
        """End the session by an error: one that was raised here, or of whoever drives it.

        Raises:
            CheckpointError: this side was interrupted, and its checkpoint cannot be written.
        """
        self._wait = None
        try:
            self._script.throw(error)
        except BaseException as raised:
            if raised is not error:
                raise

    def close(self) -> None:
        """Remove what was kept on disk for this session only."""
        self._script.close()


def serve(party: DataOwnerParty, session: Session, *, interrupts: Interrupts | None = None) -> None:
    """Answer one session to its end.

    Args:
        party: answers.
        session: open, and not bound yet.
        interrupts: obeyed between two exchanges; a checkpoint is written then.

    Raises:
        MoietyError: the session failed; the peer was told that, and nothing is half-applied.

    Leaks:
        To the label owner: dithered z of the batches it asks for, within the policy.
    """
    own = DataOwnerSession(party, session)
    try:
        while not own.finished:
            answer(own, session, interrupts)
        session.settle()
    except BaseException as error:
        try:
            own.stop(error)
        finally:
            session.abort(error)
        raise
    session.close()


def answer(own: DataOwnerSession, session: Session, interrupts: Interrupts | None = None) -> None:
    """Take one block and send what it calls for."""
    with nullcontext() if interrupts is None else interrupts.at_once(waits=own.idle):
        block = session.receive()
    session.send(own.receive(block))
