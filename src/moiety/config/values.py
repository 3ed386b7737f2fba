"""The kinds of value a run file holds, each with its check. Imported by `config` only."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from moiety.config.problems import refusal

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_LARGEST_PORT: Final = 65535
ID_RULES: Final = ("trim", "case", "unicode", "alphanumeric", "digits", "integer", "date")
"""What can be done to the texts of an id column before they are compared."""


def _folder(info: ValidationInfo) -> Path:
    context: dict[str, Path] = info.context or {}
    return context["folder"]


def resolved(value: Any, info: ValidationInfo) -> Path:
    """Take a path; a relative one counts from the run file's folder.

    Raises:
        PydanticCustomError: it is none.
    """
    if not isinstance(value, str) or not value or "\0" in value:
        raise refusal("is not a path", hint="write the path of a file in quotes")
    return Path(_folder(info), value)


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[2]) > _LARGEST_PORT:
        raise refusal(
            "is not an address", hint='write "host:port", an IPv6 address in brackets: "[::1]:7443"'
        )
    return value


def _id_rule(name: str) -> str:
    word, _, given = name.partition(" ")
    if word not in ID_RULES or (given and word != "date"):
        raise refusal(
            "has an unknown rule",
            hint=f'choose from {", ".join(ID_RULES)}; a date may have its format: "date %d.%m.%Y"',
        )
    if given and not _reads_back(given):
        raise refusal(
            "has a date whose format does not give year, month and day",
            hint='write a format of strptime, such as "date %d.%m.%Y"',
        )
    return name


def _reads_back(form: str) -> bool:
    """Tell whether a format loses nothing of a date."""
    day = datetime(1987, 11, 29, tzinfo=UTC)
    try:
        return datetime.strptime(day.strftime(form), form).date() == day.date()  # noqa: DTZ007 - a date only
    except ValueError:
        return False


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise refusal("names a column twice", hint="name each column once")
    return names


def either(hint: str) -> WrapValidator:
    """Say once what a value of several kinds may be, instead of what each kind has against it."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            told = (each["ctx"] for each in error.errors() if each["type"] == "refused")
            context = next(told, {"problem": "cannot be used", "hint": hint})
            raise refusal(context["problem"], hint=context["hint"]) from error

    return WrapValidator(check)


def _form(words: str) -> WithJsonSchema:
    """Say in the schema how a value is written; docs/run-file.md shows it."""
    return WithJsonSchema({"format": words})


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\z"),
    _form("name: up to 64 of a-z, 0-9, dot, hyphen, underscore"),
]
File = Annotated[Path, PlainValidator(resolved), _form("path")]
Address = Annotated[str, AfterValidator(_address), _form('"host:port"')]
SchemeName = Literal["rlwe", "paillier", "paillier-legacy"]
Revealed = Literal["gradients"]
"""What a run may show the data owner beyond what is public: gradients give the labels away."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Column = Annotated[str, Field(min_length=1)]
# TOML has lists only; a tuple cannot be changed afterwards.
Columns = Annotated[tuple[Column, ...], Field(strict=False), AfterValidator(_distinct)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=16_384)], ...], Field(strict=False)]
Fraction = Annotated[float, Field(ge=0, le=0.9)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Factory = Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+\z"), _form('"module:function"')]
"""A Python function by its name."""
ClassOrFactory = Annotated[
    str, StringConstraints(pattern=r"^[\w.]+(:\w+)?\z"), _form('name of a class, or "module:function"')
]
EnvironmentVariable = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\z"), _form("name of a variable")
]
Interval = Annotated[
    str,
    StringConstraints(pattern=r"^(epoch|never|[1-9][0-9]{0,8} (s|steps))\z"),
    _form('"60 s", "100 steps", "epoch" or "never"'),
]
_Weights = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=2, max_length=4096)
]
_Numbers = Annotated[tuple[float, ...], Field(strict=False, max_length=1024)]
ClassWeights = Annotated[
    Literal["balanced"] | _Weights,
    either('write "balanced", or a list with one number above 0 for each class'),
]
Option = Annotated[
    bool | int | float | str | _Numbers,
    either("write a number, a text in quotes, true, false, or a list of numbers"),
    _form("number, text, true, false or list of numbers"),
]
AllOrSome = Annotated[
    Literal["all"] | Annotated[Columns, Field(min_length=1)],
    either('write "all", or a list of column names in quotes'),
]
AllOrAny = Annotated[
    Literal["all"] | Columns,
    either('write "all", or a list of column names in quotes, [] for none'),
]
_IdRule = Annotated[
    str, AfterValidator(_id_rule), _form(", ".join(f'"{rule}"' for rule in ID_RULES) + ' or "date %d.%m.%Y"')
]
IdRules = Annotated[
    tuple[Annotated[tuple[_IdRule, ...], Field(strict=False, max_length=16)], ...], Field(strict=False)
]
"""Rules for each id column."""
