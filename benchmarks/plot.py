"""`python -m benchmarks.plot` draws growth.png from results.json: each system's time against the shape."""

from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from benchmarks.growth import WORDS
from benchmarks.measure import Record
from benchmarks.results import SCALED, read
from benchmarks.shapes import SIZES, size_of

PICTURE: Final = Path(__file__).with_name("growth.png")
EACH: Final = "product, each multiply-accumulate"
LIGHT: Final = {"color": "0.9"}


def draw(records: list[Record], path: Path) -> None:
    """Draw growth along each dimension, and every system on the products that are measured."""
    figure = Figure(figsize=(15, 9), layout="constrained")
    figure.supylabel("ns of CPU for each multiply-accumulate, both parties")
    parts: Any = figure.subfigures(2, 1, height_ratios=(4, 5))
    upper, lower = parts
    upper.suptitle("products of 2048 rows, 128 features and 32 units, but for one of these")
    lower.suptitle("every system; dashed: scaled from a part of the product")
    axes = upper.subplots(1, 3, sharey=True)
    for axis, (dimension, word) in zip(axes, WORDS.items(), strict=True):
        _growth(axis, records, dimension, word)
    _products(lower.subplots(), records)
    figure.savefig(path, dpi=80)


def _growth(axis: Any, records: list[Record], dimension: str, word: str) -> None:
    mine = [each for each in records if each.name == f"growth, {word}"]
    for system in dict.fromkeys(each.system for each in mine):
        sizes = [(size_of(each.shape), each.least) for each in mine if each.system == system]
        x = [getattr(size, dimension) for size, _ in sizes]
        y = [1e6 * least / size.multiplications for size, least in sizes]
        axis.loglog(x, y, marker="o", label=system)
    axis.set_xlabel(word)
    axis.grid(which="both", **LIGHT)
    axis.legend()


def _products(axis: Any, records: list[Record]) -> None:
    shapes = [size.text for size in SIZES]
    mine = [each for each in records if each.name == EACH and each.shape in shapes]
    for system in dict.fromkeys(each.system.split(SCALED)[0] for each in mine):
        points = {each.shape: each.value for each in mine if each.system.split(SCALED)[0] == system}
        kept = [shape for shape in shapes if shape in points]
        style = "--" if any(each.system.startswith(system + SCALED) for each in mine) else "-"
        x = [shapes.index(shape) for shape in kept]
        axis.semilogy(x, [points[shape] for shape in kept], style, marker="o", label=system)
    axis.set_xticks(range(len(shapes)), [shape.replace(")(", ")\n(") for shape in shapes])
    axis.set_xlim(-0.3, len(shapes) - 0.7)
    axis.grid(which="both", axis="y", **LIGHT)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


if __name__ == "__main__":
    draw(read(), PICTURE)
