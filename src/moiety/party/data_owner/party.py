"""What a data owner brings to every session, and how its side of one is written.

A session's script is a generator: it yields each block of an answer, and a `Wait` where it takes the peer's
next one. It reads from top to bottom as what happens, and a block is acceptable only where the script stands.
Imported by the parts of the script and by whoever runs it.
"""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

from moiety.config import DataOwnerRun as Settings
from moiety.config import Totals
from moiety.crypto.sampling import Randomness
from moiety.crypto.secret import Secret
from moiety.data.table import Table
from moiety.party.alignment import Report
from moiety.protocol.messages import Block, Kind
from moiety.store.checkpoints import Checkpoints
from moiety.store.ledger import Ledger


class Wait(Enum):
    """What a script yields where it takes the peer's next block."""

    BETWEEN = auto()
    """Nothing is half done: this side may stop here."""
    WITHIN = auto()
    """An exchange is under way."""


Result = TypeVar("Result")
Script = Generator[Block | Wait, Block, Result]

FINISHED: Final = Block(kind=Kind.FINISH, step=0, payload=b"")


@dataclass(frozen=True, kw_only=True, repr=False)
class DataOwnerParty(Secret):
    """What a data owner brings to every session.

    Args:
        settings: the run file.
        table: its raw table.
        ledger: totals over all runs; None in a simulation, where nothing leaves.
        randomness: where seeds come from.
        report: told what happens, in a sentence.
        checkpoints: where this side's checkpoints of unfinished runs lie.
        only_resume: refuse to begin a new training.
    """

    settings: Settings
    table: Table
    ledger: Ledger | None
    randomness: Randomness
    report: Report
    checkpoints: Checkpoints
    only_resume: bool = False

    def released_before(self) -> Totals:
        """Return what earlier sessions released."""
        return Totals() if self.ledger is None else self.ledger.totals()
