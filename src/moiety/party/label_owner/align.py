"""`moiety align`: an alignment alone, for later commands. Imported by the command line and by users."""

from pathlib import Path

from moiety.config import load_label_owner_run
from moiety.config.listener import SILENT, Listener
from moiety.crypto.sampling import SystemRandomness
from moiety.data.columns import exact_ids
from moiety.data.table import read_table
from moiety.errors import ConfigError
from moiety.net.channel import Channel
from moiety.party.alignment import align_with_data_owner
from moiety.party.label_owner.session import finish, open_session


def align(
    path: str | Path,
    *,
    channel: Channel | None = None,
    listener: Listener = SILENT,
) -> str:
    """Align the tables and keep the result on both sides; return what was found, in a sentence.

    Args:
        path: the label owner's run file, with id columns.
        channel: an open connection; made from the run file when left out.
        listener: told how far a long alignment is.

    Raises:
        ConfigError: the run file names no id columns.
        AlignmentError: the tables have no row in common.
        ContractMismatchError: the parties compare different things.
        TransportError: no connection to the data owner.

    Leaks:
        To the data owner: the number of own ids, and which of its ids are among them.
    """
    settings = load_label_owner_run(Path(path))
    if not settings.table.id:
        raise ConfigError(
            f"{path}: [table] names no id columns to align by", hint='write id = ["..."] on both sides'
        )
    ids = settings.table.id
    table = read_table(
        settings.table.source, columns=list(ids), ids=exact_ids(settings), scratch=settings.folder
    )
    session = open_session(settings, channel=channel, listener=listener)
    try:
        source = SystemRandomness()
        aligned = align_with_data_owner(session, settings, table, randomness=source, listener=listener)
        finish(session)
    except BaseException as error:
        session.abort(error)
        raise
    return aligned.sentence
