"""`moiety check`: everything that can be wrong on this side, before anybody is connected."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from moiety.config import DataOwnerRun, LabelOwnerRun, load_run
from moiety.crypto.sampling import SystemRandomness
from moiety.data.target import Target
from moiety.data_owner import fit_preparation, read_features
from moiety.identity import load_identity, load_pinned
from moiety.label_owner import agree, finish, propose
from moiety.own_features import fit_own, read_labels
from moiety.peer import connect
from moiety.stopping import check_plan
from moiety.top_model import build_top


def check(path: Path, *, peer: bool) -> Iterator[str]:
    """Yield one sentence for each thing that is in order.

    Args:
        path: the run file of either role.
        peer: also connect. A label owner shakes hands with a waiting data owner, and trains nothing; a
            data owner makes the connection only.

    Raises:
        MoietyError: the first thing that is not in order.

    Leaks:
        With `peer`, what a handshake shows: row count, order digest, the proposed training.
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


def _check_data_owner(settings: DataOwnerRun, *, peer: bool) -> Iterator[str]:
    table = read_features(settings)
    prepared = fit_preparation(settings, table, rows=np.arange(table.rows))
    yield f"table: {table.rows} rows, {len(prepared.names)} prepared columns"
    policy = settings.policy
    yield (
        f"policy: up to {policy.released_z_per_row} values of z a row, {policy.predictions} "
        f"predictions, batches of {policy.smallest_batch} rows or more"
    )
    if peer:
        connect(settings).close()
        yield f"peer: {settings.peer[0].name} is connected with the pinned certificate"


def _check_label_owner(settings: LabelOwnerRun, *, peer: bool) -> Iterator[str]:
    table = read_labels(settings)
    values = table.column(settings.table.target)
    target = Target.fit(
        values, name=settings.table.target, kind=settings.task.kind, rows=np.arange(table.rows)
    )
    preparation = fit_own(settings, table, rows=np.arange(table.rows))
    inputs = 0 if preparation is None else len(preparation.names)
    build_top(settings, outputs=target.outputs, own=inputs)
    check_plan(settings)
    yield f"table: {table.rows} rows, target {settings.table.target}, {settings.task.kind}"
    if inputs:
        yield f"own columns: {inputs} prepared inputs of the top model, which stay here"
    if peer:
        terms = propose(settings, table, purpose="train", randomness=SystemRandomness())
        session, contract = agree(settings, terms, channel=None)
        finish(session)
        yield (
            f"peer: {settings.peer[0].name} agrees on {contract.in_features} in_features, "
            f"{contract.parameters}"
        )
