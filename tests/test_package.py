"""What `import moiety` gives, and what it leaves alone."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import moiety

ROOT = Path(__file__).parents[1]
SLOW = {"importlib.metadata", "numpy", "torch", "pydantic", "grpc", "pyarrow"}


def test_version_is_the_one_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert moiety.__version__ == project["version"]


def test_every_public_name_is_there() -> None:
    assert all(hasattr(moiety, name) for name in moiety.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = moiety.nothing


def test_import_loads_nothing_slow() -> None:
    code = "import sys; before = set(sys.modules); import moiety; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "moiety" in loaded.split()
    assert not SLOW & set(loaded.split())
