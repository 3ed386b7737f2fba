"""The label owner's own columns: prepared here as a data owner prepares its own, and put beside z.

They enter the top model on this machine. Nothing about them is in any message, not even how many there are.
All of them, as float32, have to fit into memory. Imported by the label owner's loops and the comparison.

Shapes: N rows, C own inputs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moiety.config import LabelOwnerRun as Settings
from moiety.contract.schedule import RowIndices
from moiety.crypto.secret import Secret
from moiety.data.columns import exact_ids
from moiety.data.periods import split_column
from moiety.data.preparation import Preparation, Unfitted, chosen_features
from moiety.data.table import Table, read_table
from moiety.data.table_pass import TablePass


class OwnFeatures(Secret):
    """Prepared own columns of one table.

    Args:
        passed: a pass over the table, not taken yet.
        rows: of the table.

    Raises:
        DataError: a column is not there or cannot be used, or what is to be scored does not resemble what the
            rules were fitted on.

    Attributes:
        preparation: the fitted rules, which are saved with the model.
        values: the inputs, float32 (N, C).
        notes: what this side should know about them, in sentences.
    """

    def __init__(self, passed: TablePass, *, rows: int) -> None:
        columns: list[NDArray[np.float32]] = []
        for piece in passed:
            if piece.first_row == 0:
                columns.append(np.empty((rows, piece.values_nK.shape[1]), dtype=np.float32))
            columns[-1][piece.first_row : piece.first_row + len(piece.values_nK)] = piece.values_nK
        self.preparation = passed.preparation
        self.notes: Sequence[str] = passed.notes()
        self.values = torch.from_numpy(np.hstack(columns))

    @property
    def inputs(self) -> int:
        """C, how many inputs they are."""
        return int(self.values.shape[1])

    def of(self, rows: RowIndices) -> Tensor:
        """Return some rows, float32 (rows, C)."""
        return self.values[torch.from_numpy(rows)]


def columns_to_read(settings: Settings, *, saved: Preparation | None = None) -> Sequence[str] | None:
    """Name the columns of a label owner's table that are needed; None means all.

    Args:
        settings: the run file.
        saved: own columns of a saved model, which is to score rows: they may have no target.
    """
    if saved is not None:
        return [*settings.table.id, *(column.name for column in saved.columns)]
    if settings.table.features == "all":
        return None
    return [
        *settings.table.id,
        settings.table.target,
        *settings.table.features,
        *split_column(settings.split),
    ]


def read_labels(settings: Settings) -> Table:
    """Read a label owner's table: ids, target and own columns.

    Raises:
        ConfigError, DataError: it cannot be used.
        CheckpointError: a copy cannot be written beside the run's folder.
    """
    columns, ids = columns_to_read(settings), exact_ids(settings)
    table = read_table(settings.table.source, columns=columns, ids=ids, scratch=settings.folder)
    return table.holding(split_column(settings.split))  # which may be a feature as well


def wanted_own(settings: Settings, table: Table) -> Unfitted | None:
    """Name the own columns and rules of the run file; None where there are none.

    Raises:
        ConfigError: they do not go together.
    """
    besides = (*settings.table.id, settings.table.target, *split_column(settings.split))
    features = chosen_features(settings.table.features, table, besides=besides)
    return Unfitted(features=features, rules=settings.prepare) if features else None


def own_features(
    columns: Preparation | Unfitted | None, table: Table, *, training: RowIndices | None = None
) -> OwnFeatures | None:
    """Prepare own columns where there are any.

    Args:
        columns: fitted, or to be fitted on the training rows; None where there are no own columns.
        table: with these columns.
        training: the training rows; None where the rows of the table are to be scored.

    Raises:
        DataError: a column is not there or cannot be used, or what is to be scored does not resemble what the
            rules were fitted on.
    """
    if columns is None:
        return None
    return OwnFeatures(TablePass(table, columns, training=training), rows=table.rows)


def inputs_of(own: OwnFeatures | None) -> int:
    """Return how many inputs own columns give."""
    return 0 if own is None else own.inputs
