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
    figure = Figure(figsize=(16, 5), layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    for axis, (dimension, word) in zip(axes, WORDS.items(), strict=False):
        _growth(axis, records, dimension, word)
    _products(axes[3], records)
    figure.savefig(path, dpi=110)


def _growth(axis: Any, records: list[Record], dimension: str, word: str) -> None:
    mine = [each for each in records if each.name == f"growth, {word}"]
    for system in dict.fromkeys(each.system for each in mine):
        sizes = [(size_of(each.shape), each.least) for each in mine if each.system == system]
        x = [getattr(size, dimension) for size, _ in sizes]
        y = [1e6 * least / size.multiplications for size, least in sizes]
        axis.loglog(x, y, marker="o", label=system)
    axis.set_xlabel(f"{word} (otherwise 2048 rows, 128 features, 32 units)")
    axis.set_ylabel("ns of CPU for each multiply-accumulate")
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
    axis.set_ylabel("ns of CPU for each multiply-accumulate, both parties (dashed: scaled)")
    axis.grid(which="both", axis="y", **LIGHT)
    axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


if __name__ == "__main__":
    draw(read(), PICTURE)
