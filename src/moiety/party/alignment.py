"""A party's table in the order that both parties share: aligned in this session, or kept from an earlier one.

What an alignment found is kept in the run's folder, under a digest of the ids it is of: where neither
table's ids have changed, later sessions use it again. Imported by how sessions begin on either side, and
by what compares both parties' tables.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from moiety.config import DataOwnerRun, LabelOwnerRun, PeriodSplit
from moiety.contract.assignment import Assignment
from moiety.crypto.psi import Elements, Ristretto255, Rows
from moiety.crypto.sampling import Randomness
from moiety.crypto.secret import Secret
from moiety.data.ids import IdRows, Ids
from moiety.data.periods import assign
from moiety.data.table import Table
from moiety.errors import AlignmentError, CheckpointError
from moiety.net.session import Session
from moiety.party.threads import available_threads
from moiety.protocol.alignment import Aligned, AlignmentTerms, DataOwnerAlignment, LabelOwnerAlignment
from moiety.protocol.messages import Kind
from moiety.store.files import digest, replace

KEPT: Final = 4
"""Alignments of that many different tables are kept: of those a run trains on and predicts for."""
ALIGNMENT_KINDS: Final = frozenset({Kind.ALIGNMENT, Kind.BLINDED_IDS, Kind.DOUBLY_BLINDED, Kind.ALIGNED})
_TENTHS: Final = 10
_LARGE: Final = 100_000
"""Fewer ids take seconds: nobody needs to be told how far they are."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class AlignedTable:
    """A table whose rows are in the order that both parties share.

    Args:
        table: only the common rows, where there are id columns.
        order_digest: digest of the order, in hexadecimal; the same on both sides.
        sentence: what was found; empty where the tables were not aligned.
    """

    table: Table
    order_digest: str
    sentence: str = ""


def in_order(table: Table) -> AlignedTable:
    """Take a table without id columns as it is: the digest is of the number of its rows."""
    return AlignedTable(table=table, order_digest=table.id_digest(()).hex())


class OwnSide(Secret):
    """One side's part in an alignment: what it states, its ids, and what it keeps.

    Args:
        settings: the run file.
        table: with its id columns.
        report: told how far a long alignment is.
    """

    def __init__(self, settings: LabelOwnerRun | DataOwnerRun, table: Table, *, report: Report) -> None:
        self._settings = settings
        self._table = table
        self._report = report
        self._told = 0
        section = settings.table
        self._ids = Ids(table, columns=section.id, normalise=section.normalise)
        self._group = Ristretto255()

    @cached_property
    def _key(self) -> str:
        section = self._settings.table
        facts = {"ids": self._ids.digest().hex(), "duplicates": section.duplicates, "form": section.id_form}
        return digest(facts)

    @cached_property
    def _kept(self) -> dict[str, Any] | None:
        return _load(self._path, key=self._key) if self._settings.table.id else None

    @property
    def _path(self) -> Path:
        return self._settings.folder / f"alignment-{self._key[:16]}.json"

    @cached_property
    def _hashed(self) -> IdRows:
        with ThreadPoolExecutor(available_threads()) as pool:
            keep_first = self._settings.table.duplicates == "first"
            return self._ids.hashed(self._group, keep_first=keep_first, map_function=pool.map)

    def elements(self) -> Elements:
        """Return own distinct ids as elements of the group."""
        return self._hashed.elements

    def terms(self) -> AlignmentTerms:
        """Return what this side states before ids are compared."""
        section = self._settings.table
        if not section.id:
            return AlignmentTerms(run=self._settings.run, columns=0, normalise=(), ids=0)
        kept = self._kept
        return AlignmentTerms(
            run=self._settings.run,
            columns=len(section.id),
            normalise=section.id_form,
            ids=len(self._hashed.rows) if kept is None else kept["ids"],
            kept="" if kept is None else kept["order_digest"],
        )

    def machine(
        self, kind: "type[LabelOwnerAlignment | DataOwnerAlignment]", *, randomness: Randomness
    ) -> LabelOwnerAlignment | DataOwnerAlignment:
        """Return this side's machine."""
        return kind(
            self.terms(),
            elements=self.elements,
            group=self._group,
            randomness=randomness,
            map_function=_in_threads,
            progress=self._progress,
        )

    def finish(self, aligned: Aligned) -> AlignedTable:
        """Bring the table into the common order, and keep what was found.

        Raises:
            CheckpointError: it cannot be written to the run's folder.
        """
        if aligned.places is None:
            assert self._kept is not None
            kept = self._kept
        else:
            kept = self._facts(aligned, self._hashed.rows[aligned.places])
            _keep(self._path, kept)
        return _ordered(self._table, kept)

    def _facts(self, aligned: Aligned, rows: Rows) -> dict[str, Any]:
        found = self._hashed
        return {
            "key": self._key,
            "order_digest": aligned.digest.hex(),
            "rows": rows.tolist(),
            "ids": len(found.rows),
            "peer_ids": aligned.peer_ids,
            "missing": found.missing,
            "unreadable": found.unreadable,
            "repeated": found.repeated,
        }

    def _progress(self, done: int, count: int) -> None:
        tenths = _TENTHS * done // max(count, 1)
        if count >= _LARGE and tenths > self._told:
            self._told = tenths
            self._report(f"aligning: {tenths * _TENTHS} % of {count:,} ids")


def align_with_data_owner(
    session: Session, settings: LabelOwnerRun, table: Table, *, randomness: Randomness, report: Report
) -> AlignedTable:
    """Align the label owner's table at the beginning of a session, where its run file names ids.

    Raises:
        ContractMismatchError: the parties compare different things.
        AlignmentError: no id is common.
        DataError: ids cannot be read, or repeat and may not.

    Leaks:
        To the data owner: the number of own ids, and which of its ids are among them.
    """
    if not settings.table.id:
        return in_order(table)
    own = OwnSide(settings, table, report=report)
    machine = own.machine(LabelOwnerAlignment, randomness=randomness)
    assert isinstance(machine, LabelOwnerAlignment)
    session.send([machine.hello()])
    while machine.result is None:
        session.send(machine.receive(session.receive()))
    return own.finish(machine.result)


def kept_table(settings: LabelOwnerRun | DataOwnerRun, table: Table) -> AlignedTable:
    """Return a table in the order of an alignment that the run's folder has of it.

    Raises:
        AlignmentError: it has none.
    """
    if not settings.table.id:
        return in_order(table)
    kept = OwnSide(settings, table, report=lambda _: None)._kept  # noqa: SLF001 - the same mechanism
    if kept is None:
        raise AlignmentError(
            f"{settings.folder} has no alignment of {table.source.name} as it is now",
            hint="align again: moiety align, or train",
        )
    return _ordered(table, kept)


def _ordered(table: Table, kept: dict[str, Any]) -> AlignedTable:
    return AlignedTable(
        table=table.take(np.array(kept["rows"], dtype=np.int64)),
        order_digest=kept["order_digest"],
        sentence=_sentence(table, kept),
    )


def _sentence(table: Table, kept: dict[str, Any]) -> str:
    left_out = {
        "without an id": kept["missing"],
        "with an id in another form": kept["unreadable"],
        "with the id of an earlier row": kept["repeated"],
        "not at the peer": kept["ids"] - len(kept["rows"]),
    }
    told = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
    return (
        f"aligned: {len(kept['rows']):,} of {table.rows:,} rows are common"
        + (f"; left out: {told}" if told else "")
        + f"; the peer has {kept['peer_ids']:,} ids"
    )


def _load(path: Path, *, key: str) -> dict[str, Any] | None:
    """Read a kept alignment; None where there is none that can be used: then it is made again."""
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        own = facts.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return facts if own == digest(facts) and facts.get("key") == key else None


def _keep(path: Path, facts: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps({**facts, "digest": digest(facts)}).encode())
        others = sorted(path.parent.glob("alignment-*.json"), key=lambda each: each.stat().st_mtime_ns)
        for old in others[:-KEPT]:
            old.unlink()
    except OSError as error:
        raise CheckpointError(
            f"{path.parent} cannot be written: {error.strerror}",
            hint="make room, or give this user the right to write there; then align again",
        ) from error


def _in_threads(function: Callable[[Any], Any], items: Any) -> Any:
    """Map in threads: the library lets the interpreter's lock go while it multiplies."""
    with ThreadPoolExecutor(available_threads()) as pool:
        return list(pool.map(function, items))


def own_assignment(rule: PeriodSplit, table: Table) -> Assignment | None:
    """Assign rows to splits where an own column decides it; None where it does not.

    Raises:
        ConfigError, DataError: as `assign`.
    """
    return None if rule.by is None else Assignment.of(assign(rule, table))
