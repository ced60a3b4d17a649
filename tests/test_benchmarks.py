"""The benchmark's own logic: what it judges, draws and refuses. What it measures is `make bench`."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import pauses, report
from benchmarks.chart import LABELS, LETTER, advantage, goal, to_svg
from benchmarks.failover import seconds_without_writes
from benchmarks.filling import fill_for_load, fill_with_small_keys
from benchmarks.load import h2load, wrk
from benchmarks.report import Line, lines_of, to_json, to_markdown
from benchmarks.rounds import Outcome, Outcomes, measure
from benchmarks.rows import NAMES, ROWS
from benchmarks.scenes import FULL, QUICK, SCENES, Scene, Sizes, Stage, Step
from benchmarks.systems import ETCD_NAME, OURS, CannotMeasure
from tests.cluster import KVSTORED, ROOT, Cluster, ClusterError, Member

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")

#: Name, ours, etcd's, whether that meets the goal, and how many times better it is.
JUDGED = [
    ("get-64", 2000.0, 1000.0, True, 2.0),
    ("get-64", 1999.0, 1000.0, False, 1.999),
    ("put-one-64-p99", 5.0, 5.0, True, 1.0),
    ("put-one-64-p99", 5.1, 5.0, False, 5.0 / 5.1),
    ("get-cpu", 10.0, 20.0, True, 2.0),
    ("get-cpu", 11.0, 20.0, False, 20 / 11),
    ("failover", 300.0, 2000.0, True, 2000 / 300),
    ("failover", 301.0, 2000.0, False, 2000 / 301),
    ("pause", -3.0, 1500.0, True, math.inf),
    ("pause-usual", 9.0, 3.0, None, None),
]


def outcomes_of(**rounds: tuple[list[float], list[float]]) -> Outcomes:
    return {
        name.replace("_", "-"): {OURS: Outcome(ours), ETCD_NAME: Outcome(theirs)}
        for name, (ours, theirs) in rounds.items()
    }


def document_of(outcomes: Outcomes) -> Any:
    versions = {OURS: "0", "python": "3", "etcd": "3.4", "wrk": "4", "h2load": "1"}
    return json.loads(to_json(outcomes, QUICK, versions))


def line(name: str, ours: float, theirs: float) -> Line:
    row = next(row for row in ROWS if row.name == name)
    return Line(row, row.what, Outcome([ours]), Outcome([theirs]))


def test_each_row_of_the_table_is_measured_once() -> None:
    measured = [name for scene in SCENES for step in scene.steps for name in step.rows]
    assert sorted(measured) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(("name", "ours", "theirs", "is_met", "times"), JUDGED)
def test_a_figure_is_judged_by_its_goal(
    name: str, ours: float, theirs: float, is_met: bool | None, times: float | None
) -> None:
    found = line(name, ours, theirs)
    assert found.is_met is is_met
    assert advantage(found) == times
    if is_met is not None:
        assert ((times or 0) >= (goal(found) or 0)) == is_met


def test_the_table_shows_medians_ratio_and_why_not() -> None:
    outcomes = outcomes_of(get_64=([9000.0, 100.0, 1000.0], [500.0] * 3), get_256=([700.0], [600.0]))
    outcomes["failover"] = {OURS: Outcome([123.4]), ETCD_NAME: Outcome([], "etcd is | not there")}
    outcomes["tls-get"] = {OURS: Outcome([1.0], "no such flag"), ETCD_NAME: Outcome([5.0])}
    table = to_markdown(document_of(outcomes), {"get-256": "too slow", "get-64": "not shown, because it is met"})
    assert table.splitlines()[1] == (
        "2 goals of 4 are met. In half of the rows, lowest and highest round lie less than 445% apart."
    )
    assert table.splitlines()[5:] == [
        "| GET, 64 connections | at least 2x | 1,000/s | 500/s | 2.00 | yes |  |",
        "| GET, 256 connections | at least 2x | 700/s | 600/s | 1.17 | **no** | too slow |",
        "| GET over TLS, 64 kept-alive connections | at least 1.5x | not measured | 5/s |  | **no** | no such flag |",
        "| leader killed, to the next acknowledged write | at most 300 ms | 123 ms | not measured |  | yes"
        " | etcd is \\| not there |",
    ]
    assert report.unexplained(lines_of(document_of(outcomes)), {}) == ["get-256"]


def test_the_chart_has_a_bar_and_a_goal_for_each_row_that_is_judged() -> None:
    outcomes = outcomes_of(
        get_64=([4000.0], [1000.0]), put_one_64_p99=([8.0], [4.0]), pause_usual=([1.0], [1.0]), tls_put=([], [1.0])
    )
    page = ElementTree.fromstring(to_svg(lines_of(document_of(outcomes)), "here & now"))
    bars = [
        (one.get("class"), float(one.get("x", 0)), float(one.get("width", 0)))
        for one in page.iter("{http://www.w3.org/2000/svg}rect")
        if one.get("height") == "12" and one.get("width") != "12"
    ]
    same = next(
        float(one.get("x1", 0)) for one in page.iter("{http://www.w3.org/2000/svg}line") if one.get("class") == "same"
    )
    worse, better = bars  # one is not measured, one has no goal
    assert (worse[0], better[:2]) == ("missed", ("met", same))
    assert worse[1] + worse[2] == pytest.approx(same)  # worse grows to the left
    assert worse[2] == pytest.approx(better[2] / 2, abs=0.2)  # half as good, and four times as good
    assert "not measured" in {text.text for text in page.iter("{http://www.w3.org/2000/svg}text")}


def test_every_name_fits_the_chart() -> None:
    longest = max((row.title(FULL.keys, FULL.watchers) for row in ROWS), key=len)
    assert len(longest) * LETTER < LABELS, longest


def test_what_cannot_be_measured_is_reported_and_stops_nothing_else() -> None:
    played: list[str] = []

    @contextmanager
    def enter(system: str, sizes: Sizes) -> Iterator[Stage]:
        played.append(system)
        yield Stage(Cluster.of(1, Path()), sizes)

    @contextmanager
    def enter_in_vain(system: str, sizes: Sizes) -> Iterator[Stage]:
        played.append(f"not {system}")
        raise ClusterError(f'n1 ended\nn1 | first\nn1 | cannot read {ROOT}/x traceback="Traceback ...')
        yield

    def fail(_stage: Stage) -> dict[str, float]:
        raise CannotMeasure("why")

    scenes = (
        Scene("broken", enter_in_vain, (Step({"tls-put": "x"}, lambda _: {"x": 1.0}),)),
        Scene("works", enter, (Step({"post": "x"}, fail), Step({"get-64": "x", "get-cpu": "y"}, lambda _: {"x": 7.0}))),
    )
    outcomes = measure(scenes, ["tls-put", "post", "get-64"], QUICK._replace(rounds=2), lambda _: None)
    assert played == ["not kvstored", "not etcd", "kvstored", "etcd", "etcd", "kvstored"]
    assert outcomes["tls-put"][OURS] == Outcome([], "n1 ended: cannot read x")
    assert outcomes["post"][ETCD_NAME] == Outcome([], "why")
    assert outcomes["get-64"] == {OURS: Outcome([7.0, 7.0]), ETCD_NAME: Outcome([7.0, 7.0])}


def test_who_begins_changes_and_the_scene_that_fills_the_disk_comes_behind_all_others() -> None:
    played: list[str] = []

    def scene(name: str, is_long: bool) -> Scene:
        @contextmanager
        def enter(system: str, sizes: Sizes) -> Iterator[Stage]:
            played.append(f"{name} {system}")
            yield Stage(Cluster.of(1, Path()), sizes)

        return Scene(name, enter, (Step({"post": "x"}, lambda _: {"x": 1.0}),), is_long)

    measure((scene("long", True), scene("short", False)), ["post"], QUICK._replace(rounds=2), lambda _: None)
    assert played == [
        *("short kvstored", "short etcd", "short etcd", "short kvstored"),
        *("long kvstored", "long etcd"),
    ]


def test_reasons_are_of_rows() -> None:
    assert set(report.reasons()) <= set(NAMES)


def test_what_the_readme_shows_is_made_from_the_figures() -> None:
    """After a change of reasons, goals or chart: make bench ARGS=--render."""
    document = json.loads((bench.RESULTS / bench.JSON).read_text())
    assert (bench.RESULTS / bench.TABLE).read_text() == to_markdown(document, report.reasons())
    chart = to_svg(lines_of(document), report.circumstances(document))
    assert (bench.RESULTS / bench.CHART).read_text() == chart
    assert list(document["rows"]) == list(NAMES)


def test_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    assert bench.main(["--quick", "--only", "get-64", "--into", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        "bench: etcd, wrk, h2load, openssl not installed, so not every row can be measured;"
        " on Debian: apt-get install etcd-server wrk nghttp2-client openssl\n"
    )
    assert "wrk is not installed; on Debian: apt-get install wrk; etcd is not installed" in said.out


@needs_wrk
def test_a_whole_short_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--quick", "--only", "put-one-64*", "--into", str(tmp_path)]
    status = bench.main(arguments)
    written = (tmp_path / bench.JSON).read_text()
    rows = json.loads(written)["rows"]
    assert list(rows) == ["put-one-64", "put-one-64-p99"]
    assert all(row[OURS]["rounds"][0] > 0 and not row[OURS]["failure"] for row in rows.values())
    assert status == (0 if shutil.which("etcd") else 1)
    assert all(word not in written for word in (socket.gethostname(), str(ROOT), str(tmp_path)))
    assert (tmp_path / bench.TABLE).read_text() in capsys.readouterr().out


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Cluster.of(1, tmp_path_factory.mktemp("load")) as cluster:
        yield cluster.members[0]


@needs_wrk
@needs_h2load
def test_a_run_with_refused_requests_is_none(member: Member) -> None:
    with ThreadPoolExecutor() as pool:  # all at a time, because each takes a second or two
        refused = pool.submit(wrk, member.client_url, "get", 1, 1)
        wrong = pool.submit(h2load, member.client_url, "GET", 1, 1)
        assert re.match(r"of \d+ requests \d+ were refused and 0 lost", str(refused.exception()))
        assert re.match(r"of \d+ requests \d+ went wrong", str(wrong.exception()))
        fill_for_load(member)
        loads = [pool.submit(wrk, member.client_url, kind, 4, 1) for kind in ("quorum", "mixed", "post", "list")]
        speed = pool.submit(h2load, member.client_url, "PUT", 4, 1)
        assert all(load.result().requests > 0 for load in loads)
        assert speed.result() > 0


def test_a_leader_is_killed_and_comes_back(tmp_path: Path) -> None:
    with Cluster.of(3, tmp_path) as cluster:
        assert 0 < seconds_without_writes(cluster) < 20
        assert len(cluster.running) == 3


def test_pauses_are_told_from_what_is_usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pauses, "WARM_UP_SECONDS", 0.1)
    with Cluster.of(1, tmp_path, (*KVSTORED, "--snapshot-count=50")) as cluster:
        (member,) = cluster.members
        with pytest.raises(CannotMeasure, match=r"a client met .* refused"):  # there is no key to read
            pauses.longest_usually(member, 10)
        fill_with_small_keys(member, 1)
        assert 0 < pauses.longest_meanwhile(member) < 10
        with pytest.raises(CannotMeasure, match="a snapshot was taken"):
            pauses.longest_usually(member, 1)
