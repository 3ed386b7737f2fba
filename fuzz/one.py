"""Fuzz one target in this process: `python -m fuzz.one TARGET FOLDER RUNS SECONDS MEGABYTES`.

Ends with exit code 0 when RUNS or SECONDS are over; anything else is a finding, and the input that led to it
is in FOLDER. Needs atheris (dependency group `fuzz`).
"""

import resource
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

import atheris

TIMEOUT_SECONDS: Final = 10
ADDRESS_SPACE: Final = 4
"""Address space allowed, in units of the resident memory allowed: libraries map more than they use."""
_SOURCES: Final = str(Path(__file__).parents[1] / "src")


class _Sources:
    """Finds the package where it lies: an editable install's own loader hides the code from atheris."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != "moiety":
            return None
        return PathFinder.find_spec(name, path or [_SOURCES], target)


def main() -> None:
    """Instrument the package, write the examples down and start."""
    name, folder, runs, seconds, megabytes = sys.argv[1:]
    sys.meta_path.insert(0, _Sources)
    with atheris.instrument_imports(include=["moiety"]):
        from fuzz.targets import TARGETS  # noqa: PLC0415 - imported under instrumentation

        target = TARGETS[name]
        for example in target.examples:  # imports and tables of the first call are no hang
            target(example)
    corpus = Path(folder) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(target.examples):
        (corpus / f"example-{number}").write_bytes(example)
    limit = ADDRESS_SPACE * int(megabytes) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    options = {
        "runs": runs,
        "max_total_time": seconds,
        "max_len": target.longest,
        "rss_limit_mb": megabytes,
        "timeout": TIMEOUT_SECONDS,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
    }
    atheris.Setup(["fuzz", *(f"-{key}={value}" for key, value in options.items()), str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
