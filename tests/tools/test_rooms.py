"""The count of rooms and the picture of them, on packages made for it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import grimp
import pytest

from tests.tools.rooms import House, all_circles, house_of, rooms_of, summary, table
from tests.tools.rooms_picture import direct, draw

FILES = {
    "house/__init__.py": "",
    "house/top.py": "def start() -> None:\n    from house.middle import inner\n",
    "house/middle/__init__.py": "",
    "house/middle/inner.py": "import house.ground\nfrom house.middle import other\n",
    "house/middle/other.py": "import typing\nif typing.TYPE_CHECKING:\n    from house.middle import inner\n",
    "house/ground.py": "",
    "house/apart.py": "import house.ground\nimport house.middle.other\n",
}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> grimp.ImportGraph:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return grimp.build_graph("house", cache_dir=None)


def test_rooms_floors_and_arrows_are_counted(graph: grimp.ImportGraph) -> None:
    house = house_of(graph, rooms_of(graph, "house"))
    assert house.lines == {"house.apart": 2, "house.ground": 0, "house.middle": 5, "house.top": 2}
    assert house.floors == [["house.ground"], ["house.middle"], ["house.apart", "house.top"]]
    assert house.arrows == {
        ("house.top", "house.middle"),
        ("house.middle", "house.ground"),
        ("house.apart", "house.ground"),
        ("house.apart", "house.middle"),
    }
    assert table(house, "house").splitlines()[0] == "floor  3  apart 2  top 2"


def test_a_circle_below_the_top_is_found(graph: grimp.ImportGraph) -> None:
    house = house_of(graph, rooms_of(graph, "house"))
    assert house.circles == []
    assert all_circles(graph) == [["house.middle.inner", "house.middle.other"]]
    assert summary(graph, house).splitlines() == [
        "rooms 4, floors 3, arrows 4, circles 1",
        "circle: house.middle.inner house.middle.other",
    ]


def test_the_rooms_of_a_circle_share_a_floor() -> None:
    house = House(dict.fromkeys("abcd", 1), frozenset({("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}))
    assert house.circles == [["b", "c"]]
    assert house.floors == [["d"], ["b", "c"], ["a"]]


def test_an_arrow_that_follows_from_others_is_not_drawn() -> None:
    assert direct({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}
    assert direct({("a", "b"), ("b", "a"), ("a", "c"), ("b", "c")}) >= {("a", "b"), ("b", "a")}


def test_the_picture_shows_each_room_once_and_is_always_the_same(graph: grimp.ImportGraph) -> None:
    house = house_of(graph, rooms_of(graph, "house"))
    picture = draw(house.lines, house.floors, house.arrows, "house")
    assert picture == draw(house.lines, house.floors, frozenset(sorted(house.arrows, reverse=True)), "house")
    texts = [element.text for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")]
    assert sorted(text for text in texts if text and "lines" not in text) == ["apart", "ground", "middle", "top"]


def test_rooms_of_a_circle_are_drawn_side_by_side() -> None:
    house = House(dict.fromkeys("ab", 1), frozenset({("a", "b"), ("b", "a")}))
    assert draw(house.lines, house.floors, house.arrows, "").count('class="arrow circle"') == 2
