"""What a hint says is a thing to do: it begins with a verb."""

import ast
from collections.abc import Iterator
from pathlib import Path

import moiety

SOURCES = sorted(Path(moiety.__file__).parent.rglob("*.py"))
VERBS = {
    *(
        "add",
        "align",
        "ask",
        "build",
        "call",
        "change",
        "check",
        "choose",
        "chmod",
        "compare",
        "correct",
        "end",
    ),
    *(
        "evaluate",
        "fill",
        "finish",
        "give",
        "install",
        "keep",
        "leave",
        "let",
        "look",
        "lower",
        "make",
        "mend",
    ),
    *("moiety", "name", "pass", "plan", "predict", "pull", "put", "raise", "remove", "rename", "replace"),
    *(
        "restore",
        "resume",
        "return",
        "run",
        "save",
        "scale",
        "score",
        "see",
        "send",
        "set",
        "split",
        "start",
        "stop",
        "bring",
    ),
    *("take", "train", "try", "update", "use", "wait", "write"),
}


def hints(source: Path) -> Iterator[tuple[int, str]]:
    """Yield the literal beginning of each hint; one that is put together elsewhere has none."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg != "hint":
                continue
            value = keyword.value.values[0] if isinstance(keyword.value, ast.JoinedStr) else keyword.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.strip():
                yield keyword.value.lineno, value.value


def test_hints_begin_with_a_verb() -> None:
    found = [(source, line, hint) for source in SOURCES for line, hint in hints(source)]
    assert len(found) > 150
    wrong = [
        f"{source.name}:{line}: {hint}"
        for source, line, hint in found
        if hint.split()[0].strip(",:") not in VERBS
    ]
    assert wrong == []
