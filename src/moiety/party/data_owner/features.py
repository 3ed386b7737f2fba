"""The data owner's table, from its file to activations, and the ledger of what was released of it.

Imported by the party, the loop that answers sessions, `check` and `plan`.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from numpy.typing import NDArray

from moiety.config import DataOwnerRun as Settings
from moiety.config import Totals
from moiety.config.source import Query
from moiety.contract.schedule import RowIndices
from moiety.crypto.ring import encode_activations
from moiety.data.columns import exact_ids
from moiety.data.periods import split_column
from moiety.data.preparation import Preparation, chosen_features
from moiety.data.table import Table, read_table
from moiety.nn.bottom import check_bottom
from moiety.party.alignment import own_assignment
from moiety.protocol.dither import row_digests
from moiety.protocol.state import Features
from moiety.store.ledger import Ledger, read_ledger


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
    ids = exact_ids(settings)
    return read_table(settings.table.source, columns=columns, ids=ids, scratch=settings.folder)


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
    """Return the ledger of this peer on this table; one of an earlier version of moiety is taken over."""
    earlier = _earlier_ledger(settings)
    if earlier is not None and earlier.exists() and not settings.ledger.exists():
        settings.ledger.parent.mkdir(parents=True, exist_ok=True)
        earlier.rename(settings.ledger)
    return Ledger(settings.ledger)


def _earlier_ledger(settings: Settings) -> Path | None:
    """Return where a ledger was before it had names: under the peer's certificate and the table's path."""
    source = settings.table.source
    if isinstance(source, Query):
        return None
    certificate = x509.load_pem_x509_certificate(settings.peer[0].certificate.read_bytes())
    peer = certificate.fingerprint(SHA256()).hex()[:16]
    table = sha256(str(source.resolve()).encode()).hexdigest()[:16]
    return settings.ledger.parents[1] / f"{peer}-{table}.jsonl"


def released_before(settings: Settings) -> Totals:
    """Read what the ledger has, without making one, also while another process counts in it.

    Raises:
        CheckpointCorruptError: a line of it is damaged.
    """
    return read_ledger(settings.ledger).totals
