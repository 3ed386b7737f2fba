"""What the documents and docstrings show is run."""

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import typer

import moiety
from moiety.cli.app import app
from tests.support.parties import Provider, configure, make_parties

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
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
COMMAND = re.compile(r"^(?: {4}|.*`)(moiety [a-z][^`#\n]*)", re.MULTILINE)


def commands_in(page: Path) -> list[str]:
    return [match.strip() for match in COMMAND.findall(page.read_text(encoding="utf-8"))]


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
        _, name, *arguments = shlex.split(line)
        assert name in group.commands, line
        if arguments:
            # Parses the options and arguments, and runs nothing.
            group.commands[name].make_context(name, arguments, resilient_parsing=False)


def test_readme_names_every_command_that_partners_need() -> None:
    shown = " ".join(commands_in(ROOT / "README.md"))
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
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
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
