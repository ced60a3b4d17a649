"""Templates over answers in memory: every function, and every way in which a template can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvctl.containers.source import Subject
from kvctl.containers.template import Answers, NotRead, Template, TemplateError
from kvctl.containers.tree import Tree

WEB = Tree(
    "/web",
    None,
    (
        Tree("/web/db", None, (Tree("/web/db/host", "h"), Tree("/web/db/port", "5432"))),
        Tree("/web/json", '{"a": [1, 2]}'),
        Tree("/web/port", "80"),
    ),
)
ALL: Answers = {Subject("/web", "all"): WEB, Subject("/none", "value"): None, Subject("/none", "all"): None}


def fill(text: str, folder: Path, answers: Answers = ALL, prefix: str = "") -> str:
    (folder / "t.j2").write_text(text)
    return Template(str(folder / "t.j2"), prefix, {"HOME": "/h"}).fill(answers)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{ get("/web/port") }}\n', "80\n"),
        ('{{ get("web//port/") }}', "80"),
        ('{{ get("/none", "fall") }}', "fall"),
        (
            '{% for p in gets("/web") %}{{ p.name }}={{ p.value }};{% endfor %}',
            'db/host=h;db/port=5432;json={"a": [1, 2]};port=80;',
        ),
        ('{% for p in gets("/web/*") %}{{ p.key }} {% endfor %}', "/web/json /web/port "),
        ('{% for p in gets("/web/*/h?st") %}{{ p.key }}{% endfor %}', "/web/db/host"),
        ('{{ ls("/web") | join(",") }} {{ lsdir("/web") | join(",") }}', "db,json,port db"),
        ('{{ exists("/web/db") }} {{ exists("/web/x") }}', "True False"),
        ('{{ env("HOME") }} {{ env("NOPE", "-") }}', "/h -"),
        ('{{ json(get("/web/json")).a[1] }}', "2"),
        ("<{{ 1 }}&>", "<1&>"),
    ],
)
def test_functions(text: str, expected: str, tmp_path: Path) -> None:
    assert fill(text, tmp_path) == expected


def test_the_prefix(tmp_path: Path) -> None:
    assert fill('{{ get("/port") }}', tmp_path, prefix="/web") == "80"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a\n\n{{ get("/none") }}', ":3: the key /none does not exist"),
        ('{{ get("/web") }}', ":1: /web is a directory; gets, ls and lsdir read directories"),
        ('\n{% for p in gets("/none") %}{% endfor %}', ":2: the directory /none does not exist"),
        ('{{ ls("/web/port") }}', ":1: the directory /web/port does not exist"),
        ('{{ env("NOPE") }}', ":1: the environment variable NOPE is not set"),
        ('{{ json("{") }}', ":1: no JSON: Expecting property name"),
        ("\n{{ nope }}", ":2: 'nope' is undefined"),
        ("\n{{ nope() }}", ":2: 'nope' is undefined"),
        ('{{ json("{}").a }}', ":1: 'dict object' has no attribute 'a'"),
        ("{% if %}", ":1: Expected an expression"),
        ("a\n{{ 1 / 0 }}", ":2: ZeroDivisionError: division by zero"),
        ("{{ get(1) }}", ":1: a key must be a text, not 1"),
        ("{{ get.__globals__ }}", ":1: access to attribute '__globals__' of 'method' object is unsafe"),
        ("{% for i in range(1000000) %}{% endfor %}", ":1: OverflowError: Range too big"),
        ("\n{% include 'other' %}", ":2: the template"),
    ],
)
def test_errors_name_the_file_and_the_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as raised:
        fill(text, tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/t.j2{said}")
    assert "\n" not in str(raised.value)


def test_an_error_in_an_included_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "part").write_text('\n\n{{ get("/none") }}')
    with pytest.raises(TemplateError, match=f"^{tmp_path}/part:3: the key /none does not exist$"):
        fill("{% include 'part' %}", tmp_path)


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=f"^{tmp_path}/none: No such file or directory$"):
        Template(str(tmp_path / "none"), "", {}).fill({})
    with pytest.raises(TemplateError, match=f"^{tmp_path}: it is no file$"):
        Template(str(tmp_path), "", {}).fill({})
    with pytest.raises(
        TemplateError, match=rf":1: the template {tmp_path}/other cannot be read: No such file or directory$"
    ):
        fill("{% include 'other' %}", tmp_path)
    with pytest.raises(TemplateError, match=rf":1: the template {tmp_path}/../out cannot be read: it must lie in"):
        fill("{% include '../out' %}", tmp_path)
    (tmp_path / "bad").write_bytes(b"\xff")
    with pytest.raises(TemplateError, match=f"^{tmp_path}/bad: UnicodeDecodeError"):
        Template(str(tmp_path / "bad"), "", {}).fill({})


def test_what_it_needs_and_what_it_used(tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text('{{ get("/a") }}{% if exists("/b") %}{{ get("/c") }}{% endif %}')
    template = Template(str(tmp_path / "t.j2"), "", {})
    answers: dict[Subject, Tree | None] = {}
    for needed in (Subject("/a", "value"), Subject("/b", "names")):
        with pytest.raises(NotRead) as raised:
            template.fill(answers)
        assert raised.value.subject == needed
        answers[needed] = Tree(needed.key, "1") if needed.key == "/a" else None
    assert template.fill(answers) == ("1", frozenset(answers))
