"""What the documents and docstrings show is run."""

import doctest
import importlib
import pkgutil
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import moiety
from moiety.cli.app import app
from moiety.config.sections import DataOwnerRun, LabelOwnerRun
from tests.support.parties import Provider, configure, make_parties

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
README_LINES = 120
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NOT_EXAMINED = {"moiety.__main__", "moiety.crypto.kernel._native"}
MODULES = sorted(
    each.name for each in pkgutil.walk_packages(moiety.__path__, "moiety.") if each.name not in NOT_EXAMINED
)
DOCTESTED = {
    "moiety.nn.metrics",
    "moiety.nn.build",
    "moiety.crypto.ring",
    "moiety.contract.schedule",
    "moiety.crypto.parameters",
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
COMMAND = re.compile(r"^(?: {4}|.*`)(moiety (?:--)?[a-z][^`#\n]*)", re.MULTILINE)
TITLED_LINK = re.compile(r"^(?:- |(\d+)\. )\[([^\]]+)\]\(([a-z0-9/-]+\.md)\)", re.MULTILINE)
TABLE = re.compile(r"^ {4}(\[[a-z]+\]|\[\[peer\]\]).*\n((?: {4}[^\[\s].*\n)+)", re.MULTILINE)


def commands_in(page: Path) -> list[str]:
    """Return what a page shows of commands, without comments and redirections."""
    shown = COMMAND.findall(page.read_text(encoding="utf-8"))
    return [re.split(r"\s\d?>", command)[0].strip() for command in shown]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    result = doctest.testmod(module)
    assert result.failed == 0
    if name in DOCTESTED:
        assert result.attempted > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_links_to_files_that_exist(page: Path) -> None:
    missing = [
        link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()
    ]
    assert missing == []


def test_pages_name_commands_and_options_that_exist() -> None:
    shown = [command for page in PAGES for command in commands_in(page)]
    assert len([command for command in shown if " " in command]) > 10
    group = typer.main.get_group(app)
    for line in shown:
        name, arguments = without_options_of(group, shlex.split(line)[1:])
        if name is None:
            continue
        assert name in group.commands, line
        if arguments:
            # Parses the options and arguments, and runs nothing.
            group.commands[name].make_context(name, arguments, resilient_parsing=False)


def without_options_of(group: Any, words: list[str]) -> tuple[str | None, list[str]]:
    """Take the options before a command away; they have to be there. Return the command and its arguments."""
    options = {name: option for option in group.params for name in option.opts}
    words = [word for word in words if word != "--help"]  # known to every command
    while words and words[0].startswith("--"):
        option = options[words.pop(0)]
        if not option.is_flag:
            words.pop(0)
    return (words[0], words[1:]) if words else (None, [])


def test_pages_show_keys_of_run_files_that_exist() -> None:
    schemas = [model.model_json_schema() for model in (LabelOwnerRun, DataOwnerRun)]
    found = 0
    for page in PAGES:
        for table, keys in tables_in(page):
            if table != "prepare":
                known = {key for schema in schemas for key in keys_of(schema, table)}
                assert keys <= known, f"{page.name}: [{table}]"
            found += 1
    assert found > 10


def tables_in(page: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield name and keys of each table of a run file that a page shows; what it shows has to be TOML."""
    for header, lines in TABLE.findall(page.read_text(encoding="utf-8")):
        yield header.strip("[]"), set(tomllib.loads(re.sub(r"^ {4}", "", lines, flags=re.MULTILINE)))


def keys_of(schema: dict[str, Any], table: str) -> set[str]:
    """Return the keys of a table of a run file."""
    entry = schema["properties"].get(table, {})
    name = entry.get("items", entry).get("$ref", "").rpartition("/")[2]
    return set(schema["$defs"][name]["properties"]) if name else set()


def test_pages_name_extras_and_scripts_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    extras = set(re.findall(r"pip install [\"']moiety\[(\w+)\]", text))
    assert extras == {"age", "paillier", "postgresql"} <= set(project["optional-dependencies"])
    scripts = set(re.findall(r"python -m ((?:scripts|benchmarks|fuzz)[\w.]*)", text))
    assert "scripts.make_pages" in scripts
    assert [each for each in scripts if not (ROOT / f"{each.replace('.', '/')}.py").exists()] == []


def test_pages_name_files_that_exist() -> None:
    folders = (ROOT, ROOT / "src" / "moiety", ROOT / "tests")
    for page in PAGES:
        named = re.findall(r"`((?:\w+/)+[\w*-]+\.[a-z]+)`", page.read_text(encoding="utf-8"))
        lost = [each for each in named if not any(any(folder.glob(each)) for folder in folders)]
        assert lost == [], page.name


def test_pages_say_resume_and_no_other_word_for_it() -> None:
    for page in PAGES:
        others = re.findall(r"\b(?:go|goes|going|gone|went) on\b", page.read_text(encoding="utf-8"))
        assert others == [], page.name


def test_index_lists_every_page_and_decision_by_its_title() -> None:
    listed = TITLED_LINK.findall((DOCS / "index.md").read_text(encoding="utf-8"))
    titles = {name: f"{number}. {title}" if number else title for number, title, name in listed}
    assert len(titles) == len(listed)
    pages = [path for path in DOCS.rglob("*.md") if path.name != "index.md"]
    assert titles == {path.relative_to(DOCS).as_posix(): title_of(path) for path in pages}


def title_of(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def test_readme_fits_a_few_screens_and_links_to_the_index() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count("\n") <= README_LINES
    assert "docs/index.md" in LINK.findall(text)


def test_readme_figures_are_those_of_the_benchmarks() -> None:
    section = README.read_text(encoding="utf-8").partition("\n## Figures\n")[2].partition("\n## ")[0]
    figures = re.findall(r"\d[\d,.]*\d", section)
    benchmarks = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert len(figures) > 8
    assert [
        each for each in figures if not re.search(rf"(?<![\d.,]){re.escape(each)}(?![\d])", benchmarks)
    ] == []


def test_readme_names_every_command_that_partners_need() -> None:
    shown = " ".join(commands_in(README))
    for name in ("init", "trust", "check", "provide", "train", "predict", "simulate"):
        assert f"moiety {name}" in shown


def test_pages_name_make_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(
            r"^ {4}make (\w+)$|`make (\w+)`", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            name = "".join(target)
            assert f"\n{name}:" in makefile, f"{page.name}: make {name}"


def test_readme_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (README).read_text(encoding="utf-8"), re.DOTALL)
    files = make_parties(tmp_path)
    configure(files.label_owner, {"train.epochs": 10})
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with Provider(files) as provider:
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own document
    assert provider.error is None
    assert len(names["scores"]) == 60  # type: ignore[arg-type]
    for party in ("bank", "telco"):
        assert (tmp_path / party / "small" / "model.safetensors").exists()
