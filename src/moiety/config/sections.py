"""The tables and keys of run files, as immutable objects; both roles side by side.

Unknown keys are refused, so that a misspelt limit is never silently a default. Imported by `config` only.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from moiety.config.problems import refusal

LARGEST_SPLIT_SUM: Final = 0.95
"""Validation and test rows together stay below this, so that training rows remain."""

PrepareRule = Literal["standard", "log", "quantile", "one-hot", "none"]
"""How a column becomes inputs of the interactive layer."""

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_LARGEST_PORT: Final = 65535
_READABLE_FORMATS: Final = (".parquet", ".csv")


def refusal(problem: str, *, hint: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "hint": hint})


def _resolved(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise refusal("is not a path", hint="write the path of a file in quotes")
    return Path(info.context["folder"], value)


def _readable_format(path: Path) -> Path:
    if path.suffix.lower() not in _READABLE_FORMATS:
        raise refusal(
            f"has the suffix {path.suffix!r}, which no reader is known for",
            hint=f"name a file that ends in one of {', '.join(_READABLE_FORMATS)}",
        )
    return path


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[2]) > _LARGEST_PORT:
        raise refusal(
            "is not an address", hint='write "host:port", an IPv6 address in brackets: "[::1]:7443"'
        )
    return value


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise refusal("names a column twice", hint="name each column once")
    return names


def _without_own_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    if names:
        raise refusal(
            "names own columns, and only a label owner without own features is supported",
            hint="write features = [], or leave the key out",
        )
    return names


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\z")]
File = Annotated[Path, PlainValidator(_resolved)]
TableFile = Annotated[File, AfterValidator(_readable_format)]
Address = Annotated[str, AfterValidator(_address)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Column = Annotated[str, Field(min_length=1)]
# TOML has lists only; a tuple cannot be changed afterwards.
Columns = Annotated[tuple[Column, ...], Field(strict=False), AfterValidator(_distinct)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=16_384)], ...], Field(strict=False)]
NoColumns = Annotated[Columns, AfterValidator(_without_own_columns)]
Fraction = Annotated[float, Field(ge=0, le=0.9)]
Count = Annotated[int, Field(ge=0, le=2**53)]


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
        wide_layer: allow out_features >= in_features, which lets the label owner solve for the features.
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
    """A data owner's run file; `prepare` maps a column to its rule where the usual one does not suit."""

    role: Literal["data-owner"]
    table: FeatureTable
    prepare: dict[Column, PrepareRule] = Field(default_factory=dict)
    policy: PolicyLimits = PolicyLimits()
