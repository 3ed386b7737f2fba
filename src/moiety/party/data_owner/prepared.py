"""The data owner's table as one session uses it: fitted, prepared and turned into activations.

Imported by the session's script.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from moiety.config import DataOwnerRun as Settings
from moiety.contract.contract import Contract
from moiety.contract.schedule import RowIndices, Split
from moiety.crypto.sampling import derive
from moiety.crypto.secret import Secret
from moiety.data.notes import notes_of_prediction, notes_of_training
from moiety.data.preparation import Preparation
from moiety.data.table import Table
from moiety.nn.bottom import BottomModel, TrainedActivations
from moiety.party.alignment import Report
from moiety.party.data_owner.activations import ActivationFile
from moiety.party.data_owner.features import fit_preparation
from moiety.party.data_owner.start import Start
from moiety.protocol.resume import table_digest
from moiety.protocol.state import Features
from moiety.store.files import Arrays


@dataclass(frozen=True, kw_only=True, repr=False)
class Prepared(Secret):
    """What a session computes with.

    Args:
        preparation: of the columns.
        in_features: the width of the activations.
        activations: of the rows.
        table: digest of what the session uses of the table, to tell whether a resumed run finds the same.
        bottom: the bottom model, where there is one.
    """

    preparation: Preparation
    in_features: int
    activations: ActivationFile | Features | TrainedActivations
    table: str
    bottom: BottomModel | None = None

    def arrays(self) -> Arrays:
        """Return the bottom model's weights as they are now; nothing where there is none."""
        return {} if self.bottom is None else self.bottom.arrays()

    def end_sentences(self) -> Iterable[str]:
        """Yield what there is to say of the activations when the session is over."""
        if isinstance(self.activations, TrainedActivations) and self.activations.clipped:
            yield f"{self.activations.clipped} activations of the bottom model were clipped at 8"

    def close(self) -> None:
        """Remove what was written to disk for this session only."""
        if isinstance(self.activations, ActivationFile):
            self.activations.close()


def prepare(settings: Settings, table: Table, *, draft: Contract, start: Start, report: Report) -> Prepared:
    """Prepare the table for one session.

    Args:
        settings: the run file.
        table: in the order of the contract.
        draft: the contract but for the width, which comes of this; the schedule says which rows train.
        start: with what was fitted and trained before.
        report: told what is left out, clipped or drifts, in a sentence.

    Raises:
        ConfigError, DataError: the table, the rules or the bottom model cannot be used.
        CheckpointError: prepared columns cannot be written beside the run's folder.
    """
    training = draft.schedule.split_rows(Split.TRAIN)
    preparation = start.preparation or fit_preparation(settings, table, rows=training)
    for sentence in _notes(preparation, table, draft, training=training):
        report(sentence)
    if settings.model.bottom is None:
        return _written(settings, table, preparation, report=report)
    return _behind_bottom(settings, table, preparation, draft=draft, start=start, report=report)


def _notes(preparation: Preparation, table: Table, draft: Contract, *, training: RowIndices) -> list[str]:
    if draft.training:
        return notes_of_training(preparation, table, training=training)
    return notes_of_prediction(preparation, table)


def _written(settings: Settings, table: Table, preparation: Preparation, *, report: Report) -> Prepared:
    """Write the prepared columns, which are the activations, to a file."""
    width = len(preparation.names)
    written = ActivationFile(settings.folder, preparation.pieces(table), rows=table.rows, in_features=width)
    _report_clipped(written.clipped, written.size, report)
    return Prepared(
        preparation=preparation,
        in_features=width,
        activations=written,
        table=table_digest(written.digests),
    )


def _behind_bottom(
    settings: Settings,
    table: Table,
    preparation: Preparation,
    *,
    draft: Contract,
    start: Start,
    report: Report,
) -> Prepared:
    values_NC = preparation.transform(table)
    bottom = BottomModel(
        settings, columns=values_NC.shape[1], seed=derive(start.weight_seed, b"bottom model")
    )
    if start.arrays:
        bottom.load(start.arrays)
    fixed, clipped = bottom.fixed(values_NC)
    _report_clipped(clipped, fixed.activation_ND.size, report)
    activations: Features | TrainedActivations = fixed
    if draft.data_owner.activations == "trained":
        activations = TrainedActivations(
            bottom,
            settings,
            values_NC,
            steps_per_epoch=draft.steps_per_epoch,
            keep_epochs=draft.keeps_best,
        )
    return Prepared(
        preparation=preparation,
        in_features=int(fixed.activation_ND.shape[1]),
        activations=activations,
        table=table_digest(values_NC),
        bottom=bottom,
    )


def _report_clipped(clipped: int, size: int, report: Report) -> None:
    if clipped:
        report(f"{clipped} of {size} activations lie beyond 8 and were clipped")
