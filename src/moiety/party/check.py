"""`moiety check`: everything that can be wrong on this side, before anybody is connected."""

from collections.abc import Iterator
from pathlib import Path

from moiety.config import DataOwnerRun, load_run
from moiety.data.profile import profile_table, raise_first
from moiety.net.connect import connect
from moiety.net.identity import load_identity, load_pinned
from moiety.party import disclosure
from moiety.party.alignment import own_assignment
from moiety.party.data_owner.features import open_features, released_before, wanted_features, width_of
from moiety.party.disclosure import Finding


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
        from moiety.party.label_owner.check import check_label_owner  # noqa: PLC0415  PyTorch takes two seconds

        yield from check_label_owner(settings, peer=peer)


def _check_data_owner(settings: DataOwnerRun, *, peer: bool) -> Iterator[Finding]:
    table = open_features(settings)
    profile = profile_table(table, wanted_features(settings, table), ids=settings.table.id)
    yield profile
    raise_first(profile)
    inputs = width_of(settings, profile.inputs)
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
