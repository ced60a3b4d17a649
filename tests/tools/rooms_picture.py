"""A house of rooms as an SVG for light and dark pages: a row for each floor, an arrow for each import.

An arrow that follows from others is left out, so that the eye can follow those that are drawn. The same house gives the
same picture, byte for byte. Knows nothing of files and imports.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

STEP = 92  # from one floor to the next
HEIGHT = 40  # of a room
GAP = 22  # between two neighbours
MARGIN = 24
LETTER = 8.2  # width of a letter of a name, about
LANE = 10  # width that an arrow takes where it passes a floor
SWEEPS = 24  # rounds of sorting and of levelling

_STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de; }
  text { font: 13px -apple-system, "Segoe UI", "Helvetica Neue", Helvetica, Arial, sans-serif; fill: #1f2328; }
  text { text-anchor: middle; }
  .lines { font-size: 10px; fill: #59636e; }
  .room { fill: #eef4fb; stroke: #7d9cc0; }
  .arrow { fill: none; stroke: #8c959f; stroke-width: 1.2; marker-end: url(#tip); }
  .circle { stroke: #cf222e; stroke-width: 1.8; }
  #tip path { fill: #8c959f; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d; }
    text { fill: #e6edf3; }
    .lines { fill: #9198a1; }
    .room { fill: #16222f; stroke: #41618a; }
    .arrow { stroke: #656c76; }
    #tip path { fill: #656c76; }
  }
"""

Arrow = tuple[str, str]


@dataclass
class _Place:
    """A room, or the point at which an arrow passes a floor."""

    name: str
    width: float
    above: list[_Place] = field(default_factory=list)
    below: list[_Place] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0


def direct(arrows: Iterable[Arrow]) -> set[Arrow]:
    """The arrows that do not follow from others. Arrows of a circle all stay."""
    wanted = set(arrows)
    below: dict[str, set[str]] = {}
    for importer, imported in wanted:
        below.setdefault(importer, set()).add(imported)
    reached = {room: _reachable(room, below) for room in below}

    def follows(importer: str, imported: str) -> bool:
        others = (room for room in below[importer] if room != imported and importer not in reached.get(room, ()))
        return any(imported in reached.get(room, ()) for room in others)

    return {arrow for arrow in wanted if not follows(*arrow)}


def draw(lines: Mapping[str, int], floors: Sequence[Sequence[str]], arrows: Iterable[Arrow], package: str) -> str:
    """The picture of rooms with their number of lines; `floors` begins with the ground, names lose `package`."""
    short = {room: room.removeprefix(f"{package}.") for room in lines}
    rows, routes, sideways = _arranged(short, floors, direct(arrows))
    width = max((row[-1].x + row[-1].width / 2 for row in rows), default=0.0) + MARGIN
    height = 2 * MARGIN + STEP * (len(rows) - 1) + HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
        f' viewBox="0 0 {width:.0f} {height}" role="img" aria-label="the rooms of {package} and what they import">',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,1 L8,4 L0,7 z"/></marker></defs>',
        f'<rect class="page" x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>',
        *map(_path, routes),
        *(_sideways(left, right) for left, right in sideways),
        *(part for row in rows for place in row if place.name for part in _room(place, short, lines)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _arranged(
    short: Mapping[str, str], floors: Sequence[Sequence[str]], arrows: set[Arrow]
) -> tuple[list[list[_Place]], list[list[_Place]], list[tuple[_Place, _Place]]]:
    """Rows of places from the top floor down, the route of each arrow, and the arrows within a row."""
    rows = [[_Place(room, max(LETTER * len(short[room]) + 20, 56)) for room in floor] for floor in reversed(floors)]
    place_of = {place.name: place for row in rows for place in row}
    row_of = {place.name: number for number, row in enumerate(rows) for place in row}
    routes, sideways = [], []
    for importer, imported in sorted(arrows):
        if row_of[importer] == row_of[imported]:
            sideways.append((place_of[importer], place_of[imported]))
            continue
        route = [place_of[importer]]
        for row in rows[row_of[importer] + 1 : row_of[imported]]:
            route.append(_Place("", LANE))
            row.append(route[-1])
        route.append(place_of[imported])
        for upper, lower in itertools.pairwise(route):
            upper.below.append(lower)
            lower.above.append(upper)
        routes.append(route)
    _sort(rows)
    for number, row in enumerate(rows):
        for place in row:
            place.y = MARGIN + STEP * number
    return rows, routes, sideways


def _sort(rows: list[list[_Place]]) -> None:
    """Order each row so that few arrows cross, then move its places towards their neighbours above and below."""
    for row in rows:
        _line_up(row)
    for number in range(SWEEPS):
        for row in rows if number % 2 else reversed(rows):
            row.sort(key=lambda place: _mean(place.above if number % 2 else place.below, place.x))
            _line_up(row)
    for number in range(SWEEPS):
        for row in rows if number % 2 else reversed(rows):
            _level(row, [_mean([*place.above, *place.below], place.x) for place in row])
    left = min((row[0].x - row[0].width / 2 for row in rows), default=0.0) - MARGIN
    for row in rows:
        for place in row:
            place.x -= left


def _mean(places: Sequence[_Place], otherwise: float) -> float:
    return sum(place.x for place in places) / len(places) if places else otherwise


def _line_up(row: list[_Place]) -> None:
    """Side by side, with the middle of the row at 0."""
    x = -sum(place.width + GAP for place in row) / 2
    for place in row:
        place.x = x + place.width / 2
        x += place.width + GAP


def _level(row: list[_Place], wished: list[float]) -> None:
    """Each place as near to its wish as its neighbours allow, in the order that they have."""
    blocks: list[tuple[float, list[_Place]]] = []  # the left edge of a run of neighbours, and the run
    for place, wish in zip(row, wished, strict=True):
        edge, run = wish - place.width / 2, [place]
        while blocks and blocks[-1][0] + _extent(blocks[-1][1]) > edge:
            before, others = blocks.pop()
            offset = _extent(others)
            edge = (before * len(others) + (edge - offset) * len(run)) / (len(others) + len(run))
            run = others + run
        blocks.append((edge, run))
    for edge, run in blocks:
        for place in run:
            place.x = edge + place.width / 2
            edge += place.width + GAP


def _extent(run: Sequence[_Place]) -> float:
    return sum(place.width + GAP for place in run)


def _path(route: Sequence[_Place]) -> str:
    start, *passed, end = route
    points = f"M{start.x:.0f},{start.y + HEIGHT:.0f}"
    x, y = start.x, start.y + HEIGHT
    for place in [*passed, end]:
        middle = (y + place.y) / 2
        points += f" C{x:.0f},{middle:.0f} {place.x:.0f},{middle:.0f} {place.x:.0f},{place.y:.0f}"
        x, y = place.x, place.y + (HEIGHT if place is not end else 0)
        if place is not end:
            points += f" V{y:.0f}"
    return f'<path class="arrow" d="{points}"/>'


def _sideways(start: _Place, end: _Place) -> str:
    """An arrow of a circle, above the row when it leads to the right and below it otherwise."""
    y = start.y if start.x < end.x else start.y + HEIGHT
    bend = y - 24 if start.x < end.x else y + 24
    return (
        f'<path class="arrow circle" d="M{start.x:.0f},{y:.0f} C{start.x:.0f},{bend:.0f}'
        f' {end.x:.0f},{bend:.0f} {end.x:.0f},{y:.0f}"/>'
    )


def _room(place: _Place, short: Mapping[str, str], lines: Mapping[str, int]) -> Iterator[str]:
    yield (
        f'<rect class="room" x="{place.x - place.width / 2:.0f}" y="{place.y:.0f}" width="{place.width:.0f}"'
        f' height="{HEIGHT}" rx="6"/>'
    )
    yield f'<text x="{place.x:.0f}" y="{place.y + 18:.0f}">{short[place.name]}</text>'
    yield f'<text class="lines" x="{place.x:.0f}" y="{place.y + 32:.0f}">{lines[place.name]} lines</text>'


def _reachable(start: str, below: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = below.get(waiting.pop(), set()) - found
        found |= fresh
        waiting += fresh
    return found
