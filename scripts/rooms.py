"""How the package is laid out: `python -m scripts.rooms` prints figures and draws docs/rooms.svg.

A room is a name directly under the package, with all in it. The picture is a matrix: a dark cell says that
the room of its row imports from the room of its column. Rooms stand in the order of `.importlinter`, so that
all dark cells lie on one side of the diagonal.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import grimp

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = "moiety"
PICTURE: Final = ROOT / "docs" / "rooms.svg"
CELL: Final = 34
LEFT: Final = 96
TOP: Final = 84
INK: Final = "#1f3a5f"

Imports = Mapping[str, set[str]]


def imports_of_modules() -> Imports:
    """Return what each module imports directly, without imports for type checking."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def imports_between_rooms(imports: Imports) -> Counter[tuple[str, str]]:
    """Count the imports from one room to another."""
    pairs = Counter((room_of(name), room_of(other)) for name, others in imports.items() for other in others)
    return Counter({pair: count for pair, count in pairs.items() if pair[0] != pair[1] and all(pair)})


def room_of(module: str) -> str:
    """Return the room of a module; "" for the package itself and for `python -m moiety`."""
    name = [*module.split("."), ""][1]
    return "" if name.startswith("__") else name


def order_of_rooms() -> list[str]:
    """Return the rooms from top to bottom, as `.importlinter` has them."""
    settings = ConfigParser()
    settings.read(ROOT / ".importlinter")
    layers = settings["importlinter:contract:rooms"]["layers"].split("\n")
    return [room.strip() for layer in layers if layer for room in layer.split("|")]


def floors(imports: Imports) -> int:
    """Count the modules on the longest chain of imports."""
    height: dict[str, int] = {}
    for name in TopologicalSorter(imports).static_order():
        height[name] = 1 + max((height[other] for other in imports[name]), default=0)
    return max(height.values())


def figures(imports: Imports) -> Iterator[str]:
    """Yield the figures, a line each."""
    between = imports_between_rooms(imports)
    files = list((ROOT / "src" / PACKAGE).rglob("*.py"))
    yield f"rooms                  {len(order_of_rooms())}"
    yield f"modules                {len(imports)}"
    yield f"imports                {sum(map(len, imports.values()))}"
    yield f"imports between rooms  {between.total()}, over {len(between)} pairs of rooms"
    yield f"longest chain          {floors(imports)} modules"
    yield f"lines of Python        {sum(file.read_text(encoding='utf-8').count(chr(10)) for file in files)}"


def picture(pairs: set[tuple[str, str]], rooms: list[str]) -> str:
    """Draw which room imports from which."""
    side = CELL * len(rooms)
    box = f"0 0 {LEFT + side + 12} {TOP + side + 12}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" fill="{INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="{TOP - 12}" font-size="11">imports from</text>',
    ]
    for place, room in enumerate(rooms):
        middle = CELL * place + CELL / 2
        parts.append(f'<text x="12" y="{TOP + middle + 4:g}" font-size="13">{room}</text>')
        parts.append(
            f'<text x="{LEFT + middle:g}" y="{TOP - 10}" font-size="13" '
            f'transform="rotate(-50 {LEFT + middle:g} {TOP - 10})">{room}</text>'
        )
    for row, importer in enumerate(rooms):
        for column, imported in enumerate(rooms):
            parts.append(_cell(row, column, filled=(importer, imported) in pairs))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cell(row: int, column: int, *, filled: bool) -> str:
    fill = INK if filled else "#c9d3df" if row == column else "#f4f6f9"
    x, y, size = LEFT + CELL * column + 2, TOP + CELL * row + 2, CELL - 4
    return f'<rect x="{x}" y="{y}" width="{size}" height="{size}" rx="4" fill="{fill}"/>'


def main() -> None:
    """Print the figures and write the picture."""
    imports = imports_of_modules()
    PICTURE.write_text(picture(set(imports_between_rooms(imports)), order_of_rooms()), encoding="utf-8")
    sys.stdout.writelines(f"{line}\n" for line in figures(imports))


if __name__ == "__main__":
    main()
