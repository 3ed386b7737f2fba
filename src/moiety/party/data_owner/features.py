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
from moiety.data.look import look
from moiety.data.periods import split_column
from moiety.data.preparation import Preparation, Unfitted, chosen_features
from moiety.data.table import Table, read_table
from moiety.data.table_pass import TablePass
from moiety.party.alignment import own_assignment
from moiety.protocol.dither import row_digests
from moiety.protocol.state import Features
from moiety.store.ledger import Ledger, read_ledger


def fixed_features(values_NC: NDArray[np.float64]) -> tuple[Features, int]:
    """Take prepared columns as activations; return them, and how many were clipped."""
    activation_ND, clipped = encode_activations(values_NC)
    return Features(activation_ND=activation_ND, digest_N=row_digests(activation_ND)), clipped


def wanted_features(settings: Settings, table: Table) -> Unfitted:
    """Name the features and rules of the run file.

    Raises:
        ConfigError: they do not go together.
    """
    besides = (*settings.table.id, *split_column(settings.split))
    features = chosen_features(settings.table.features, table, besides=besides)
    return Unfitted(features=features, rules=settings.prepare)


def pass_over(
    settings: Settings, table: Table, *, saved: Preparation | None, training: RowIndices | None
) -> TablePass:
    """Prepare the table, in one pass that is yet to be taken.

    Args:
        settings: the run file.
        table: in the order of the contract.
        saved: of a model, or of a run that is resumed; None where the preparation is to be fitted.
        training: the training rows; None where the rows are to be scored.
    """
    return TablePass(table, saved or wanted_features(settings, table), training=training)


def open_features(settings: Settings) -> Table:
    """Open the data owner's table.

    Raises:
        ConfigError, DataError: it cannot be read.
        CheckpointError: a copy cannot be written beside the run's folder.
    """
    wanted = settings.table.features
    columns = None if wanted == "all" else [*settings.table.id, *wanted, *split_column(settings.split)]
    ids = exact_ids(settings)
    table = read_table(settings.table.source, columns=columns, ids=ids, scratch=settings.folder)
    return table.holding(split_column(settings.split))  # which may be a feature as well


def read_features(settings: Settings) -> Table:
    """Read the data owner's table and look whether it can be prepared, before anybody connects.

    Raises:
        ConfigError, DataError: the table cannot be used.
        CheckpointError: a copy cannot be written beside the run's folder.
    """
    table = open_features(settings)
    width_of(settings, look(table, wanted_features(settings, table)))
    own_assignment(settings.split, table)
    return table


def width_of(settings: Settings, inputs: int) -> int:
    """Return in_features for so many prepared inputs; a bottom model is made and applied to two rows.

    Raises:
        ConfigError: the bottom model cannot be used.
    """
    if settings.model.bottom is None:
        return inputs
    from moiety.nn.bottom import check_bottom  # noqa: PLC0415  PyTorch takes two seconds

    # Of any numbers: what prepared columns will hold is not known before they are fitted.
    return check_bottom(settings, np.linspace(1, 0, 2 * inputs, endpoint=False).reshape(2, inputs))


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
