"""The data owner's table as one session uses it: fitted, prepared and turned into activations.

Imported by the session's script.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from moiety.config import DataOwnerRun as Settings
from moiety.contract.contract import Contract
from moiety.contract.schedule import Split
from moiety.crypto.sampling import derive
from moiety.crypto.secret import Secret
from moiety.data.preparation import Preparation
from moiety.data.table import Table
from moiety.data.table_pass import TablePass
from moiety.nn.bottom import BottomModel, TrainedActivations
from moiety.party.alignment import Report
from moiety.party.data_owner.activations import ActivationTable
from moiety.party.data_owner.features import pass_over
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
    activations: ActivationTable | Features | TrainedActivations
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
        if isinstance(self.activations, ActivationTable):
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
    passed = pass_over(
        settings,
        table,
        saved=start.preparation,
        training=draft.schedule.split_rows(Split.TRAIN) if draft.training else None,
    )
    if settings.model.bottom is None:
        return _kept(settings, passed, rows=table.rows, report=report)
    return _behind_bottom(settings, passed, draft=draft, start=start, report=report)


def _kept(settings: Settings, passed: TablePass, *, rows: int, report: Report) -> Prepared:
    """Keep the prepared columns, which are the activations."""
    kept = ActivationTable(settings.folder, passed, rows=rows)
    try:
        _report_notes(passed, report)
    except BaseException:
        kept.close()
        raise
    _report_clipped(kept.clipped, kept.size, report)
    return Prepared(
        preparation=passed.preparation,
        in_features=kept.in_features,
        activations=kept,
        table=table_digest(kept.digests),
    )


def _behind_bottom(
    settings: Settings, passed: TablePass, *, draft: Contract, start: Start, report: Report
) -> Prepared:
    values_NC = passed.stacked()
    _report_notes(passed, report)
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
        preparation=passed.preparation,
        in_features=int(fixed.activation_ND.shape[1]),
        activations=activations,
        table=table_digest(values_NC),
        bottom=bottom,
    )


def _report_notes(passed: TablePass, report: Report) -> None:
    for sentence in passed.notes():
        report(sentence)


def _report_clipped(clipped: int, size: int, report: Report) -> None:
    if clipped:
        report(f"{clipped} of {size} activations lie beyond 8 and were clipped")
