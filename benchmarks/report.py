"""`python -m benchmarks.report` writes the tables of BENCHMARKS.md and performance.md from results.json.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; what is written around it stays.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.instructions import RECORDED
from benchmarks.measure import Record
from benchmarks.results import MACHINE, read

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = (ROOT / "BENCHMARKS.md", ROOT / "docs" / "performance.md")
TABLE: Final = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Pivot:
    """A table with a line for each system, or shape, and a column for each of the other.

    Args:
        names: whose records.
        turned: shapes are lines, and columns are the names, or the systems where there is one name.
        heading: of the first column.
    """

    names: tuple[str, ...]
    heading: str
    turned: bool = False

    def lines(self, records: Sequence[Record]) -> list[str]:
        """Return the table; a figure, its least in brackets where there are several runs, and its unit."""
        mine = [each for each in records if each.name in self.names and each.system != MACHINE]
        cells = {self._place(each): _figure(each) for each in mine}
        rows = list(dict.fromkeys(row for row, _ in cells))
        columns = list(dict.fromkeys(column for _, column in cells))
        body = [[row, *(cells.get((row, column), "-") for column in columns)] for row in rows]
        return markdown([self.heading, *columns], body)

    def _place(self, record: Record) -> tuple[str, str]:
        if self.turned:
            return record.shape, record.system if len(self.names) == 1 else record.name.split(", ", 1)[-1]
        part = record.name.split(", ", 1)[-1]
        row = f"{record.system}, {part}" if len(self.names) > 1 else record.system
        return row, record.shape


def _peers(records: Sequence[Record]) -> list[str]:
    """Return every system's time for each multiply-accumulate, and how many times ours of its run it took."""
    mine = [each for each in records if each.name == "product, each multiply-accumulate"]
    ratios = {
        (each.system.removesuffix(" over moiety"), each.shape): f", {short(each.value)} times"
        for each in records
        if each.name == "product, ratio"
    }
    cells = {
        (each.system, each.shape): f"{short(each.value)} ns{ratios.get((each.system, each.shape), '')}"
        for each in mine
    }
    systems, shapes = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    body = [[system, *(cells.get((system, shape), "-") for shape in shapes)] for system in systems]
    return markdown(["system", *shapes], body)


def _clear(records: Sequence[Record]) -> list[str]:
    mine = [
        each for each in records if each.name == "product, ratio" and each.system.startswith("moiety over")
    ]
    return Pivot(names=("product, ratio",), heading="CPU time of").lines(mine)


def _stages(records: Sequence[Record]) -> list[str]:
    parts = ("encrypt", "respond", "decrypt", "request ciphertexts", "response ciphertexts", "spare")
    names = {"product", *(f"product, {part}" for part in parts)}
    mine = [each for each in records if each.name in names and each.system == "moiety"]
    sizes = [each for each in records if each.name.startswith("bytes, re") and each.system == "moiety"]
    return Pivot(names=(*names, "bytes, request", "bytes, response"), heading="product", turned=True).lines(
        [*mine, *sizes]
    )


def _slopes(records: Sequence[Record]) -> list[str]:
    mine = [each for each in records if each.name.startswith("growth, slope")]
    body = [
        [each.name.removeprefix("growth, slope with "), each.shape, each.system, f"{each.value:.2f}"]
        for each in mine
    ]
    return markdown(["with", "from and to", "system", "slope"], body)


def _instructions(records: Sequence[Record]) -> list[str]:
    """Return the recorded counts, which are no figures of a machine."""
    del records
    counts = json.loads(RECORDED.read_text(encoding="utf-8"))["counts"]
    paths = sorted(counts, reverse=True)
    body = [[loop, *(short(counts[path][loop]) for path in paths)] for loop in counts[paths[0]]]
    return markdown(["loop", *paths], body)


def _machine(records: Sequence[Record]) -> list[str]:
    facts = [[each.shape, each.system] for each in records if each.name == MACHINE and each.unit == "fact"]
    loads: dict[str, list[str]] = {}
    for each in records:
        if each.name.endswith(", load average"):
            loads.setdefault(each.name.split(",")[0], []).append(f"{each.value:.1f}")
    facts += [[f"load average around `{name}`", " to ".join(values)] for name, values in loads.items()]
    return markdown(["fact", ""], facts)


TABLES: Final[dict[str, Callable[[Sequence[Record]], list[str]]]] = {
    "machine": _machine,
    "product": _stages,
    "product-clear": _clear,
    "peers": _peers,
    "scaling": Pivot(names=("product, miss of the scaling",), heading="system").lines,
    "bytes": Pivot(names=("bytes, request", "bytes, response"), heading="system").lines,
    "ntt": Pivot(
        names=("ntt, forward", "ntt, inverse", "ntt, mean of both directions", "encryption"),
        heading="system",
    ).lines,
    "epoch-fate": Pivot(names=("epoch-fate",), heading="one epoch").lines,
    "epoch-ratio": Pivot(names=("epoch-fate, ratio",), heading="by the clock").lines,
    "epoch-cpu": Pivot(names=("epoch-fate, CPU",), heading="CPU time").lines,
    "epoch-cpu-ratio": Pivot(names=("epoch-fate, CPU ratio",), heading="by CPU time").lines,
    "epoch-bytes": Pivot(names=("bytes, of a row",), heading="bytes of a row").lines,
    "step-bytes": Pivot(names=("bytes, of a step",), heading="bytes of a step").lines,
    "memory": Pivot(names=("memory, beyond its own table",), heading="peak beyond its own table").lines,
    "memory-peak": Pivot(names=("memory, peak", "memory, libraries"), heading="peak").lines,
    "slopes": _slopes,
    "cores": Pivot(names=("growth, cores",), heading="threads").lines,
    "slow-line": Pivot(names=("slow-line", "slow-line, ratio"), heading="epoch").lines,
    "loops": Pivot(names=("loops",), heading="loop", turned=True).lines,
    "instructions": _instructions,
    "paths": Pivot(names=("paths",), heading="path").lines,
}


def fill(text: str, records: Sequence[Record]) -> str:
    """Return a page with its tables written anew.

    Raises:
        KeyError: the page names a table that there is not.
    """

    def table(match: re.Match[str]) -> str:
        lines = TABLES[match[2]](records)
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return TABLE.sub(table, text)


def markdown(heading: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table.

    >>> markdown(["a", "b"], [["1", "2"]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    rows = [heading, *body]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(heading), *lines[1:]]


def short(value: float) -> str:
    """Return three digits, without an exponent.

    >>> short(0.01234), short(12.34), short(1234567.0), short(0.0)
    ('0.0123', '12.3', '1,230,000', '0')
    """
    digits = f"{float(f'{value:.3g}'):,f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _figure(record: Record) -> str:
    """Return value, least and unit; small milliseconds as microseconds."""
    scale, unit = 1.0, record.unit
    if unit.startswith("ms") and record.value < 1:
        scale, unit = 1e3, unit.replace("ms", "µs", 1)
    least = f" ({short(scale * record.least)})" if record.runs > 1 and record.least != record.value else ""
    return f"{short(scale * record.value)}{least} {unit}".strip()


def main() -> None:
    """Fill every page."""
    records = read()
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8"), records), encoding="utf-8")


if __name__ == "__main__":
    main()
