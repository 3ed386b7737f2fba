"""`moiety check`: everything that can be wrong on this side, before anybody is connected."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from moiety.config import AnyRun, DataOwnerRun, LabelOwnerRun, load_run
from moiety.contract.contract import Contract
from moiety.crypto.sampling import SystemRandomness
from moiety.data.periods import split_column
from moiety.data.preparation import chosen_features
from moiety.data.profile import (
    ColumnProfile,
    TableProfile,
    profile_column,
    profile_features,
    profile_table,
    raise_first,
)
from moiety.data.table import Table
from moiety.data.target import Target
from moiety.listener import SILENT
from moiety.net.connect import connect
from moiety.net.identity import load_identity, load_pinned
from moiety.net.session import Session
from moiety.nn.bottom import check_bottom
from moiety.nn.stopping import check_plan
from moiety.nn.top import build_top
from moiety.party import disclosure
from moiety.party.alignment import align_with_data_owner, in_order, own_assignment
from moiety.party.data_owner.features import fit_preparation, open_features, released_before
from moiety.party.disclosure import Disclosure
from moiety.party.label_owner.features import read_labels
from moiety.party.label_owner.session import agree, finish, open_session, propose

Finding: TypeAlias = str | TableProfile | Disclosure
"""A sentence for what is in order, what the table is like, what the peer will get to know."""


def check(path: Path, *, peer: bool) -> Iterator[Finding]:
    """Yield what is found, in the order in which it is looked at.

    Args:
        path: the run file of either role.
        peer: also connect. A label owner shakes hands with a waiting data owner, and trains nothing; a
            data owner makes the connection only.

    Raises:
        MoietyError: the first thing that is not in order; of columns, after all of them were profiled.

    Leaks:
        With `peer`, what a handshake shows, as the yielded `Disclosure` says; without it, nothing.
    """
    settings = load_run(path)
    yield f"run file: {path.name}, {settings.role}, run {settings.run}"
    load_identity(settings.own.key, settings.own.certificate)
    load_pinned(settings.peer[0].certificate)
    yield f"certificates: own and the one of {settings.peer[0].name} are valid today"
    if isinstance(settings, DataOwnerRun):
        yield from _check_data_owner(settings, peer=peer)
    else:
        yield from _check_label_owner(settings, peer=peer)


def _check_data_owner(settings: DataOwnerRun, *, peer: bool) -> Iterator[Finding]:
    table = open_features(settings)
    besides = (*settings.table.id, *split_column(settings.split))
    features = chosen_features(settings.table.features, table, besides=besides)
    profile = _profile(settings, table, features)
    yield profile
    raise_first(profile)
    inputs = profile.inputs
    if settings.model.bottom is not None:
        preparation = fit_preparation(settings, table, rows=np.arange(table.rows))
        inputs = check_bottom(settings, preparation.transform(table.first(2)))
    yield disclosure.of_data_owner(
        settings,
        rows=table.rows,
        inputs=inputs,
        before=released_before(settings),
        assignment=own_assignment(settings.split, table),
    )
    yield f"table: {table.rows} rows, {profile.inputs} prepared columns"
    if peer:
        channel, connector = connect(settings)
        with connector:
            channel.close()
        yield f"peer: {settings.peer[0].name} is connected with the pinned certificate"


def _check_label_owner(settings: LabelOwnerRun, *, peer: bool) -> Iterator[Finding]:
    table = read_labels(settings)
    name, every_row = settings.table.target, np.arange(table.rows)
    besides = (*settings.table.id, name, *split_column(settings.split))
    features = chosen_features(settings.table.features, table, besides=besides)
    profile = _profile(settings, table, features, profile_column(table, name, use="target"))
    yield profile
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
    session = open_session(settings, channel=None, listener=SILENT)
    try:
        aligned = align_with_data_owner(session, settings, table, randomness=source, listener=SILENT)
        assignment = own_assignment(settings.split, aligned.table)
        terms = propose(settings, aligned, purpose="train", randomness=source, assignment=assignment)
        return session, agree(session, terms, assignment=assignment), aligned.sentence
    except BaseException as error:
        session.abort(error)
        raise


def _profile(settings: AnyRun, table: Table, features: Sequence[str], *others: ColumnProfile) -> TableProfile:
    """Profile the id columns and the features, beside others."""
    ids = [profile_column(table, name, use="id") for name in settings.table.id]
    own = profile_features(table, features, rules=settings.prepare) if features else ()
    return profile_table(table, [*ids, *others, *own], ids=settings.table.id)
