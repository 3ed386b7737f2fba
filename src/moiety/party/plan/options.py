"""What the two parties would agree on, from one party's run file and options for what the peer decides.

The label owner knows rows, units, batch and epochs, and not the width of the peer's table; the data owner
knows rows and width, and nothing of the training. An option replaces what the run file says. Imported by
`plan`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeVar, cast

import numpy as np
from pydantic import ValidationError

from moiety.config import AnyRun, DataOwnerRun, LabelOwnerRun, Policy, SplitBy, Totals
from moiety.config.protocols import PROTOCOLS
from moiety.contract.assignment import TEST as TEST_ROWS
from moiety.contract.assignment import TRAINING, Assignment
from moiety.contract.assignment import VALIDATION as VALIDATION_ROWS
from moiety.contract.contract import Contract
from moiety.contract.stated import common, proposed
from moiety.contract.terms import Assigned, DataOwnerTerms, LabelOwnerTerms
from moiety.data.look import look
from moiety.data.table import Table
from moiety.errors import ConfigError
from moiety.party.alignment import own_assignment
from moiety.party.data_owner.features import open_features, released_before, wanted_features, width_of
from moiety.party.label_owner.features import read_labels

VALIDATION: Final = 0.1
TEST: Final = 0.2
"""What a label owner's run file says where it says nothing."""

_ANY_DIGEST: Final = bytes(32).hex()
_OPTIONS: Final = {"out_features": "units"}
"""Fields of the terms that have another name on the command line."""
Activations = Literal["fixed", "trained"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line adds to a run file, and replaces in it.

    Args:
        rows: of the aligned table; where in_features are given too, no table is read.
        in_features: the data owner's activations.
        units: out_features of the interactive layer.
        batch: rows of one step.
        epochs: passes over the training rows.
        validation: fraction of the rows.
        test: fraction of the rows.
        activations: "trained" where the data owner trains a bottom model, else "fixed".
    """

    rows: int | None = None
    in_features: int | None = None
    units: int | None = None
    batch: int | None = None
    epochs: int | None = None
    validation: float | None = None
    test: float | None = None
    activations: str | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """What decides the cost of a training, and what had to be assumed of it, in sentences."""

    rows: int
    in_features: int
    units: int
    batch: int
    epochs: int
    validation: float
    test: float
    activations: Activations
    split: SplitBy = "drawn"
    assignment: Assignment | None = None
    policy: Policy = field(default_factory=Policy)
    before: Totals = field(default_factory=Totals)
    assumed: tuple[str, ...] = ()


def training_of(settings: AnyRun, options: Options) -> Training:
    """Put a run file and the options together.

    Raises:
        ConfigError: an option is missing.
        DataError: the table cannot be used.
    """
    if isinstance(settings, LabelOwnerRun):
        return _of_label_owner(settings, options)
    return _of_data_owner(settings, options)


def contract_of(settings: AnyRun, training: Training) -> Contract:
    """Return what the parties would agree on, but for nonces and digests, which are of the same length.

    Raises:
        ConfigError: a number is out of its range.
        ParameterError: no parameters hold the products.
    """
    both = {
        **common(settings, purpose="train"),
        "rows": training.rows,
        "order_digest": _ANY_DIGEST,
        "nonce": _ANY_DIGEST,
    }
    proposal = proposed(settings, purpose="train") if isinstance(settings, LabelOwnerRun) else {}
    if training.in_features < 1:
        raise ConfigError("--in-features is out of its range", hint="choose a number greater than 0")
    try:
        label_owner = LabelOwnerTerms.model_validate({**both, **proposal, **_proposed(training)})
        data_owner = DataOwnerTerms.model_validate({**both, **_answered(training)})
    except ValidationError as error:
        raise _out_of_range(error) from None
    agreed = Contract(label_owner=label_owner, data_owner=data_owner, assignment=training.assignment)
    return replace(agreed, data_owner=data_owner.model_copy(update={"parameters": agreed.parameters}))


def _of_label_owner(settings: LabelOwnerRun, options: Options) -> Training:
    table = None if options.rows is not None else read_labels(settings)
    rows = options.rows if table is None else table.rows
    assert rows is not None
    assumed = ["the data owner's policy is the usual one, and nothing was released before"]
    fractions = {
        "validation": _given(options.validation, lambda: settings.split.validation),
        "test": _given(options.test, lambda: settings.split.test),
    }
    return Training(
        rows=rows,
        in_features=_needed(options.in_features, "in-features", "the number of its prepared columns"),
        units=_given(options.units, lambda: settings.model.units),
        batch=_given(options.batch, lambda: settings.train.batch),
        epochs=_given(options.epochs, lambda: settings.train.epochs),
        validation=fractions["validation"],
        test=fractions["test"],
        activations=_activations(settings, options),
        split=settings.split.decided_by,
        assignment=_assignment(settings, options, table, rows, fractions, assumed),
        policy=Policy.model_validate(settings.protocol.allowed),
        assumed=tuple(assumed),
    )


def _of_data_owner(settings: DataOwnerRun, options: Options) -> Training:
    assumed: list[str] = []
    rows, in_features, table = _table_shape(settings, options, assumed)
    fractions = {
        name: _given(value, _saying(f"--{name} {usual}, as in a new run file", usual, assumed))
        for name, value, usual in (
            ("validation", options.validation, VALIDATION),
            ("test", options.test, TEST),
        )
    }
    return Training(
        rows=rows,
        in_features=in_features,
        units=_needed(options.units, "units", "the units of the interactive layer"),
        batch=_needed(options.batch, "batch", "the rows of one step"),
        epochs=_needed(options.epochs, "epochs", "the number of passes"),
        validation=fractions["validation"],
        test=fractions["test"],
        activations=_activations(settings, options),
        split=settings.split.decided_by,
        assignment=_assignment(settings, options, table, rows, fractions, assumed),
        policy=settings.limits,
        before=released_before(settings),
        assumed=tuple(assumed),
    )


def _given(option: T | None, otherwise: Callable[[], T]) -> T:
    return otherwise() if option is None else option


def _saying(sentence: str, value: T, assumed: list[str]) -> Callable[[], T]:
    """Return a function that gives a usual value, and notes that it had to be assumed."""

    def say() -> T:
        assumed.append(sentence)
        return value

    return say


def _needed(option: int | None, name: str, meaning: str) -> int:
    if option is None:
        raise ConfigError(
            f"--{name} is missing: only the peer's run file has it",
            hint=f"ask the peer for {meaning}, or try a number: --{name} N",
        )
    return option


def _activations(settings: AnyRun, options: Options) -> Activations:
    """Return whether activations change: the protocol or the data owner's run file says it."""
    name = settings.protocol.name
    follows = {"never": "fixed", "always": "trained"}.get(PROTOCOLS[name].bottom)
    known = follows
    if known is None and isinstance(settings, DataOwnerRun):
        known = "trained" if settings.trains_bottom else "fixed"
    chosen = known if options.activations is None else options.activations
    if chosen is None:
        raise ConfigError(
            f"--activations is missing: in {name} only the data owner knows whether it trains a bottom model",
            hint="write --activations trained if it does, else --activations fixed",
        )
    if chosen not in ("fixed", "trained") or (follows is not None and chosen != follows):
        raise ConfigError(
            f"--activations cannot be that with protocol {name}",
            hint=f"leave it out, or write --activations {known or 'fixed'}",
        )
    return cast("Activations", chosen)


def _assignment(
    settings: AnyRun,
    options: Options,
    table: Table | None,
    rows: int,
    fractions: Mapping[str, float],
    assumed: list[str],
) -> Assignment | None:
    """Assign rows by an own column, or as many as the fractions say where that cannot be told."""
    if settings.split.decided_by == "drawn":
        return None
    as_configured = options.validation is None and options.test is None
    if settings.split.by is not None and as_configured and table is not None and rows == table.rows:
        return own_assignment(settings.split, table)
    assumed.append("the column that splits the rows gives validation and test rows by the fractions")
    test, validation = (round(fractions[name] * rows) for name in ("test", "validation"))
    splits_N = np.full(rows, TRAINING, dtype=np.uint8)
    splits_N[: test + validation] = VALIDATION_ROWS
    splits_N[:test] = TEST_ROWS
    return Assignment.of(splits_N)


def _table_shape(
    settings: DataOwnerRun, options: Options, assumed: list[str]
) -> tuple[int, int, Table | None]:
    if options.rows is not None and options.in_features is not None:
        return options.rows, options.in_features, None
    table = open_features(settings)
    inputs = look(table, wanted_features(settings, table))
    rows = _given(options.rows, lambda: table.rows)
    if options.in_features is not None:
        return rows, options.in_features, table
    if settings.model.bottom is None:
        assumed.append("no category is missing from the training rows: each that is takes an input away")
    return rows, width_of(settings, inputs), table


def _proposed(training: Training) -> dict[str, object]:
    return {
        "out_features": training.units,
        "epochs": training.epochs,
        "batch": training.batch,
        "validation": training.validation if training.split == "drawn" else 0.0,
        "test": training.test if training.split == "drawn" else 0.0,
        "assigned": _stated_by("label-owner", training),
    }


def _stated_by(owner: SplitBy, training: Training) -> Assigned | None:
    if training.split != owner or training.assignment is None:
        return None
    return Assigned.of(training.assignment)


def _answered(training: Training) -> dict[str, object]:
    return {
        "in_features": training.in_features,
        "activations": training.activations,
        "assigned": _stated_by("data-owner", training),
        "policy": training.policy,
        "before": training.before,
    }


def _out_of_range(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    field_name = str(first["loc"][0])
    option = _OPTIONS.get(field_name, field_name).replace("_", "-")
    expected = first["msg"].removeprefix("Input should be ")
    return ConfigError(f"--{option} is out of its range", hint=f"choose a value that is {expected}")
