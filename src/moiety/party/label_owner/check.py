"""`moiety check` on the label owner's side. Imported by `check`."""

from collections.abc import Iterator

import numpy as np

from moiety.config import LabelOwnerRun
from moiety.contract.contract import Contract
from moiety.crypto.sampling import SystemRandomness
from moiety.data.profile import profile_column, profile_table, raise_first
from moiety.data.table import Table
from moiety.data.target import Target
from moiety.net.session import Session
from moiety.nn.stopping import check_plan
from moiety.nn.top import build_top
from moiety.party import disclosure
from moiety.party.alignment import align_with_data_owner, in_order, own_assignment
from moiety.party.disclosure import Finding
from moiety.party.label_owner.features import read_labels, wanted_own
from moiety.party.label_owner.session import agree, finish, open_session, propose


def check_label_owner(settings: LabelOwnerRun, *, peer: bool) -> Iterator[Finding]:
    """Yield what is found on the label owner's side, in the order in which it is looked at.

    Args:
        settings: the run file.
        peer: also shake hands with a waiting data owner.

    Raises:
        MoietyError: the first thing that is not in order; of columns, after all of them were profiled.

    Leaks:
        With `peer`, what a handshake shows, as the yielded `Disclosure` says; without it, nothing.
    """
    table = read_labels(settings)
    name = settings.table.target
    wanted, counted = wanted_own(settings, table), profile_column(table, name, use="target")
    profile = profile_table(table, wanted, ids=settings.table.id, others=[counted])
    yield profile
    every_row = np.arange(table.rows)
    target = Target.fit(table.column(name), name=name, kind=settings.task.kind, rows=every_row)
    raise_first(profile)
    build_top(settings, outputs=target.outputs, own=profile.inputs)
    check_plan(settings)
    assignment = own_assignment(settings.split, table)
    source = SystemRandomness()
    terms = propose(settings, in_order(table), purpose="train", randomness=source, assignment=assignment)
    yield disclosure.of_label_owner(settings, terms, assignment=assignment)
    yield f"table: {table.rows} rows, target {name}, {settings.task.kind}"
    if profile.inputs:
        yield f"own columns: {profile.inputs} prepared inputs of the top model, which stay here"
    if peer:
        session, contract, sentence = _shake_hands(settings, table)
        finish(session)
        if sentence:
            yield sentence
        yield (
            f"peer: {settings.peer[0].name} agrees on {contract.in_features} in_features, "
            f"{contract.parameters}"
        )


def _shake_hands(settings: LabelOwnerRun, table: Table) -> tuple[Session, Contract, str]:
    """Align and agree, as a training would."""
    source = SystemRandomness()
    session = open_session(settings, channel=None)
    try:
        aligned = align_with_data_owner(session, settings, table, randomness=source, report=lambda _: None)
        assignment = own_assignment(settings.split, aligned.table)
        terms = propose(settings, aligned, purpose="train", randomness=source, assignment=assignment)
        return session, agree(session, terms, assignment=assignment), aligned.sentence
    except BaseException as error:
        session.abort(error)
        raise
