"""`[task]`, `[model]` and `[train]` of both roles. Imported by `config` only."""

from typing import Literal, Self

from pydantic import Field, model_validator

from moiety.config.problems import refusal
from moiety.config.section import Section
from moiety.config.values import ClassOrFactory, ClassWeights, Factory, Option, Widths


class Task(Section):
    """What the target is."""

    kind: Literal["binary", "multiclass", "regression"] = Field(
        default="binary", description="Two classes, several classes, or a number."
    )
    class_weights: ClassWeights | None = Field(
        default=None,
        description='Weight of each class in the loss, in ascending order of the classes. "balanced" weighs '
        "each class by the inverse of its training rows. All weigh the same if left out.",
    )

    @model_validator(mode="after")
    def _classes_to_weigh(self) -> Self:
        if self.kind == "regression" and self.class_weights is not None:
            raise refusal("has class_weights, and a regression has no classes", hint="leave them out")
        return self


class ModelShape(Section):
    """The interactive layer and the top model behind it."""

    units: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="Outputs of the interactive layer: values of z for each row and pass. The usual policy "
        "demands fewer than the data owner has inputs.",
    )
    hidden: Widths = Field(
        default=(32,),
        description="Widths of the hidden layers of the top model; an empty list is one linear layer.",
    )
    top: Factory | None = Field(
        default=None, description="A function that makes a top model of your own, instead of `hidden`."
    )

    @model_validator(mode="after")
    def _one_top(self) -> Self:
        if self.top is not None and "hidden" in self.model_fields_set:
            raise refusal("has both hidden and top", hint="keep one of the two keys")
        return self


class BottomModel(Section):
    """The data owner's private network in front of the interactive layer."""

    bottom: Factory | None = Field(
        default=None,
        description="A function that makes the network. The interactive layer takes the prepared columns if "
        "left out.",
    )
    frozen: bool = Field(
        default=False, description="Whether the network is used as the function makes it, and never trained."
    )

    @model_validator(mode="after")
    def _something_to_freeze(self) -> Self:
        if self.frozen and self.bottom is None:
            raise refusal("has frozen and no bottom", hint="name a bottom model, or leave frozen out")
        return self


class LocalTraining(Section):
    """How a party's own network is trained."""

    learning_rate: float = Field(
        default=0.01,
        gt=0,
        description="Learning rate of the optimiser; at the label owner, of the interactive layer as well.",
    )
    optimizer: ClassOrFactory = Field(
        default="adam",
        description="A class of torch.optim, or a function of (parameters, lr).",
    )
    optimizer_options: dict[str, Option] = Field(
        default_factory=dict, description="Further arguments of the optimiser."
    )
    schedule: ClassOrFactory | None = Field(
        default=None,
        description="A class of torch.optim.lr_scheduler, or a function of (optimizer). It steps at the end "
        "of each epoch. The learning rate stays as it is if left out.",
    )
    schedule_options: dict[str, Option] = Field(
        default_factory=dict, description="Further arguments of the schedule."
    )


class EarlyStopping(Section):
    """Stops a training once the metric no longer gains."""

    patience: int = Field(
        default=3,
        ge=1,
        le=10_000,
        description="Epochs in a row without a gain after which the training stops.",
    )
    least_gain: float = Field(
        default=0.0,
        ge=0,
        description="Smallest improvement over the best epoch so far that counts, in the metric's own unit.",
    )


class Training(LocalTraining):
    """How both train: proposed to the data owner, bounded by its policy."""

    epochs: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Passes over the training rows; the maximum where the training may stop early.",
    )
    batch: int = Field(default=1024, ge=1, le=2**20, description="Rows of one step.")
    update: Literal["adaptive", "sgd"] = Field(
        default="adaptive",
        description='How the interactive layer is moved: "adaptive" scales the gradient of each unit by its '
        'root mean square, "sgd" does not.',
    )
    metric: str | None = Field(
        default=None,
        min_length=1,
        description="The metric of the validation set by which epochs are compared: AUC, KS, accuracy or "
        "RMSE, as the task has it. The task's first if left out.",
    )
    early_stopping: EarlyStopping | None = Field(
        default=None,
        description="Stop when the metric no longer gains. The data owner then learns when, which depends on "
        "labels.",
    )
    keep: Literal["last", "best"] | None = Field(
        default=None,
        description='The epoch whose weights are saved. If left out: "best" with early_stopping, "last" '
        "without.",
    )
    time_limit: float | None = Field(
        default=None, gt=0, le=31 * 86_400, description="Seconds after which no further epoch begins."
    )
    steps_limit: int | None = Field(
        default=None, ge=1, description="Training steps; no epoch begins that would exceed them."
    )

    @property
    def keeps_best(self) -> bool:
        """Whether the best epoch's weights are saved, and not the last one's."""
        return self.keep == "best" or (self.keep is None and self.early_stopping is not None)

    @property
    def may_stop(self) -> bool:
        """Whether the training may end before the agreed epochs: that has to be in the contract."""
        limits = (self.early_stopping, self.time_limit, self.steps_limit)
        return any(limit is not None for limit in limits)
