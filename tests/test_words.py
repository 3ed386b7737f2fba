"""One word for one idea: what the glossary (docs/design.md, section 2) replaced is not written again."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "docs", "scripts", "fuzz", "benchmarks")
TEXTS = {".py", ".pyi", ".md", ".txt"}
# Quotes what is banned; what another version wrote.
LEFT_OUT = {ROOT / "tests" / "test_words.py", ROOT / "tests" / "recorded"}

_WHOSE = r"own|its|their|your|saved|other|either|both|side's|owner's|holder's|evaluator's|peer's|peers"
BANNED = {
    r"\b(go|goes|going|went|gone)[ _]on\b|\bgoes_on|goes_on\b": "resume, or continue",
    r"\bdue\b|_due\b|\bdue_": "expected",
    rf"\b({_WHOSE}) hal(f|ves)\b|\bhalf[- ](done|applied|written)|\b[Hh]alf\(": "side",
    r"\bmoiety[./](again|past|keeping|marks|opening|half|observer|numbering)\b": "the module's new name",
}


def texts() -> list[Path]:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in TEXTS]
    return [
        path
        for path in sorted([*inside, *ROOT.glob("*.md")])
        if not any(path == each or each in path.parents for each in LEFT_OUT)
    ]


@pytest.mark.parametrize("pattern", BANNED)
def test_banned_word_is_not_written(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert found == [], f"write: {BANNED[pattern]}"


@pytest.mark.parametrize(
    ("pattern", "line"),
    list(zip(BANNED, ["a run goes on", "HELLO was due", "this side's half", "moiety.again"], strict=True)),
)
def test_pattern_finds_what_it_bans(pattern: str, line: str) -> None:
    assert re.search(pattern, line)
