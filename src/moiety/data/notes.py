"""What the owner of a table should know about its preparation, in sentences; they stay on its machine.

Imported by both parties' loops.
"""

import numpy as np
from numpy.typing import NDArray

from moiety.data.drift import drift_sentences, require_seen
from moiety.data.preparation import Preparation
from moiety.data.table import Table


def notes_of_training(preparation: Preparation, table: Table, *, training: NDArray[np.int64]) -> list[str]:
    """Say which columns are left out, and how the rows kept from training differ from the training rows.

    Args:
        preparation: fitted on the training rows.
        table: all rows.
        training: indices of the training rows.
    """
    kept = np.ones(table.rows, dtype=np.bool_)
    kept[training] = False
    drifts = preparation.drift(table, rows=np.flatnonzero(kept)) if kept.any() else []
    left_out = [column.sentence for column in preparation.left_out]
    return [*left_out, *drift_sentences(drifts, what="rows kept from training")]


def notes_of_prediction(preparation: Preparation, table: Table) -> list[str]:
    """Say how rows to be scored differ from the training rows.

    Raises:
        DataError: half of them have categories that no training row had, in a column of 100 rows or more:
            their scores would mean nothing, so nothing is released for them.
    """
    drifts = preparation.drift(table)
    require_seen(drifts, source=table.source.name)
    return drift_sentences(drifts, what="rows to score")
