"""How a label owner finds the run that it goes on with, and agrees with the data owner from where.

Imported by the label owner's run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from moiety.config import Checkpointing
from moiety.contract.contract import Contract
from moiety.contract.terms import LabelOwnerTerms
from moiety.crypto.sampling import Seed
from moiety.crypto.secret import Secret
from moiety.errors import CheckpointCorruptError, CheckpointMismatchError, ConfigError
from moiety.net.session import Session
from moiety.party.label_owner.checkpoints import saved_place
from moiety.protocol.resume import read_resumed, require_same, resume_block
from moiety.store.checkpoints import FOLDER, Saved, open_checkpoints

Report = Callable[[str], None]


class Past(Secret):
    """A run's checkpoints at the label owner, until one is chosen.

    Args:
        folder: the run's.
        settings: of the run file.
        resume: one is to go on.
        report: told what happens, in a sentence.

    Attributes:
        checkpoints: where they lie.

    Raises:
        ConfigError: a new training would be begun over one that is unfinished.
        CheckpointError: there is none to go on from, or they cannot be decrypted.
    """

    def __init__(self, folder: Path, settings: Checkpointing, *, resume: bool, report: Report) -> None:
        self.checkpoints = open_checkpoints(folder, settings, report=report)
        self._report = report
        self._found: list[Saved] = []
        self._restored: Saved | None = None
        if resume:
            self._find()
        else:
            self._require_none(folder)

    def _require_none(self, folder: Path) -> None:
        """Refuse to begin a new training over one that is unfinished."""
        run = self.checkpoints.newest_run()
        saved = self.checkpoints.saved(run) if run is not None else []
        if saved and saved[0].mark.updates:
            raise ConfigError(
                f"{folder} holds a training that stopped after step {saved[0].mark.updates}",
                hint=f"go on with it by --resume, or remove {folder / FOLDER} to begin anew",
            )

    def _find(self) -> None:
        """Find the newest run's checkpoints."""
        run = self.checkpoints.newest_run()
        self._found = self.checkpoints.saved(run) if run is not None else []
        if not self._found:
            raise CheckpointCorruptError(
                "there is no checkpoint to go on from", hint="train without --resume to begin anew"
            )

    def terms(self, now: LabelOwnerTerms) -> LabelOwnerTerms:
        """Return the terms to propose: those of the run that goes on, where one does.

        Raises:
            CheckpointMismatchError: the run file or the table is not the run's any more.
        """
        if not self._found:
            return now
        newest = self._found[0]
        require_same(newest.facts.get("terms", {}), now, whose="own")
        update = {
            "resumes": _text(newest, "run"),
            "order": _text(newest, "order"),
            "epochs_done": saved_place(newest).epoch,
        }
        return now.model_copy(update=update)

    def agree(self, session: Session, contract: Contract) -> Saved | None:
        """Agree on the newest checkpoint that both hold; None in a new run.

        Raises:
            CheckpointMismatchError: there is none, or the data owner's terms are not the run's any more.
            RemoteProtocolError: the data owner chose one that this side does not hold.

        Leaks:
            To the data owner: how many checkpoints this side holds, and after which steps.
        """
        if not self._found:
            return None
        require_same(self._found[0].facts.get("terms", {}), contract.data_owner, whose="peer")
        offered = [saved.mark for saved in self._found]
        mark = read_resumed(session.ask(resume_block(offered)), offered)
        if mark is None:
            raise CheckpointMismatchError(
                "the parties hold no checkpoint of this run in common",
                hint="restore both run folders, or train a new model without --resume",
            )
        if mark != offered[0]:
            self._report(f"the newest checkpoint is not on both sides: back to step {mark.updates}")
        self._restored = next(saved for saved in self._found if saved.mark == mark)
        session.transcript.continue_from(mark.transcript)
        self.checkpoints.drop_newer(contract.run_id, mark)
        self._report(f"the run goes on after step {mark.updates}")
        return self._restored

    def seed(self) -> Seed:
        """Return this side's seed of the run."""
        assert self._restored is not None
        return Seed(bytes.fromhex(_text(self._restored, "seed")))

    def share(self) -> dict[str, Any]:
        """Return the arguments of `open_machine` that a run which goes on has."""
        if self._restored is None:
            return {}
        if "share" not in self._restored.arrays:
            raise CheckpointCorruptError("a checkpoint holds no share")
        return {"share": self._restored.arrays["share"], "updates": self._restored.mark.updates}


def _text(saved: Saved, name: str) -> str:
    value = saved.facts.get(name)
    if not isinstance(value, str):
        raise CheckpointCorruptError(
            f"a checkpoint holds no {name}", hint="each party needs a folder of its own"
        )
    return value
