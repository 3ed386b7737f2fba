"""docs/commands.md and docs/run-file.md say what the code says."""

import doctest
import tomllib

import pytest

from moiety.config.sections import DataOwnerRun, LabelOwnerRun
from scripts import make_pages
from scripts.make_pages import DOCS, PAGES, run_file_page


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_gives(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run python -m scripts.make_pages"


def test_make_pages_docstring_examples_hold() -> None:
    result = doctest.testmod(make_pages)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("model", [LabelOwnerRun, DataOwnerRun])
def test_page_of_run_files_has_a_line_for_every_key(model: type[LabelOwnerRun | DataOwnerRun]) -> None:
    page = run_file_page()
    schema = model.model_json_schema()
    sections = [each for name, each in schema["$defs"].items() if name != "Query"]
    keys = {key for section in sections for key in section["properties"]}
    assert len(keys) > 25
    assert [key for key in keys if f"\n| `{key}` | " not in page] == []


def test_page_of_run_files_shows_files_that_are_toml() -> None:
    shown = [part.partition("```")[0] for part in run_file_page().split("```toml\n")[1:]]
    assert [tomllib.loads(text)["role"] for text in shown] == ["label-owner", "data-owner"]
