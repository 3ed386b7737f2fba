"""The tables and keys of run files, as immutable objects; both roles side by side.

Unknown keys are refused, so that a misspelt limit is never silently a default. Imported by `config`
only.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    model_validator,
)

from moiety.config.problems import refusal
from moiety.config.values import (
    Address,
    Column,
    Columns,
    Count,
    File,
    Fraction,
    Name,
    NoColumns,
    PrepareRule,
    Seconds,
    TableFile,
    Widths,
)

LARGEST_SPLIT_SUM: Final = 0.95
"""Validation and test rows together stay below this, so that training rows remain."""


class Section(BaseModel):
    """Base of every table of a run file: no unknown keys, no conversion of types, immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class OwnFiles(Section):
    """`own`: this party's private key and certificate, as `moiety init` made them."""

    key: File
    certificate: File


class Peer(Section):
    """`[[peer]]`: the other party, its pinned certificate, and which side opens the connection.

    Args:
        name: what this party calls the peer.
        certificate: the only certificate accepted from it.
        listen: own address to listen at; exactly one of `listen` and `dial`.
        dial: the peer's address.
        connect_deadline: seconds until a connection must stand.
        answer_deadline: seconds until an answer of a connected peer must be there.
    """

    name: Name
    certificate: File
    listen: Address | None = None
    dial: Address | None = None
    connect_deadline: Seconds = 60.0
    answer_deadline: Seconds = 600.0

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if (self.listen is None) == (self.dial is None):
            raise refusal(
                "needs exactly one of listen and dial",
                hint="write listen on the side that accepts the connection, dial on the other",
            )
        return self


def _one_peer(peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
    if len(peers) != 1:
        raise refusal(
            f"lists {len(peers)} peers, and one peer per run is supported",
            hint="keep one [[peer]] table",
        )
    return peers


class ProtocolChoice(Section):
    """`[protocol]`: must equal the peer's."""

    name: Literal["blind"] = "blind"
    scheme: Literal["rlwe"] = "rlwe"


class LabelTable(Section):
    """`[table]` of a label owner.

    Args:
        source: Parquet or CSV file.
        id: columns that name a row; empty: both tables are in the same order.
        target: the column to predict.
        features: own columns.
    """

    source: TableFile
    id: Columns = ()
    target: Column
    features: NoColumns = ()


class FeatureTable(Section):
    """`[table]` of a data owner; `features` is "all" columns but those of `id`, or a list."""

    source: TableFile
    id: Columns = ()
    features: Literal["all"] | Annotated[Columns, Field(min_length=1)] = "all"


class Task(Section):
    """`[task]`: what the target is."""

    kind: Literal["binary", "multiclass", "regression"] = "binary"


class SplitFractions(Section):
    """`[split]`: fractions of the rows that are kept from training."""

    validation: Fraction = 0.1
    test: Fraction = 0.2

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation + self.test >= LARGEST_SPLIT_SUM:
            raise refusal(
                f"keeps {self.validation + self.test:g} of the rows from training",
                hint=f"make validation + test less than {LARGEST_SPLIT_SUM}",
            )
        return self


class ModelShape(Section):
    """`[model]`: units of the interactive layer, and the top model behind it.

    Args:
        units: out_features of the interactive layer.
        hidden: widths of the hidden layers of the top model; empty: one linear layer.
        top: "module:factory" of a top model of one's own, instead of `hidden`.
    """

    units: Annotated[int, Field(ge=1, le=4096)] = 32
    hidden: Widths = (32,)
    top: Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+\z")] | None = None

    @model_validator(mode="after")
    def _one_top(self) -> Self:
        if self.top is not None and "hidden" in self.model_fields_set:
            raise refusal("has both hidden and top", hint="keep one of the two keys")
        return self


class Training(Section):
    """`[train]`: proposed to the peer, bounded by its policy.

    Args:
        epochs: passes over the training rows.
        batch: rows of one step.
        learning_rate: of the interactive layer and the local networks.
        optimizer: of the local networks only.
        update: rule of the interactive layer.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    batch: Annotated[int, Field(ge=1, le=2**20)] = 1024
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    optimizer: Literal["adam", "sgd"] = "adam"
    update: Literal["adaptive", "sgd"] = "adaptive"


class PolicyLimits(Section):
    """`[policy]`: what the data owner allows this peer on this table, over all runs.

    Args:
        released_z_per_row: values of z released for any one row.
        predictions: rows scored by `predict`.
        smallest_batch: rows of the smallest training batch.
        wide_layer: allow out_features >= in_features, which lets the label owner solve for the
            features.
    """

    released_z_per_row: Count = 640
    predictions: Count = 100_000
    smallest_batch: Annotated[int, Field(ge=1, le=2**20)] = 256
    wide_layer: bool = False


class Run(Section):
    """What the run files of both roles have in common."""

    version: Literal[1]
    run: Name
    own: OwnFiles
    peer: Annotated[tuple[Peer, ...], Field(strict=False), AfterValidator(_one_peer)]
    protocol: ProtocolChoice = ProtocolChoice()
    _parent: Path = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Remember the run file's folder."""
        self._parent = Path(context["folder"])

    @property
    def folder(self) -> Path:
        """Where this run saves its state: beside the run file, named after the run."""
        return self._parent / self.run


class LabelOwnerRun(Run):
    """A label owner's run file."""

    role: Literal["label-owner"]
    table: LabelTable
    task: Task = Task()
    split: SplitFractions = SplitFractions()
    model: ModelShape = ModelShape()
    train: Training = Training()


class DataOwnerRun(Run):
    """A data owner's run file; `prepare` names a column's rule where the usual one does not suit."""

    role: Literal["data-owner"]
    table: FeatureTable
    prepare: dict[Column, PrepareRule] = Field(default_factory=dict)
    policy: PolicyLimits = PolicyLimits()
