"""What a data owner allows, and what it released so far: each limit once, with its words, unit and bound.

`[policy]` of a run file, the terms of the handshake, `moiety ledger`, `check` and `contract`, and every error
take a limit's name and words from here; what enforces it is in `contract`. Imported by `config` only.
Reference: docs/adr/0024.
"""

from dataclasses import dataclass
from typing import Annotated, Final, get_args

from pydantic import ConfigDict, Field

from moiety.config.protocols import ProtocolName, protocol_names
from moiety.config.section import Section
from moiety.config.values import Count, File, Revealed, SchemeName

_NAMES_LIMIT: Final = 16
"""Entries of a list of names."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What is said about a limit, beside its description, bound and default.

    Args:
        label: what it bounds, in a few words.
        number: stands for it in the message by which a party stops; no other limit may ever have it.
        remedy: what a label owner can do that asks for too much; begins with a verb.
        unit: of its value; empty where the value counts nothing.
    """

    label: str
    number: int
    remedy: str
    unit: str = ""


class Policy(Section):
    """Limits for one peer on one table, over all runs; None sets no limit of its own.

    z leaks: a label owner that knows some rows fits a linear map to it; with `wide_layer` it can solve for
    the features. When a training ends early depends on the labels. The defaults of the three lists allow
    everything; in a run file, a list that is left out allows what [protocol] chooses.
    """

    # A subclass may hold what the peer is not told: it is refused where a policy is stated (ADR 0024).
    model_config = ConfigDict(revalidate_instances="subclass-instances")

    released_z_per_row: Annotated[
        Count,
        Field(description="Values of z released for any one row: units x passes."),
        Limit(label="z for any one row", number=1, unit="values", remedy="lower model.units or train.epochs"),
    ] = 640
    predictions: Annotated[
        Count,
        Field(description="Rows scored by `moiety predict`."),
        Limit(label="predictions", number=2, unit="rows", remedy="score fewer rows"),
    ] = 100_000
    steps: Annotated[
        Count | None,
        Field(description="Training steps; no limit if left out."),
        Limit(label="training", number=5, unit="steps", remedy="lower train.epochs or raise train.batch"),
    ] = None
    runs: Annotated[
        Count | None,
        Field(description="Trainings begun; no limit if left out."),
        Limit(label="training", number=6, unit="runs", remedy="resume a training by --resume"),
    ] = None
    smallest_batch: Annotated[
        int,
        Field(ge=1, le=2**20, description="Rows of the smallest training batch."),
        Limit(label="smallest training batch", number=3, unit="rows", remedy="raise train.batch"),
    ] = 256
    wide_layer: Annotated[
        bool,
        Field(
            description="Allow as many units as inputs, or more; the label owner can then solve for features."
        ),
        Limit(
            label="as many units as inputs",
            number=4,
            remedy="lower model.units below the data owner's in_features",
        ),
    ] = False
    early_stopping: Annotated[
        bool,
        Field(description="Allow a training to end before the agreed epochs; when depends on labels."),
        Limit(
            label="an end before the agreed epochs",
            number=10,
            remedy="leave out early_stopping, time_limit and steps_limit",
        ),
    ] = True
    protocols: Annotated[
        tuple[ProtocolName, ...],
        Field(
            strict=False,
            min_length=1,
            max_length=_NAMES_LIMIT,
            description="Message flows; the one under [protocol] if left out.",
        ),
        Limit(label="message flows", number=7, remedy="choose another protocol.name on both sides"),
    ] = Field(default_factory=protocol_names)
    schemes: Annotated[
        tuple[SchemeName, ...],
        Field(
            strict=False,
            min_length=1,
            max_length=_NAMES_LIMIT,
            description="Encryptions; the one under [protocol] if left out.",
        ),
        Limit(label="encryption", number=8, remedy="choose another protocol.scheme on both sides"),
    ] = get_args(SchemeName)
    reveals: Annotated[
        tuple[Revealed, ...],
        Field(
            strict=False,
            max_length=_NAMES_LIMIT,
            description="What may be shown to this side; what [protocol] says if left out.",
        ),
        Limit(
            label="shown to the data owner besides",
            number=9,
            remedy='choose protocol.name = "blind" on both sides, which reveals nothing',
        ),
    ] = get_args(Revealed)


class Totals(Section):
    """What was released so far, of each limit that counts over all runs; only ever grows.

    Of z it is the largest number of values released for any one row. Steps may be a few more than were made
    (`contract.policy.Meter`); a run counts when it begins.
    """

    released_z_per_row: Count = 0
    predictions: Count = 0
    steps: Count = 0
    runs: Count = 0


class PolicySection(Policy):
    """What the data owner allows this peer on this table, over all runs, and where it counts."""

    ledger: File | None = Field(
        default=None, description='Folder of the totals; "ledger" beside the run file if left out.'
    )


LIMITS: Final = {
    name: next(each for each in field.metadata if isinstance(each, Limit))
    for name, field in Policy.model_fields.items()
}
"""What is said about each limit, by its name."""


def limit_label(name: str) -> str:
    """Say in words what a limit bounds, and in which unit.

    >>> limit_label("smallest_batch"), limit_label("schemes")
    ('smallest training batch, in rows', 'encryption')
    """
    limit = LIMITS[name]
    return limit.label + (f", in {limit.unit}" if limit.unit else "")
