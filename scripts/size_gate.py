"""Refuse files over 500 lines and functions over 60: a reader's gate, run by `make check`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILE_LINES: Final = 500
FUNCTION_LINES: Final = 60
SUFFIXES: Final = {".py", ".cpp", ".hpp", ".pyi"}


def findings(root: Path) -> Iterator[str]:
    """Yield a line for each file or function that is too long."""
    for path in sorted(each for each in root.rglob("*") if each.suffix in SUFFIXES):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > FILE_LINES:
            yield f"{path}: {text.count(chr(10))} lines, and {FILE_LINES} are allowed"
        if path.suffix == ".py":
            yield from _functions(path, ast.parse(text))


def _functions(path: Path, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines of {FUNCTION_LINES}"


def main() -> None:
    """Print the findings; exit 1 if there are any."""
    found = [
        line
        for folder in ("src", "tests", "scripts", "fuzz", "benchmarks")
        for line in findings(Path(folder))
    ]
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
