"""The rooms of the code and the imports between them, counted and drawn. `make rooms` runs it.

A room is a module or a folder directly below `kvstore/`, or a program below `cmd/`; with the name of a package as an
argument (`ARGS=kvstore.http`), a module or a folder directly below that. An arrow is an import from one room to
another, including imports inside functions and those for type checkers. A room stands one floor above the highest room
that it imports. A circle is a set of siblings, in any package, that import each other.

Imports of `.pyx` files are not read: each such file belongs to the module that loads it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import grimp

from tests.tools.rooms_picture import draw

PROGRAMS = ("kvctl", "kvstored")
LIBRARY = "kvstore"

Arrow = tuple[str, str]


@dataclass(frozen=True)
class House:
    """Rooms with their number of lines, and the arrows between them."""

    lines: Mapping[str, int]
    arrows: frozenset[Arrow]

    @property
    def circles(self) -> list[list[str]]:
        """Every set of rooms in which each reaches all the others."""
        below = self._below({room: room for room in self.lines})
        reached = {room: _reachable(room, below) for room in below}
        found = {frozenset(other for other in reached[room] if room in reached[other]) for room in below}
        return sorted(sorted(circle) for circle in found if circle)

    @property
    def floors(self) -> list[list[str]]:
        """The rooms of each floor, the ground first. The rooms of a circle share a floor."""
        group = {room: room for room in self.lines} | {room: circle[0] for circle in self.circles for room in circle}
        below = self._below(group)
        floor: dict[str, int] = {}
        for room in TopologicalSorter(below).static_order():
            floor[room] = max((floor[other] + 1 for other in below[room]), default=0)
        found: list[list[str]] = [[] for _ in range(max(floor.values(), default=-1) + 1)]
        for room in sorted(self.lines):
            found[floor[group[room]]].append(room)
        return found

    def _below(self, group: Mapping[str, str]) -> dict[str, set[str]]:
        below: dict[str, set[str]] = {one: set() for one in group.values()}
        for importer, imported in self.arrows:
            if group[importer] != group[imported]:
                below[group[importer]].add(group[imported])
        return below


def _reachable(start: str, below: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = below[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return found


def house_of(graph: grimp.ImportGraph, rooms: Iterable[str]) -> House:
    """The given rooms, each with all modules below it; arrows to other modules are left out."""
    lines = dict.fromkeys(sorted(rooms), 0)
    room_of = {module: room for room in lines for module in {room, *graph.find_descendants(room)}}
    for module, room in room_of.items():
        lines[room] += _line_count(module)
    arrows = {
        (room, room_of[imported])
        for module, room in room_of.items()
        for imported in graph.find_modules_directly_imported_by(module)
        if imported in room_of and room_of[imported] != room
    }
    return House(lines, frozenset(arrows))


def rooms_of(graph: grimp.ImportGraph, package: str) -> set[str]:
    programs = set(PROGRAMS) & graph.modules if package == LIBRARY else set()
    return graph.find_children(package) | programs


def all_circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The circles among the children of each package, those of the top first."""
    packages = sorted(graph.modules, key=lambda module: (module.count("."), module))
    return [circle for package in packages for circle in house_of(graph, rooms_of(graph, package)).circles]


def _line_count(module: str) -> int:
    top, _, rest = module.partition(".")
    spec = find_spec(top)
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], *rest.split("."))
    return len((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text().splitlines())


def summary(graph: grimp.ImportGraph, house: House) -> str:
    counts = f"rooms {len(house.lines)}, floors {len(house.floors)}, arrows {len(house.arrows)}"
    found = all_circles(graph)
    return "\n".join([f"{counts}, circles {len(found)}", *(f"circle: {' '.join(circle)}" for circle in found)])


def table(house: House, package: str) -> str:
    """A line for each floor, the highest first."""
    floors = [
        f"floor {number:2}  " + "  ".join(f"{room.removeprefix(f'{package}.')} {house.lines[room]}" for room in rooms)
        for number, rooms in enumerate(house.floors, start=1)
    ]
    return "\n".join(reversed(floors))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.rooms")
    parser.add_argument("package", nargs="?", default=LIBRARY, help="whose rooms are counted (default: %(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw an SVG into this file")
    arguments = parser.parse_args()
    graph = grimp.build_graph(LIBRARY, *PROGRAMS, cache_dir=None)
    house = house_of(graph, rooms_of(graph, arguments.package))
    print(table(house, arguments.package))
    print(summary(graph, house))
    if arguments.picture is not None:
        arguments.picture.write_text(draw(house.lines, house.floors, house.arrows, arguments.package))


if __name__ == "__main__":
    main()
