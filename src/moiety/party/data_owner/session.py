"""A data owner's run: answers sessions in turn, within its policy.

`DataOwnerParty` takes blocks and gives blocks, from the first HELLO to the last FINISH; `provide` connects
it to the network. A session that fails is reported and ends; the next one finds nothing half-applied.
Imported by the command line and by users.
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from moiety.config import DataOwnerRun as Settings
from moiety.contract.agreement import revealed_lines
from moiety.contract.assignment import Assignment
from moiety.contract.contract import Contract, order_seed, schedule_of
from moiety.contract.policy import Policy, Totals
from moiety.contract.products import Role
from moiety.contract.schedule import Split
from moiety.contract.terms import Assigned, DataOwnerTerms, LabelOwnerTerms, policy_terms
from moiety.crypto.sampling import Randomness, Seed, derive
from moiety.crypto.secret import Secret
from moiety.data.notes import notes_of_prediction, notes_of_training
from moiety.data.preparation import Preparation
from moiety.data.table import Table
from moiety.errors import CheckpointMismatchError, RemoteProtocolError
from moiety.listener import Listener
from moiety.net.events import CHECKPOINT_WRITTEN, MODEL_SAVED, RUN_RESUMED, Log, log_agreed
from moiety.net.interrupts import Interrupts
from moiety.net.session import Session
from moiety.net.transcript import NO_TRANSCRIPT, Transcript
from moiety.nn.bottom import BottomModel, TrainedActivations
from moiety.party.alignment import ALIGNMENT_KINDS, OwnSide, in_order, own_assignment
from moiety.party.data_owner.activations import ActivationFile
from moiety.party.data_owner.checkpoints import Half
from moiety.party.data_owner.features import fit_preparation
from moiety.party.data_owner.release import Release
from moiety.protocol.alignment import DataOwnerAlignment, LabelOwnerAlignment
from moiety.protocol.data_owner import DataOwner
from moiety.protocol.handshake import (
    DataOwnerHandshake,
    assignment_blocks,
    make_keys,
    public_key,
    read_public_key,
)
from moiety.protocol.machines import DATA_OWNERS
from moiety.protocol.messages import Block, Kind
from moiety.protocol.resume import Mark, mark_block, read_mark
from moiety.protocol.state import Activations, DataOwnerState, Features
from moiety.store.checkpoints import Checkpoints, Saved, fact
from moiety.store.contract import keep_contract
from moiety.store.files import Arrays
from moiety.store.ledger import Ledger
from moiety.store.model import load_model, save_model


class DataOwnerParty(Secret):
    """One session's data owner, from HELLO to FINISH.

    Args:
        settings: the run file.
        table: its raw table.
        ledger: totals over all runs; None in a simulation, where nothing leaves.
        randomness: where seeds come from.
        listener: told what happens.
        checkpoints: where halves of unfinished runs are kept; None keeps none.
        only_resume: refuse to begin a new training.

    Attributes:
        contract: once it is agreed on.
        finished: the label owner said so, and this side has saved its half of the model.
        transcript: of the session; set by whoever drives it.
        boundary: the transcript's digest after the last finished exchange.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        table: Table,
        ledger: Ledger | None,
        randomness: Randomness,
        listener: Listener,
        checkpoints: Checkpoints | None = None,
        only_resume: bool = False,
    ) -> None:
        self._half = Half(checkpoints, listener=listener)
        self._only_resume = only_resume
        self.transcript: Transcript | None = None
        self.boundary: bytes | None = None
        self._settings = settings
        self._table = table
        self._ledger = ledger
        self._randomness = randomness
        self._listener, self._report = listener, listener.say
        self.log = Log()
        self._handshake = DataOwnerHandshake(split=settings.split.decided_by, rows=table.rows)
        self._own_side: OwnSide | None = None
        self._alignment: DataOwnerAlignment | LabelOwnerAlignment | None = None
        self._aligned = in_order(table)
        self._assignment: Assignment | None = None
        self._weight_seed = randomness.seed()
        self._saved: DataOwnerState | None = None
        self._preparation: Preparation | None = None
        self._saved_arrays: Arrays = {}
        self._bottom: BottomModel | None = None
        self._features: Activations | None = None
        self._machine: DataOwner | None = None
        self._release: Release | None = None
        self.contract: Contract | None = None
        self._goes_on = False
        self.finished = False

    def receive(self, block: Block) -> Iterator[Block]:
        """Take a block; yield the answer.

        Raises:
            RemoteProtocolError: the block is not due.
            ContractMismatchError, PolicyError: the parties do not agree.
        """
        if self.contract is None and block.kind in ALIGNMENT_KINDS:
            yield from self._align(block)
        elif self.contract is None and block.kind is Kind.FINISH and self._aligned.sentence:
            self.finished = True  # the session was for an alignment only
            yield Block(kind=Kind.FINISH, step=0, payload=b"")
        elif self.contract is None:
            yield from self._answer(block)
        elif block.kind is Kind.FINISH:
            self._finish()
            yield Block(kind=Kind.FINISH, step=0, payload=b"")
        elif self._machine is None and self._goes_on:
            yield from self._resume(block, self.contract)
        elif self._machine is None:
            yield from self._open(block, self.contract)
        elif block.kind is Kind.CHECKPOINT and self._machine.idle:
            yield self._checkpoint(read_mark(block, Kind.CHECKPOINT))
        else:
            yield from self._machine.receive(block)

    def _align(self, block: Block) -> Iterator[Block]:
        """Take a block of an alignment, which comes before HELLO; its end brings the table into order."""
        if self._own_side is None:
            self._own_side = OwnSide(self._settings, self._table, listener=self._listener)
            self._alignment = self._own_side.machine(DataOwnerAlignment, randomness=self._randomness)
        assert self._alignment is not None
        yield from self._alignment.receive(block)
        if self._alignment.result is not None:
            self._aligned = self._own_side.finish(self._alignment.result)
            self._report(self._aligned.sentence)
            self._table = self._aligned.table
            decided = self._settings.split.decided_by
            self._handshake = DataOwnerHandshake(split=decided, rows=self._table.rows)

    def _answer(self, block: Block) -> Iterator[Block]:
        proposal = self._handshake.receive(block)
        if proposal is None:
            return  # the label owner's assignment of rows to splits is on its way
        self._assignment = self._assigned(proposal)
        terms = self._terms(proposal)
        yield self._handshake.answer(terms)
        self.contract = self._handshake.agree(terms, assignment=self._assignment)
        if terms.assigned is not None and self._assignment is not None:
            yield from assignment_blocks(self._assignment)
        self._half.check(self.contract)
        self._goes_on = bool(proposal.resumes)
        if self._only_resume and self.contract.training and not self._goes_on:
            raise CheckpointMismatchError(
                "the label owner began a new training, and this side goes on with an unfinished one",
                hint="start without --resume to answer new trainings too",
            )
        self._report(
            f"{proposal.purpose}: {proposal.rows} rows, {terms.in_features} in_features, "
            f"{proposal.out_features} out_features, {terms.parameters}"
        )
        for sentence in revealed_lines(self.contract, Role.DATA_OWNER):
            self._report(sentence)

    def _assigned(self, proposal: LabelOwnerTerms) -> Assignment | None:
        """Return which rows are in which split, where a column decides it: own, or the label owner's."""
        if proposal.purpose != "train":
            return None
        return self._handshake.assignment or own_assignment(self._settings.split, self._table)

    def _terms(self, proposal: LabelOwnerTerms) -> DataOwnerTerms:
        own = None if self._settings.split.by is None else self._assignment
        saved = self._find(proposal.resumes)
        stated = DataOwnerTerms(
            run=self._settings.run,
            purpose=proposal.purpose,
            protocol=self._settings.protocol.name,
            scheme=self._settings.protocol.scheme,
            reveals=self._settings.protocol.reveals or "nothing",
            activations=self._activations_kind(proposal),
            id_columns=len(self._settings.table.id),
            rows=self._table.rows,
            order_digest=self._aligned.order_digest,
            model=self._load() if proposal.purpose == "predict" else "",
            resumes="" if saved is None else proposal.resumes,
            order="" if saved is None else fact(saved, "order", str),
            nonce=self._randomness.seed().hex(),
            split=self._settings.split.decided_by if proposal.purpose == "train" else "drawn",
            assigned=None if own is None else Assigned.of(own),
            in_features=0,
            **policy_terms(Policy(**self._settings.limits), self._before()),
        )
        compared = ("id_columns", "resumes", "rows", "order_digest", "split")
        if any(getattr(proposal, name) != getattr(stated, name) for name in compared):
            return stated  # the parties differ; both sides will say so from the terms alone
        stated = stated.model_copy(update={"in_features": self._prepare(proposal, stated.nonce)})
        agreed = Contract(label_owner=proposal, data_owner=stated, assignment=self._assignment)
        return stated.model_copy(update={"parameters": agreed.parameters})

    def _activations_kind(self, proposal: LabelOwnerTerms) -> Literal["fixed", "trained"]:
        training = proposal.purpose == "train" and self._settings.trains_bottom
        return "trained" if training else "fixed"

    def _prepare(self, proposal: LabelOwnerTerms, nonce: str) -> int:
        kind = self._activations_kind(proposal)
        schedule = schedule_of(
            proposal, order_seed(proposal, nonce), activations=kind, assignment=self._assignment
        )
        if self._preparation is None:
            rows = schedule.split_rows(Split.TRAIN)
            self._preparation = fit_preparation(self._settings, self._table, rows=rows)
            self._report_all(notes_of_training(self._preparation, self._table, training=rows))
        else:
            self._report_all(notes_of_prediction(self._preparation, self._table))
        if self._settings.model.bottom is None:
            return self._keep_prepared(self._preparation)
        values_NC = self._preparation.transform(self._table)
        self._half.uses(values_NC)
        features, clipped = self._apply_bottom(values_NC, load=bool(self._saved_arrays))
        self._report_clipped(clipped, features.activation_ND.size)
        self._features = features
        if kind == "trained":
            assert self._bottom is not None
            steps = len(schedule.batches(Split.TRAIN, epoch=0))
            self._features = TrainedActivations(
                self._bottom,
                self._settings,
                values_NC,
                steps_per_epoch=steps,
                keep_epochs=proposal.keep == "best",
            )
        return int(features.activation_ND.shape[1])

    def _report_all(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self._report(sentence)

    def _keep_prepared(self, preparation: Preparation) -> int:
        """Write the prepared columns, which are the activations, to a file; return in_features."""
        prepared = ActivationFile(
            self._settings.folder,
            preparation.pieces(self._table),
            rows=self._table.rows,
            in_features=len(preparation.names),
        )
        self._report_clipped(prepared.clipped, prepared.size)
        self._features = prepared
        self._half.uses(prepared.digests)
        return prepared.in_features

    def _apply_bottom(self, values_NC: NDArray[np.float64], *, load: bool) -> tuple[Features, int]:
        seed = derive(self._weight_seed, b"bottom model")
        self._bottom = BottomModel(self._settings, columns=values_NC.shape[1], seed=seed)
        if load:
            self._bottom.load(self._saved_arrays)
        return self._bottom.fixed(values_NC)

    def _report_clipped(self, clipped: int, size: int) -> None:
        if clipped:
            self._report(f"{clipped} of {size} activations lie beyond 8 and were clipped")

    def _load(self) -> str:
        arrays, facts = load_model(self._settings.folder)
        try:
            self._saved = DataOwnerState(
                share_DK=arrays["share"],
                dither_key=Seed(arrays["dither_key"].tobytes()),
                updates=int(facts["updates"]),
            )
            self._preparation = Preparation.from_json(facts["preparation"])
            self._saved_arrays = arrays
            return str(facts["model"])
        except KeyError as error:
            raise CheckpointMismatchError(
                f"{self._settings.folder} holds no data owner's half of a model",
                hint="each party needs a folder of its own",
            ) from error

    def _find(self, run: str) -> Saved | None:
        """Look for the run that the label owner wants to go on with, and take what does not change in it."""
        saved = self._half.find(run) if run else None
        if saved is not None:
            self._weight_seed = Seed(bytes.fromhex(fact(saved, "weight_seed", str)))
            self._preparation = Preparation.from_json(fact(saved, "preparation", str))
            self._saved_arrays = saved.arrays
        return saved

    def _resume(self, block: Block, contract: Contract) -> Iterator[Block]:
        yield from self._half.choose(block, contract)
        assert self._half.restored is not None
        if self.transcript is not None:
            self.transcript.continue_from(self._half.restored.mark.transcript)
        self._saved = self._half.state()
        self._goes_on = False
        self.log.emit(RUN_RESUMED, step=self._half.restored.mark.updates)

    def _checkpoint(self, mark: Mark) -> Block:
        """Write this side's half of the checkpoint that the label owner names, if it is where this side is.

        Raises:
            RemoteProtocolError: the parties are at different places.
            CheckpointError: it cannot be written.
        """
        assert self._machine is not None
        digest = NO_TRANSCRIPT if self.transcript is None else self.transcript.digest()
        if mark != Mark(updates=self._machine.state().updates, transcript=digest):
            raise RemoteProtocolError("the peer's checkpoint is of another step or transcript")
        self._write_half(mark)
        return mark_block(Kind.CHECKPOINTED, mark)

    def interrupt(self) -> None:
        """Write this side's half at the last step boundary, if checkpoints are taken: this side stops."""
        if self._machine is None or not self._machine.idle or self.boundary is None or not self._half.writes:
            return
        self._write_half(Mark(updates=self._machine.state().updates, transcript=self.boundary))

    @property
    def idle(self) -> bool:
        """Whether nothing is half done."""
        return self._machine is None or self._machine.idle

    def _write_half(self, mark: Mark) -> None:
        assert self._machine is not None
        assert self.contract is not None
        assert self._features is not None
        assert self._preparation is not None
        self._half.write(
            mark,
            self.contract,
            self._machine,
            self._features,
            arrays={} if self._bottom is None else self._bottom.arrays(),
            facts={"weight_seed": self._weight_seed.hex(), "preparation": self._preparation.to_json()},
        )
        self.log.emit(CHECKPOINT_WRITTEN, step=mark.updates)

    def _open(self, block: Block, contract: Contract) -> Iterator[Block]:
        assert self._features is not None
        self._release = Release(contract, self._ledger, log=self.log)
        self._release.begin()
        keep_contract(self._settings.folder, contract)
        threads = torch.get_num_threads()
        evaluator = read_public_key(contract, Role.LABEL_OWNER, block, threads=threads)
        keys = make_keys(contract, Role.DATA_OWNER, randomness=self._randomness, threads=threads)
        if keys is not None:
            yield public_key(keys)
        self._machine = DATA_OWNERS[contract.data_owner.protocol](
            contract,
            keys=keys,
            evaluator=evaluator,
            features=self._features,
            state=self._saved,
            charge=self._release,
            randomness=self._randomness,
        )
        if self._saved is None:
            yield from self._machine.open(self._weight_seed)
        elif contract.training:
            self._half.restore(self._machine, self._features)

    def _before(self) -> Totals:
        return Totals() if self._ledger is None else self._ledger.totals()

    def prepare(self) -> None:
        """Compute ahead, while the label owner works, what the next answer needs."""
        if self._machine is not None and not self.finished:
            self._machine.prepare()

    def _finish(self) -> None:
        if self._machine is not None and self.contract is not None and self.contract.training:
            self._machine.require_end()
            state = self._machine.state()
            self._save(state, self.contract)
            self.log.emit(MODEL_SAVED, step=state.updates)
            self._half.finished(self.contract.run_id)
        if isinstance(self._features, TrainedActivations) and self._features.clipped:
            self._report(f"{self._features.clipped} activations of the bottom model were clipped at 8")
        totals = self._before() if self._release is None else self._release.totals
        self._report(
            f"finished; z released per row so far: {totals.released_z_per_row} of "
            f"{self._settings.policy.released_z_per_row}"
        )
        self.finished = True

    def close(self) -> None:
        """Remove what was kept on disk for this session only."""
        if isinstance(self._features, ActivationFile):
            self._features.close()

    def _save(self, state: DataOwnerState, contract: Contract) -> None:
        assert self._preparation is not None
        save_model(
            self._settings.folder,
            arrays={
                "share": state.share_DK,
                "dither_key": np.frombuffer(state.dither_key, dtype=np.uint8),
                "weight_seed": np.frombuffer(self._weight_seed, dtype=np.uint8),
                **({} if self._bottom is None else self._bottom.arrays()),
            },
            facts={
                "model": contract.session.hex(),
                "run_id": contract.run_id,
                "updates": state.updates,
                "preparation": self._preparation.to_json(),
            },
        )


def serve(session: Session, party: DataOwnerParty, *, interrupts: Interrupts | None = None) -> None:
    """Answer one session to its end.

    Args:
        session: open, and not bound yet.
        party: answers.
        interrupts: obeyed between two exchanges; this side's half is saved then.

    Raises:
        MoietyError: the session failed; the peer was told that, and nothing is half-applied.

    Leaks:
        To the label owner: dithered z of the batches it asks for, within the policy.
    """
    try:
        while not party.finished:
            answer(session, party, interrupts or Interrupts())
        session.settle()
    except (KeyboardInterrupt, SystemExit) as stop:
        party.interrupt()
        session.abort(stop)
        raise
    except BaseException as error:
        session.abort(error)
        raise
    finally:
        party.close()
    session.close()


def answer(session: Session, party: DataOwnerParty, interrupts: Interrupts | None = None) -> None:
    """Take one block and send what it calls for."""
    waiting = nullcontext() if interrupts is None else interrupts.at_once(waits=party.idle)
    fresh = party.contract is None
    party.transcript, party.log = session.transcript, session.log
    with waiting:
        block = session.receive()
    session.send(party.receive(block))
    if party.idle:
        party.boundary = session.transcript.digest()
    party.prepare()
    if fresh and party.contract is not None:
        session.bind(contract=party.contract.digest, session=party.contract.session)
        log_agreed(session.log, party.contract)
