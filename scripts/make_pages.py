"""`python -m scripts.make_pages` writes docs/commands.md and docs/run-file.md from the code.

Help texts are those of the command line, descriptions those of the models in `moiety.config`; a test keeps
both pages equal to them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import typer
from pydantic import BaseModel

from moiety.cli.app import app
from moiety.config import DataOwnerRun, LabelOwnerRun
from moiety.errors import MoietyError
from moiety.net.signals import INTERRUPTED, TERMINATED
from moiety.party.setup import RUN_FILE, initialise

DOCS: Final = Path(__file__).parents[1] / "docs"
WRITTEN: Final = "This page is written by `python -m scripts.make_pages`, from the code."
ROLES: Final[Mapping[str, type[BaseModel]]] = {"label owner": LabelOwnerRun, "data owner": DataOwnerRun}
_RUN_FILE_IN_SHORT: Final = (
    f"{WRITTEN} A run file is TOML, one for each party and run. `moiety init` writes one to fill in, shown "
    "at the end. Unknown keys are refused. Relative paths start at the folder of the run file."
)
_KINDS: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}

Schema = Mapping[str, Any]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Return the lines of a Markdown table, with an empty line after it.

    >>> table(["a", "b"], [["1", "2|3"]])[2]
    '| 1 | 2\\|3 |'
    """
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [heading, *rows]]
    return [lines[0], "|" + "---|" * len(heading), *lines[1:], ""]


def commands_page() -> str:
    """Return docs/commands.md."""
    group = typer.main.get_group(app)
    lines = [
        "# Commands",
        "",
        f"{WRITTEN} `moiety COMMAND --help` prints the same.",
        "",
        group.help or "",
        "",
    ]
    lines += ["Before the command:", "", *_parameters(group)]
    for name, command in group.commands.items():
        lines += [f"## moiety {name}", "", command.help or "", "", *_parameters(command)]
    lines += ["## Exit codes", "", "An error ends with `error:`, `hint:` and one of these codes.", ""]
    return "\n".join([*lines, *table(["code", "meaning"], _exit_codes())])


def _parameters(command: Any) -> list[str]:
    rows = []
    for each in command.params:
        option = each.param_type_name == "option"
        name = each.opts[0] if option else each.name.upper()
        default = "" if each.default is None or each.default is False else f"`{each.default}`"
        variable = f" Environment variable: `{each.envvar}`." if each.envvar else ""
        rows.append([f"`{name}`", each.help + variable, "required" if each.required else default])
    return table(["argument or option", "meaning", "default"], rows)


def _exit_codes() -> list[list[str]]:
    meanings: dict[int, str] = {0: "The command has done its work."}
    for kind in sorted(MoietyError.__subclasses__(), key=lambda each: each.exit_code):
        sentence = (kind.__doc__ or "").splitlines()[0]
        meanings[kind.exit_code] = f"{meanings.get(kind.exit_code, '')} {sentence}".strip()
    meanings |= {INTERRUPTED: "Interrupted by Ctrl-C.", TERMINATED: "Ended by SIGTERM."}
    return [[str(code), meaning] for code, meaning in meanings.items()]


def run_file_page() -> str:
    """Return docs/run-file.md."""
    pages = {role: dict(_sections(model.model_json_schema())) for role, model in ROLES.items()}
    one, other = pages.values()
    common = {title: lines for title, lines in one.items() if other.get(title) == lines}
    lines = [
        "# Run file",
        "",
        _RUN_FILE_IN_SHORT,
        "",
        "## Both sides",
        "",
        *_joined(common),
    ]
    for role, sections in pages.items():
        own = {title: text for title, text in sections.items() if title not in common}
        lines += [f"## {role.capitalize()}", "", *_joined(own)]
    for role in ROLES:
        lines += [f"## What `moiety init` writes for a {role}", "", "```toml", *_template(role), "```", ""]
    return "\n".join(lines)


def _joined(sections: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for title, lines in sections.items():
        yield from (f"### {title}", "", *lines)


def _template(role: str) -> list[str]:
    with TemporaryDirectory() as folder:
        initialise(Path(folder), role=role.replace(" ", "-"), name="name", run="run-1")
        return (Path(folder) / RUN_FILE).read_text(encoding="utf-8").rstrip().splitlines()


def _sections(schema: Schema) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the lines of each table of a run file, in its order."""
    models, keys = schema["$defs"], schema["properties"]
    top = {name: each for name, each in keys.items() if not _inner(each) and name != "prepare"}
    del top["role"]["const"]  # which of the two it is
    top["role"]["enum"] = [role.replace(" ", "-") for role in ROLES]
    yield "Before the first table", _keys({**schema, "properties": top}, models)
    for name, each in keys.items():
        if name == "prepare":
            yield "`[prepare]`", _prepare(each, models)
        elif inner := _inner(each):
            title = f"[[{name}]]" if each.get("type") == "array" else f"[{name}]"
            yield from _section(f"`{title}`", models[inner], models)


def _section(title: str, model: Schema, models: Schema) -> Iterator[tuple[str, list[str]]]:
    yield title, [*_words(model), *_keys(model, models)]
    for name, each in model["properties"].items():
        if inner := _inner(each):
            yield from _section(f"`{name}` in {title}", models[inner], models)


def _prepare(schema: Schema, models: Schema) -> list[str]:
    rule, own_table = schema["additionalProperties"]["anyOf"]
    model = models[_name(own_table)]
    words = (
        f"One line for each column that needs a rule: {_values(rule, models)}, or a table with these keys."
    )
    return [words, "", *_keys(model, models)]


def _words(model: Schema) -> list[str]:
    """Return what a model says of itself, without what is for readers of the code."""
    return [model["description"].partition("\n\nArgs:")[0], ""]


def _keys(model: Schema, models: Schema) -> list[str]:
    required = model.get("required", ())
    rows = []
    for name, each in model["properties"].items():
        # "... if left out" says more than the model's default: what [protocol] names, for one.
        shown = None if "if left out" in each["description"] else each.get("default")
        default = "required" if name in required else _default(shown)
        values = "table, see below" if _inner(each) else _values(each, models)
        rows.append([f"`{name}`", values, default, each["description"]])
    return table(["key", "value", "default", "meaning"], rows)


def _default(value: Any) -> str:
    return "" if value is None or value == {} else f"`{json.dumps(value)}`"


def _inner(schema: Schema) -> str:
    """Return the name of the model that a key, or each entry of its list, stands for; empty without one."""
    options = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    if len(options) != 1:
        return ""
    return _name(options[0].get("items", options[0]))


def _name(schema: Schema) -> str:
    """Return the name of the model that is referred to; an empty one where none is."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _values(schema: Schema, models: Schema) -> str:
    """Say what may be written, in words.

    >>> _values({"type": "integer", "minimum": 1, "maximum": 9}, {})
    'whole number, 1 to 9'
    >>> _values({"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string"}}]}, {})
    '"all", or list of texts'
    """
    if "anyOf" in schema:
        return ", or ".join(_values(each, models) for each in schema["anyOf"] if each.get("type") != "null")
    for keyword, say in _SAYINGS.items():
        if keyword in schema:
            return say(schema, models)
    return _KINDS[schema["type"]] + _bounds(schema)


def _reference(schema: Schema, models: Schema) -> str:
    keys = models[_name(schema)]["properties"].items()
    return "`{ " + ", ".join(f"{key} = {_values(each, models)}" for key, each in keys) + " }`"


def _mapping(schema: Schema, models: Schema) -> str:
    return f"table of: {_values(schema['additionalProperties'], models)}"


def _list(schema: Schema, models: Schema) -> str:
    entry = _values(schema["items"], models)
    if entry == "text":
        return "list of texts"
    return f"list of lists{entry.removeprefix('list')}" if entry.startswith("list") else f"list of: {entry}"


_SAYINGS: Final[Mapping[str, Callable[[Schema, Schema], str]]] = {
    "const": lambda schema, _: json.dumps(schema["const"]),
    "enum": lambda schema, _: " or ".join(
        filter(None, [", ".join(map(json.dumps, schema["enum"][:-1])), json.dumps(schema["enum"][-1])])
    ),
    "format": lambda schema, _: str(schema["format"]),
    "$ref": _reference,
    "additionalProperties": _mapping,
    "items": _list,
}


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    start = f"above {_number(above)}" if above is not None else "" if low is None else _number(low)
    if high is None:
        return f", {start or 'any'}{' or more' if low is not None else ''}" if start else ""
    return f", {start} to {_number(high)}" if above is None else f", {start}, up to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:,}"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "commands.md": commands_page,
    "run-file.md": run_file_page,
}


def main() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
