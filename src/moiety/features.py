"""The data owner's table, from its file to activations, and the ledger of what was released of it.

Imported by the party, the loop that answers sessions, `check` and `plan`.
"""

from contextlib import closing
from hashlib import sha256

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from numpy.typing import NDArray

from moiety.bottom import check_bottom
from moiety.config import DataOwnerRun as Settings
from moiety.config.source import ledger_name
from moiety.data.periods import own_assignment, split_column
from moiety.data.preparation import Preparation, chosen_features
from moiety.data.table import Table, read_table
from moiety.dither import row_digests
from moiety.errors import ConfigError
from moiety.ledger import Ledger
from moiety.policy import Totals
from moiety.protocol.state import Features
from moiety.ring import encode_activations
from moiety.schedule import RowIndices


def fixed_features(values_NC: NDArray[np.float64]) -> tuple[Features, int]:
    """Take prepared columns as activations; return them, and how many were clipped."""
    activation_ND, clipped = encode_activations(values_NC)
    return Features(activation_ND=activation_ND, digest_N=row_digests(activation_ND)), clipped


def fit_preparation(settings: Settings, table: Table, *, rows: RowIndices) -> Preparation:
    """Fit the run file's preparation on some rows of the table."""
    features = chosen_features(
        settings.table.features, table, besides=(*settings.table.id, *split_column(settings.split))
    )
    return Preparation.fit(table, features=features, rules=settings.prepare, rows=rows)


def open_features(settings: Settings) -> Table:
    """Open the data owner's table.

    Raises:
        ConfigError, DataError: it cannot be read.
        CheckpointError: a copy cannot be written beside the run's folder.
    """
    wanted = settings.table.features
    columns = None if wanted == "all" else [*settings.table.id, *wanted, *split_column(settings.split)]
    return read_table(settings.table.source, columns=columns, scratch=settings.folder)


def read_features(settings: Settings) -> Table:
    """Read the data owner's table and check that it can be prepared, before anybody connects.

    Raises:
        ConfigError, DataError: the table cannot be used.
        CheckpointError: a copy cannot be written beside the run's folder.
    """
    table = open_features(settings)
    preparation = fit_preparation(settings, table, rows=np.arange(table.rows))
    own_assignment(settings.split, table)
    if settings.model.bottom is not None:
        check_bottom(settings, preparation.transform(table.first(2)))
    return table


def open_ledger(settings: Settings) -> Ledger:
    """Return the ledger of this peer on this table: the same for every run beside this run file."""
    certificate = x509.load_pem_x509_certificate(settings.peer[0].certificate.read_bytes())
    peer = certificate.fingerprint(SHA256()).hex()[:16]
    table = sha256(ledger_name(settings.table.source).encode()).hexdigest()[:16]
    return Ledger(settings.folder.parent / "ledger" / f"{peer}-{table}.jsonl")


def released_before(settings: Settings) -> Totals | None:
    """Read what the ledger has, without making one; None while another process counts in it.

    Raises:
        CheckpointCorruptError: a line of it is damaged.
    """
    if not (settings.folder.parent / "ledger").is_dir() or not settings.peer[0].certificate.is_file():
        return Totals()
    try:
        with closing(open_ledger(settings)) as ledger:
            return ledger.totals()
    except ConfigError:
        return None
