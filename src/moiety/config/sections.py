"""The tables and keys of run files, as immutable objects; both roles side by side.

Unknown keys are refused, so that a misspelt limit is never silently a default. Imported by `config`
only.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from moiety.config.policy import Policy, PolicySection
from moiety.config.prepare import PrepareRule
from moiety.config.problems import refusal
from moiety.config.protocols import DEFAULT_PROTOCOL, PROTOCOLS, ProtocolName, protocols_that
from moiety.config.section import Section
from moiety.config.source import ledger_name
from moiety.config.split import FeatureSplit, LabelSplit
from moiety.config.table import FeatureTable, LabelTable
from moiety.config.training import BottomModel, LocalTraining, ModelShape, Task, Training
from moiety.config.values import (
    Address,
    Column,
    EnvironmentVariable,
    File,
    Interval,
    Name,
    Revealed,
    SchemeName,
    Seconds,
)


class OwnFiles(Section):
    """This party's own key and certificate, as `moiety init` made them."""

    key: File = Field(description="Private key; only you may read the file.")
    certificate: File = Field(description="Certificate of that key, which the peer pins.")


class Peer(Section):
    """The other party, its pinned certificate, and which side opens the connection."""

    name: Name = Field(description="What this side calls the peer; the ledger counts under this name.")
    certificate: File = Field(description="The only certificate that is accepted from the peer.")
    listen: Address | None = Field(
        default=None, description="Own address to listen at. Write exactly one of `listen` and `dial`."
    )
    dial: Address | None = Field(default=None, description="The address at which the peer listens.")
    connect_deadline: Seconds = Field(default=60.0, description="Seconds to wait for a first connection.")
    answer_deadline: Seconds = Field(
        default=600.0, description="Seconds to wait for an answer of a connected peer."
    )
    reconnect_deadline: Seconds = Field(
        default=300.0, description="Seconds that a run may be without a connection before it stops."
    )

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
    """Which messages cross, and how they are encrypted; the same on both sides."""

    name: ProtocolName = Field(
        default=DEFAULT_PROTOCOL,
        description='The message flow. "joint" and "acml" can train a bottom model at the data owner.',
    )
    scheme: SchemeName = Field(
        default="rlwe",
        description='The encryption. "paillier" has keys of 3072 bits, "paillier-legacy" of 2048 bits.',
    )
    reveals: Revealed | None = Field(
        default=None,
        description='"gradients" accepts that the data owner sees one gradient for each row and can tell '
        'labels from them. Required for "joint" and "acml", refused for "blind".',
    )

    @property
    def allowed(self) -> dict[str, tuple[str, ...]]:
        """What a policy allows that names none of these: what is chosen here, and no more."""
        return {
            "protocols": (self.name,),
            "schemes": (self.scheme,),
            "reveals": (self.reveals,) if self.reveals else (),
        }

    @model_validator(mode="after")
    def _says_what_it_reveals(self) -> Self:
        shows = PROTOCOLS[self.name].reveals_gradients
        if not shows and self.reveals is not None:
            others = " or ".join(protocols_that(lambda each: each.reveals_gradients))
            raise refusal("reveals no gradients", hint=f"leave reveals out, or choose {others}")
        if shows and self.reveals is None:
            raise refusal(
                f"names {self.name}, which shows the data owner one gradient for each row: labels can be "
                "read from it",
                hint='write reveals = "gradients" on both sides if you accept that, or name = '
                f'"{DEFAULT_PROTOCOL}"',
            )
        return self


class Checkpointing(Section):
    """What a party saves of an unfinished run."""

    keep: int = Field(
        default=3,
        ge=2,
        le=64,
        description="Checkpoints of a run that stay on disk. The peer may hold the one before the newest.",
    )
    passphrase: EnvironmentVariable | None = Field(
        default=None,
        description="The environment variable whose value encrypts checkpoints. Not encrypted if left out.",
    )


class LabelCheckpointing(Checkpointing):
    """What a label owner saves of an unfinished run, and when both sides do."""

    every: Interval = Field(default="60 s", description="Time, steps or epochs between two checkpoints.")


class Run(Section):
    """What the run files of both roles have in common."""

    version: Literal[1] = Field(description="Version of the shape of run files.")
    run: Name = Field(
        description="Name of the run, the same on both sides. What a run saves is in a folder of that name "
        "beside the run file."
    )
    own: OwnFiles = Field(description="Own key and certificate.")
    peer: Annotated[tuple[Peer, ...], Field(strict=False), AfterValidator(_one_peer)] = Field(
        description="The other party; one table."
    )
    protocol: ProtocolChoice = Field(default=ProtocolChoice(), description="What crosses, and how.")
    _parent: Path = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Remember the run file's folder."""
        self._parent = Path(context["folder"])

    @property
    def folder(self) -> Path:
        """Where this run saves its state: beside the run file, named after the run."""
        return self._parent / self.run


class LabelOwnerRun(Run):
    """A label owner's run file; `prepare` holds the rules of own columns, as in a data owner's."""

    role: Literal["label-owner"] = Field(description="Whose run file this is.")
    table: LabelTable
    prepare: dict[Column, PrepareRule] = Field(default_factory=dict)
    task: Task = Task()
    split: LabelSplit = LabelSplit()
    model: ModelShape = ModelShape()
    train: Training = Training()
    checkpoint: LabelCheckpointing = LabelCheckpointing()

    @model_validator(mode="after")
    def _splits_by_no_label(self) -> Self:
        if self.split.by == self.table.target:
            raise refusal(
                "splits the rows by the target, which would show the data owner labels",
                hint="take another column for split.by",
            )
        if self.split.stratify is not None and self.task.kind == "regression":
            raise refusal("has split.stratify, and a regression has no classes", hint="leave it out")
        return self

    @model_validator(mode="after")
    def _columns_to_prepare(self) -> Self:
        if self.prepare and not self.table.features:
            raise refusal(
                "has [prepare] and no own columns to prepare",
                hint="name own columns in features under [table], or leave [prepare] out",
            )
        return self


class DataOwnerRun(Run):
    """A data owner's run file; `prepare` holds a column's rule where the usual one does not suit."""

    role: Literal["data-owner"] = Field(description="Whose run file this is.")
    table: FeatureTable
    prepare: dict[Column, PrepareRule] = Field(default_factory=dict)
    split: FeatureSplit = FeatureSplit()
    model: BottomModel = BottomModel()
    train: LocalTraining = LocalTraining()
    policy: PolicySection = Field(default=PolicySection(), validate_default=True)
    checkpoint: Checkpointing = Checkpointing()

    @property
    def limits(self) -> Policy:
        """The policy as the peer is told it: without the place of the ledger."""
        return Policy(**{name: getattr(self.policy, name) for name in Policy.model_fields})

    @property
    def ledger(self) -> Path:
        """The file of the totals for this peer on this table: names that this party chose, and no others."""
        folder = self.policy.ledger or self._parent / "ledger"
        table = self.table.name or ledger_name(self.table.source)
        return folder / self.peer[0].name / f"{table}.jsonl"

    @property
    def trains_bottom(self) -> bool:
        """Whether a training session trains a bottom model."""
        return self.model.bottom is not None and not self.model.frozen

    @field_validator("policy")
    @classmethod
    def _allows_what_is_chosen(cls, policy: PolicySection, info: ValidationInfo) -> PolicySection:
        """Say what is left out: what [protocol] names, the narrowest policy that works."""
        chosen: ProtocolChoice | None = info.data.get("protocol")
        said = {} if chosen is None else chosen.allowed
        return policy.model_copy(
            update={name: names for name, names in said.items() if name not in policy.model_fields_set}
        )

    @model_validator(mode="after")
    def _chooses_what_it_allows(self) -> Self:
        for name, names in self.protocol.allowed.items():
            if not set(names) <= set(getattr(self.policy, name)):
                raise refusal(
                    f'has "{names[0]}" under [protocol], and policy.{name} does not allow it',
                    hint=f"choose what the policy allows, or add it to policy.{name}",
                )
        return self

    @model_validator(mode="after")
    def _trains_what_the_protocol_can(self) -> Self:
        name, bottom = self.protocol.name, PROTOCOLS[self.protocol.name].bottom
        if bottom == "always" and not self.trains_bottom:
            raise refusal(
                f'has protocol "{name}" and no bottom model to train',
                hint=f'name one in [model] bottom, or choose name = "{DEFAULT_PROTOCOL}": it reveals nothing',
            )
        if bottom == "never" and self.trains_bottom:
            other = protocols_that(lambda each: each.bottom != "never")[0]
            raise refusal(
                f'has a bottom model to train, and protocol "{name}" trains none',
                hint=f'write frozen = true in [model], or choose name = "{other}" on both sides',
            )
        if not self.trains_bottom and "train" in self.model_fields_set:
            raise refusal("has [train] and no bottom model to train", hint="leave [train] out")
        return self
