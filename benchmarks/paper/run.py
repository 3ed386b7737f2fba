"""Measure the paper's claims, print them, and write benchmarks/paper/results.json.

Three parts: `baselines` (all layers under Paillier, python-paillier), `timings` (seconds and bytes of a step)
and `accuracy` (every variant beside its twin, three seeds). A part that is not asked for keeps its figures.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import use_one_core
from benchmarks.paper import baselines
from benchmarks.paper.report import print_report
from benchmarks.paper.timings import timings
from benchmarks.paper.variants import outcomes
from benchmarks.results import machine

RESULTS: Final = Path(__file__).with_name("results.json")
PARTS: Final = ("baselines", "timings", "accuracy")
DATA: Final = ("MNIST", "credit", "Fashion-MNIST")


def main(arguments: list[str] | None = None) -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.run", description=__doc__)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--missing", action="store_true", help="keep trainings that have a result")
    options = parser.parse_args(arguments)
    if "accuracy" in options.parts:  # on all cores; what follows is on one
        known = [(each["training"], each["seed"]) for each in _read().get("accuracy", [])]
        for outcome in outcomes(data=options.data, known=known if options.missing else []):
            _add("accuracy", asdict(outcome), key=("training", "seed"))
    if "timings" in options.parts:
        use_one_core()
        for timing in timings():
            _add("timings", asdict(timing), key=("training", "first_epoch"))
    if "baselines" in options.parts:
        baselines.main([])
    print_report(_read(), json.loads(baselines.RESULTS.read_text(encoding="utf-8")))


def _read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def _write(part: str, records: list[dict[str, Any]]) -> None:
    content = {**_read(), "machine": machine(), part: records}
    RESULTS.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _add(part: str, record: dict[str, Any], *, key: tuple[str, ...]) -> None:
    """Add a record, in the place of an older one of the same key."""
    others = [each for each in _read().get(part, []) if any(each[name] != record[name] for name in key)]
    _write(part, [*others, record])


if __name__ == "__main__":
    main()
