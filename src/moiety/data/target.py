"""The target column: what the top model is trained to predict, as numbers.

Classes become indices, a regression target is standardised by the training rows. Messages give
counts, never values. Imported by the label owner's loops and the demo.

Shapes: N rows.
"""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from moiety.data.table import Column
from moiety.errors import CheckpointCorruptError, DataError, ParameterError

TargetKind = Literal["binary", "multiclass", "regression"]
TargetArray = NDArray[np.float32] | NDArray[np.int64]

BINARY_CLASSES = 2
MAX_CLASSES = 1024  # more distinct values than this are measurements or ids, not classes


class Target(BaseModel):
    """How one target column becomes numbers.

    Args:
        version: of the saved form.
        name: the column.
        kind: the task.
        classes: the distinct values, ascending; none for a regression.
        mean: of the training rows, for a regression.
        scale: standard deviation of the training rows, for a regression.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    name: str
    kind: TargetKind
    classes: Annotated[tuple[str, ...] | tuple[FiniteFloat, ...], Field(repr=False)] = ()
    mean: Annotated[FiniteFloat, Field(repr=False)] = 0.0
    scale: Annotated[PositiveFloat, Field(repr=False, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if not _fits(self.kind, len(self.classes)) or len(set(self.classes)) != len(self.classes):
            raise ValueError("the number of classes does not fit the kind")
        return self

    @classmethod
    def fit(cls, values_N: Column, *, name: str, kind: TargetKind, rows: NDArray[np.int64]) -> Self:
        """Learn the classes from all rows, or mean and scale from the training rows.

        Args:
            values_N: the target column.
            name: its name, for messages.
            kind: the task; of "binary" the larger, or alphabetically later, class is 1.
            rows: indices of the training rows.

        Returns:
            The fitted target.

        Raises:
            DataError: values are missing or infinite, their number of distinct ones does not fit
                the task, or a regression's target is text.
        """
        _require_complete(values_N, name)
        distinct = sorted(set(values_N.tolist()))
        if kind == "regression":
            return cls._fit_regression(values_N, name, len(distinct), rows)
        if not _fits(kind, len(distinct)):
            needs = "exactly 2" if kind == "binary" else f"2 to {MAX_CLASSES}"
            raise DataError(
                f"target {name!r} has {len(distinct)} distinct values; a {kind} task needs {needs}",
                hint=_other_kind(len(distinct), text=_is_text(values_N)),
            )
        return cls(name=name, kind=kind, classes=tuple(distinct))

    @classmethod
    def _fit_regression(cls, values_N: Column, name: str, distinct: int, rows: NDArray[np.int64]) -> Self:
        if _is_text(values_N):
            raise DataError(
                f"target {name!r} holds text with {distinct} distinct values; "
                "a regression task needs numbers",
                hint=_other_kind(distinct, text=True),
            )
        training = values_N[rows].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            mean, scale = (float(training.mean()), float(training.std())) if len(rows) else (0.0, 0.0)
        if len(set(training.tolist())) < 2 or not 0 < scale < np.inf:  # noqa: PLR2004
            raise DataError(
                f"target {name!r} has {len(set(training.tolist()))} distinct values in the "
                f"{len(rows)} training rows, and cannot be standardised for a regression task",
                hint="take a target that varies, within the range of ordinary numbers",
            )
        return cls(name=name, kind="regression", mean=mean, scale=scale)

    @property
    def outputs(self) -> int:
        """How many numbers the top model gives per row."""
        return len(self.classes) if self.kind == "multiclass" else 1

    def transform(self, values_N: Column) -> TargetArray:
        """Turn target values into what the loss takes.

        Args:
            values_N: the target column.

        Returns:
            Shape (N,): float32 of 0 and 1 for "binary", int64 class indices for "multiclass",
            float32 standardised values for "regression".

        Raises:
            DataError: values are missing, infinite, or of a class that was not there when fitted.
        """
        _require_complete(values_N, self.name)
        if self.kind == "regression":
            return self._standardise(values_N)
        index = {value: number for number, value in enumerate(self.classes)}
        found = np.array([index.get(value, -1) for value in values_N.tolist()], dtype=np.int64)
        unknown = int(np.count_nonzero(found < 0))
        if unknown:
            raise DataError(
                f"target {self.name!r} has {unknown} rows of a class not there when fitted",
                hint="remove these rows, or train again with a table that has all classes",
            )
        return found.astype(np.float32) if self.kind == "binary" else found

    def _standardise(self, values_N: Column) -> NDArray[np.float32]:
        if _is_text(values_N):
            raise DataError(
                f"target {self.name!r} holds text where it held numbers in training",
                hint="write the column in both tables in the same way",
            )
        return ((values_N.astype(np.float64) - self.mean) / self.scale).astype(np.float32)

    def restore(self, standardised_N: NDArray[Any]) -> NDArray[np.float64]:
        """Turn outputs of a regression back into the unit of the target.

        Args:
            standardised_N: outputs of the top model, shape (N,).

        Returns:
            float64, shape (N,).

        Raises:
            ParameterError: the task is no regression.
        """
        if self.kind != "regression":
            raise ParameterError(
                f"a {self.kind} target is not standardised",
                hint="take the names of its classes from `classes`",
            )
        restored: NDArray[np.float64] = standardised_N.astype(np.float64) * self.scale + self.mean
        return restored

    def to_json(self) -> str:
        """Save as JSON; floats come back exactly.

        Leaks:
            The text holds the classes or the mean and scale: it stays with the label owner.
        """
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Load what `to_json` saved.

        Raises:
            CheckpointCorruptError: the text is not a saved target.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise CheckpointCorruptError(
                "the saved target is damaged", hint="take it from a backup, or train again"
            ) from error


def _fits(kind: TargetKind, classes: int) -> bool:
    """Tell whether a task can have so many classes; a regression has none."""
    if kind == "multiclass":
        return BINARY_CLASSES <= classes <= MAX_CLASSES
    return classes == (BINARY_CLASSES if kind == "binary" else 0)


def _other_kind(distinct: int, *, text: bool) -> str:
    """Say which task would suit."""
    if distinct == BINARY_CLASSES:
        return 'set kind = "binary" under [task]'
    if BINARY_CLASSES < distinct <= MAX_CLASSES:
        return 'set kind = "multiclass" under [task], or choose another target'
    if distinct > MAX_CLASSES and not text:
        return 'set kind = "regression" under [task], or choose another target'
    return "choose another target under [table]"


def _require_complete(values_N: Column, name: str) -> None:
    bad = _count_unusable(values_N)
    if bad:
        raise DataError(
            f"target {name!r} has {bad} missing or infinite values in {len(values_N)} rows",
            hint="fill them in, or remove these rows",
        )


def _is_text(values_N: Column) -> bool:
    return values_N.dtype == np.object_


def _count_unusable(values_N: Column) -> int:
    """Count missing and infinite values."""
    if _is_text(values_N):
        return sum(value is None for value in values_N)
    return int(np.count_nonzero(~np.isfinite(values_N.astype(np.float64))))
