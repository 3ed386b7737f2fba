"""The tables and keys of run files, as immutable objects; both roles side by side.

Unknown keys are refused, so that a misspelt limit is never silently a default. Imported by `config`
only.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, StringConstraints, model_validator

from moiety.config.prepare import PrepareRule
from moiety.config.problems import refusal
from moiety.config.protocols import DEFAULT_PROTOCOL, PROTOCOLS, ProtocolName, protocols_that
from moiety.config.section import Section
from moiety.config.source import TableSource, ledger_name, require_ids
from moiety.config.split import FeatureSplit, LabelSplit
from moiety.config.values import (
    Address,
    AllOrAny,
    AllOrSome,
    ClassWeights,
    Column,
    Columns,
    Count,
    Factory,
    File,
    IdRules,
    Name,
    Option,
    Seconds,
    Widths,
)

SchemeName = Literal["rlwe", "paillier", "paillier-legacy"]
Revealed = Literal["gradients"]


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
        reconnect_deadline: seconds that a session may be without a connection before it stops.
    """

    name: Name
    certificate: File
    listen: Address | None = None
    dial: Address | None = None
    connect_deadline: Seconds = 60.0
    answer_deadline: Seconds = 600.0
    reconnect_deadline: Seconds = 300.0

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
    """`[protocol]`: must equal the peer's.

    Args:
        name: the message flow; `joint` and `acml` can train the data owner's bottom model.
        scheme: the cryptosystem; `paillier-legacy` has keys of 2048 bits.
        reveals: "gradients" says that the data owner may see one gradient for each row.
    """

    name: ProtocolName = DEFAULT_PROTOCOL
    scheme: SchemeName = "rlwe"
    reveals: Revealed | None = None

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


class TableSection(Section):
    """`[table]`: what both roles say of their table.

    Args:
        source: Parquet or CSV file, folder of Parquet files, or { postgresql = "select ..." }.
        id: columns that name a row, by which the parties' tables are aligned; empty: both tables have the
            same rows in the same order.
        normalise: a list of rules for each id column, applied in that order; both parties name the same
            rules, and each gives the format of its own dates. Empty: ids are compared as they are.
        duplicates: of rows with the same id, refuse all or keep the first.
    """

    source: TableSource
    id: Columns = ()
    normalise: IdRules = ()
    duplicates: Literal["refuse", "first"] = "refuse"

    @property
    def id_form(self) -> tuple[tuple[str, ...], ...]:
        """The rules' names for each id column, without the formats of dates: both parties' must be equal."""
        named = self.normalise or ((),) * len(self.id)
        return tuple(tuple(rule.partition(" ")[0] for rule in rules) for rules in named)

    @model_validator(mode="after")
    def _rules_for_each_id(self) -> Self:
        if self.normalise and len(self.normalise) != len(self.id):
            raise refusal(
                f"has normalise for {len(self.normalise)} columns and {len(self.id)} in id",
                hint='write one list of rules for each id column, as in [["trim", "case"], ["date"]]',
            )
        return self

    @model_validator(mode="after")
    def _order_can_be_told(self) -> Self:
        require_ids(self.source, self.id, duplicates=self.duplicates)
        return self


class LabelTable(TableSection):
    """`[table]` of a label owner.

    Args:
        target: the column to predict.
        features: own columns, which stay here and enter the top model beside z; "all" is every column but
            `id` and `target`.
    """

    target: Column
    features: AllOrAny = ()

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        named = [name for name in self.features if name in (self.target, *self.id)]
        if self.features != "all" and named:
            raise refusal(
                f"has {named[0]!r} among its features, and it is the target or an id",
                hint="a model that is given its target learns nothing else: take it out of features",
            )
        return self


class FeatureTable(TableSection):
    """`[table]` of a data owner.

    Args:
        source: Parquet or CSV file.
        id: columns that name a row; empty: both tables are in the same order.
        features: "all" columns but those of `id`, or a list.
        name: what the ledger calls this table; the name of the file if left out. Totals go on under the same
            name, wherever the table moves.
    """

    features: AllOrSome = "all"
    name: Name | None = None


class Task(Section):
    """`[task]`: what the target is.

    Args:
        kind: of the target.
        class_weights: of the loss, in the order of the classes; "balanced" weighs each class by the
            inverse of its training rows.
    """

    kind: Literal["binary", "multiclass", "regression"] = "binary"
    class_weights: ClassWeights | None = None

    @model_validator(mode="after")
    def _classes_to_weigh(self) -> Self:
        if self.kind == "regression" and self.class_weights is not None:
            raise refusal("has class_weights, and a regression has no classes", hint="leave them out")
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
    top: Factory | None = None

    @model_validator(mode="after")
    def _one_top(self) -> Self:
        if self.top is not None and "hidden" in self.model_fields_set:
            raise refusal("has both hidden and top", hint="keep one of the two keys")
        return self


class BottomModel(Section):
    """`[model]` of a data owner: its private network in front of the interactive layer.

    Args:
        bottom: "module:factory" of the network; absent: the prepared columns are the activations.
        frozen: the network is used as the factory makes it, and never trained.
    """

    bottom: Factory | None = None
    frozen: bool = False

    @model_validator(mode="after")
    def _something_to_freeze(self) -> Self:
        if self.frozen and self.bottom is None:
            raise refusal("has frozen and no bottom", hint="name a bottom model, or leave frozen out")
        return self


class LocalTraining(Section):
    """How a party's own networks are trained.

    Args:
        learning_rate: of the optimiser; at the label owner also of the interactive layer.
        optimizer: name of a class in `torch.optim`, or "module:factory" of (parameters, lr).
        optimizer_options: further arguments of the optimiser.
        schedule: name of a class in `torch.optim.lr_scheduler`, or "module:factory" of (optimizer); it
            steps at the end of each epoch.
        schedule_options: further arguments of the schedule.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    optimizer: Annotated[str, StringConstraints(pattern=r"^[\w.]+(:\w+)?\z")] = "adam"
    optimizer_options: dict[str, Option] = Field(default_factory=dict)
    schedule: Annotated[str, StringConstraints(pattern=r"^[\w.]+(:\w+)?\z")] | None = None
    schedule_options: dict[str, Option] = Field(default_factory=dict)


class EarlyStopping(Section):
    """`early_stopping` of `[train]`: stop once the metric has not gained for some epochs.

    Args:
        patience: epochs in a row without a gain after which the training stops.
        least_gain: a smaller improvement over the best epoch so far is none.
    """

    patience: Annotated[int, Field(ge=1, le=10_000)] = 3
    least_gain: Annotated[float, Field(ge=0)] = 0.0


class Training(LocalTraining):
    """`[train]` of a label owner: proposed to the peer, bounded by its policy.

    Args:
        epochs: passes over the training rows; with a rule to stop earlier, the most there may be.
        batch: rows of one step.
        update: rule of the interactive layer.
        metric: of the validation rows, by which epochs are compared; the task's first if left out.
        early_stopping: stop when the metric no longer gains. The data owner then learns when.
        keep: the epoch whose weights are saved; "best" if left out where early_stopping is there.
        time_limit: seconds after which no further epoch begins.
        steps_limit: no epoch begins that would pass it.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    batch: Annotated[int, Field(ge=1, le=2**20)] = 1024
    update: Literal["adaptive", "sgd"] = "adaptive"
    metric: Annotated[str, Field(min_length=1)] | None = None
    early_stopping: EarlyStopping | None = None
    keep: Literal["last", "best"] | None = None
    time_limit: Annotated[float, Field(gt=0, le=31 * 86_400)] | None = None
    steps_limit: Annotated[int, Field(ge=1)] | None = None

    @property
    def keeps_best(self) -> bool:
        """Whether the best epoch's weights are saved, and not the last one's."""
        return self.keep == "best" or (self.keep is None and self.early_stopping is not None)

    @property
    def may_stop(self) -> bool:
        """Whether the training may end before the agreed epochs: that has to be in the contract."""
        limits = (self.early_stopping, self.time_limit, self.steps_limit)
        return any(limit is not None for limit in limits)


class PolicyLimits(Section):
    """`[policy]`: what the data owner allows this peer on this table, over all runs.

    Args:
        released_z_per_row: values of z released for any one row.
        predictions: rows scored by `predict`.
        smallest_batch: rows of the smallest training batch.
        wide_layer: allow out_features >= in_features, which lets the label owner solve for the
            features.
        early_stopping: allow a training to end before the agreed epochs; when it ends depends on labels.
        steps: training steps; no limit of their own if left out.
        runs: trainings that are begun; no limit of their own if left out.
        protocols: message flows; the one under [protocol] if left out.
        schemes: cryptosystems; the one under [protocol] if left out.
        reveals: what may be shown to this party of the peer's; what [protocol] says if left out.
        ledger: folder of the totals; "ledger" beside the run file if left out.
    """

    released_z_per_row: Count = 640
    predictions: Count = 100_000
    smallest_batch: Annotated[int, Field(ge=1, le=2**20)] = 256
    wide_layer: bool = False
    early_stopping: bool = True
    steps: Count | None = None
    runs: Count | None = None
    protocols: Annotated[tuple[ProtocolName, ...], Field(strict=False, min_length=1)] | None = None
    schemes: Annotated[tuple[SchemeName, ...], Field(strict=False, min_length=1)] | None = None
    reveals: Annotated[tuple[Revealed, ...], Field(strict=False)] | None = None
    ledger: File | None = None


class Checkpointing(Section):
    """`[checkpoint]`: what a party keeps of an unfinished run.

    Args:
        keep: checkpoints of a run that stay; two at least, because a peer may hold the one before.
        passphrase: name of the environment variable whose value encrypts them; absent: not encrypted.
    """

    keep: Annotated[int, Field(ge=2, le=64)] = 3
    passphrase: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\z")] | None = None


class LabelCheckpointing(Checkpointing):
    """`[checkpoint]` of a label owner, who says when both write one.

    Args:
        every: "60 s", "100 steps", "epoch" or "never".
    """

    every: Annotated[str, StringConstraints(pattern=r"^(epoch|never|[1-9][0-9]{0,8} (s|steps))\z")] = "60 s"


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
    """A label owner's run file; `prepare` names the rules of own columns, as in a data owner's."""

    role: Literal["label-owner"]
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
    """A data owner's run file; `prepare` names a column's rule where the usual one does not suit."""

    role: Literal["data-owner"]
    table: FeatureTable
    prepare: dict[Column, PrepareRule] = Field(default_factory=dict)
    split: FeatureSplit = FeatureSplit()
    model: BottomModel = BottomModel()
    train: LocalTraining = LocalTraining()
    policy: PolicyLimits = PolicyLimits()
    checkpoint: Checkpointing = Checkpointing()

    @property
    def limits(self) -> dict[str, Any]:
        """The policy with everything said: what is left out is what [protocol] names."""
        chosen = self.protocol
        limits = self.policy.model_dump(exclude={"ledger"})
        usual = {
            "protocols": (chosen.name,),
            "schemes": (chosen.scheme,),
            "reveals": (chosen.reveals,) if chosen.reveals else (),
        }
        return limits | {name: value for name, value in usual.items() if limits[name] is None}

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

    @model_validator(mode="after")
    def _chooses_what_it_allows(self) -> Self:
        limits = self.limits
        chosen: dict[str, str] = {"protocols": self.protocol.name, "schemes": self.protocol.scheme}
        chosen |= {"reveals": self.protocol.reveals} if self.protocol.reveals else {}
        for name, choice in chosen.items():
            if choice not in limits[name]:
                raise refusal(
                    f'has "{choice}" under [protocol], and policy.{name} does not allow it',
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
