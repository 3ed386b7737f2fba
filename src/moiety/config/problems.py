"""Says what is wrong with a run file in the reader's words. Imported by `config` only."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from moiety.errors import ConfigError

_EXPECTED: Final = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
}


_SHORT_WORDS: Final = re.compile(r"[\w.:/ -]{0,40}")


def refusal(problem: str, *, hint: str) -> PydanticCustomError:
    """Make what a validator raises; `translated` puts the key in front of the problem."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "hint": hint})


def translated(error: ValidationError, *, model: type[BaseModel], path: Path) -> ConfigError:
    """Turn the most telling complaint into our error: a misspelt key explains a missing one."""
    details = error.errors(include_url=False)
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    problem, hint = _described(first, model=model)
    key = _key(first["loc"])
    return ConfigError(f"{path}: {key} {problem}" if key else f"{path} {problem}", hint=hint)


def _described(detail: ErrorDetails, *, model: type[BaseModel]) -> tuple[str, str]:
    kind, context, key = detail["type"], detail.get("ctx", {}), _key(detail["loc"])
    if kind == "refused":
        return context["problem"], context["hint"]
    if kind == "missing":
        return "is missing", f"add {key} to the run file"
    if kind == "extra_forbidden":
        return "is not a known key", _nearest(detail["loc"], model=model)
    found = shown(detail["input"])
    if kind == "literal_error":
        return f"is {found}", f"supported: {context['expected']}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"].removesuffix(r"\z")
        return f"is {found}, which is not allowed here", f"match {pattern}"
    expected = _EXPECTED.get(kind, detail["msg"].removeprefix("Input should be "))
    return f"is {found}", f"{key} should be {expected}"


def _nearest(location: tuple[int | str, ...], *, model: type[BaseModel]) -> str:
    known = _known_keys(location[:-1], model=model)
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"


def _known_keys(location: tuple[int | str, ...], *, model: type[BaseModel]) -> list[str]:
    names = iter([part for part in location if isinstance(part, str)])
    for name in names:
        annotation = model.model_fields[name].annotation
        kinds: tuple[object, ...] = get_args(annotation) or (annotation,)
        entries = get_origin(annotation) is dict
        if entries:
            next(names, None)  # the key of an entry, which may be any text
        model = cast("type[BaseModel]", _plain(kinds[-1 if entries else 0]))
    return list(model.model_fields)


def _plain(annotation: object) -> object:
    """Take what is annotated."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _key(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:  # noqa: PLR0911 - one line for each kind of value
    """Name what was found: numbers and short words; of anything else only what it is."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() if _SHORT_WORDS.fullmatch(value):
            return f'"{value}"'
        case str():
            return "another text"
        case list():
            return "a list"
        case dict():
            return "a table"
    return f"a {type(value).__name__}"
