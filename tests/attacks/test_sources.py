"""Row 19 of the attacks: predictable randomness, looked for in the package's own source."""

import ast
from pathlib import Path

import pytest

import moiety

BANNED = ("random", "numpy.random", "torch.rand", "torch.normal", "torch.bernoulli", "torch.Generator")
NEAR = ("secrets", "uuid")


def dotted(node: ast.AST) -> str:
    """The dotted name of an attribute, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def random_sources(source: str) -> list[str]:
    """Every name of a forbidden random source in a module's text, whatever it was imported as."""
    names: dict[str, str] = {}
    used: list[str] = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                used.append(alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                used.append(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        first, _, rest = dotted(node).partition(".")
        if rest:
            used.append(f"{names.get(first, first)}.{rest}")
    return sorted({each for each in used if _is_banned(each)})


def _is_banned(name: str) -> bool:
    exact = any(name == each or name.startswith(each + ".") for each in (*BANNED, *NEAR))
    return exact or name.startswith(("torch.rand", "torch.cuda.rand"))


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        ("import random", ["random"]),
        ("from random import Random as R", ["random.Random"]),
        ("import numpy as np\nnp.random.default_rng()", ["numpy.random", "numpy.random.default_rng"]),
        ("from numpy import random as r\nr.normal()", ["numpy.random", "numpy.random.normal"]),
        ("import torch\ntorch.randn(3)", ["torch.randn"]),
        ("import torch as t\nt.rand_like(x)", ["torch.rand_like"]),
        ("def f():\n    import secrets", ["secrets"]),
        ("import os\nos.urandom(32)", []),
        ("randomness.seed()", []),
    ],
)
def test_wrong_random_source_check_fires(sample: str, found: list[str]) -> None:
    """Control of the next test: a module that uses a forbidden source is seen, and only that."""
    assert random_sources(sample) == found


def test_wrong_random_source_in_the_package() -> None:
    """A generator that can be predicted, or shared with user code, makes every mask worthless.

    Control: the test above. Ours: no module of the package names one.
    """
    files = sorted(Path(moiety.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    offending = {file.name: random_sources(file.read_text(encoding="utf-8")) for file in files}
    assert {name: found for name, found in offending.items() if found} == {}
