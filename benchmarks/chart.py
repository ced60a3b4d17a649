"""The chart of the README: how many times better than etcd each row is, as an SVG for light and dark pages.

Bars grow from "as etcd" to the right where ours is better and to the left where it is worse, on a logarithmic scale; a
mark shows the goal. Knows the lines of the report and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.report import Line

WIDTH = 960
LABELS = 410  # width of the column of names
LETTER = 6.2  # width of one of its letters, about
FIGURES = 150  # of the column of values on the right
MARGIN = 20
TOP = 92
STEP = 22  # from one row to the next
BAR = 12
LOWEST, HIGHEST = 0.25, 16.0  # the ends of the scale; what lies beyond is drawn at its end

_STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de; }
  text { font: 12px -apple-system, "Segoe UI", "Helvetica Neue", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; }
  .quiet { fill: #59636e; }
  .figure { font-variant-numeric: tabular-nums; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .same { stroke: #59636e; stroke-width: 1.5; }
  .goal { stroke: #1f2328; stroke-width: 2; }
  .met { fill: #2da44e; }
  .missed { fill: #e08a1e; }
  .none { fill: #8c959f; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d; }
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .grid { stroke: #2a313c; }
    .same { stroke: #9198a1; }
    .goal { stroke: #f0f6fc; }
    .met { fill: #3fb950; }
    .missed { fill: #e3923a; }
    .none { fill: #656c76; }
  }
"""


def advantage(line: Line) -> float | None:
    """How many times better than etcd: 1 is alike. None where it cannot be told."""
    if line.row.goal is None or line.ours.median is None or line.theirs.median is None:
        return None
    better, worse = line.ours.median, line.theirs.median
    if not line.row.goal.more:
        better, worse = worse, better
    if worse <= 0:  # only what is less than nothing where less is better
        return math.inf
    return max(better, 0.0) / worse


def goal(line: Line) -> float | None:
    """The advantage that would meet the goal."""
    wanted = line.row.goal
    if wanted is None:
        return None
    if wanted.limit is not None:
        return line.theirs.median / wanted.limit if line.theirs.median is not None else None
    assert wanted.times is not None
    return wanted.times if wanted.more else 1 / wanted.times


def to_svg(lines: Sequence[Line], circumstances: str) -> str:
    judged = [line for line in lines if line.row.goal is not None]
    height = TOP + STEP * len(judged) + MARGIN + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img" aria-label="kvstored beside etcd">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(MARGIN, 34, "kvstored beside etcd on the same machine", "title"),
        _text(MARGIN, 54, escape(circumstances), "quiet"),
        *_legend(),
        *_axis(height - MARGIN),
        *(part for number, line in enumerate(judged) for part in _bar(line, TOP + STEP * number)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(times: float) -> float:
    """Where on the page an advantage lies."""
    inside = min(max(times, LOWEST), HIGHEST)
    share = math.log(inside / LOWEST) / math.log(HIGHEST / LOWEST)
    return round(LABELS + MARGIN + share * (WIDTH - LABELS - FIGURES - 2 * MARGIN), 1)


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>'


def _legend() -> Iterator[str]:
    x = MARGIN
    for kind, words in (("met", "goal met"), ("missed", "goal missed")):
        yield f'<rect class="{kind}" x="{x}" y="66" width="12" height="12" rx="2"/>'
        yield _text(x + 18, 76, words, "quiet")
        x += 104
    yield f'<line class="goal" x1="{x + 6}" x2="{x + 6}" y1="65" y2="79"/>'
    yield _text(x + 14, 76, "goal", "quiet")


def _axis(bottom: float) -> Iterator[str]:
    times = LOWEST
    while times <= HIGHEST:
        words = "as etcd" if times == 1 else f"{times:g}x"
        kind = "same" if times == 1 else "grid"
        yield f'<line class="{kind}" x1="{_x(times)}" x2="{_x(times)}" y1="{TOP - 6}" y2="{bottom}"/>'
        yield _text(_x(times), TOP - 12, words, "quiet", "middle")
        times *= 2


def _bar(line: Line, y: float) -> Iterator[str]:
    middle = y + STEP / 2
    yield _text(LABELS, middle + 4, escape(line.what), "", "end")
    times, wanted = advantage(line), goal(line)
    kind = {True: "met", False: "missed", None: "none"}[line.is_met]
    if times is not None:
        left, right = sorted((_x(1), _x(times)))
        yield (
            f'<rect class="{kind}" x="{left:g}" y="{middle - BAR / 2:g}" width="{max(right - left, 1):g}"'
            f' height="{BAR}" rx="2"/>'
        )
    if wanted is not None:
        yield f'<line class="goal" x1="{_x(wanted)}" x2="{_x(wanted)}" y1="{middle - 9:g}" y2="{middle + 9:g}"/>'
    yield _text(WIDTH - MARGIN, middle + 4, escape(_figures(line, times)), "figure quiet", "end")


def _figures(line: Line, times: float | None) -> str:
    if line.ours.median is None:
        return "not measured"
    shown = line.row.show(line.ours.median)
    if times is None:
        return shown
    if times >= HIGHEST:
        return f"{shown}  (over {HIGHEST:g}x)"
    return f"{shown}  ({times:.2f}x)"
