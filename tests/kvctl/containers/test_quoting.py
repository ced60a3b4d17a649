"""Names and quoting, against a real shell and against systemd's rules as its source has them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvctl.containers.quoting import lines
from kvctl.containers.variables import Naming, Unfit, name, variables

# What a server can answer, but for NUL; with more of what is special somewhere.
TEXT = st.text(
    st.one_of(
        st.sampled_from("'\"\\$`!#;= \n\t\r~*{}ü"), st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    )
)
VALUES = st.lists(TEXT, min_size=1, max_size=30)


def text_of(form: str, values: list[str]) -> str:
    named = {f"V{number}": value for number, value in enumerate(values)}
    return "".join(line + "\n" for line in lines(form, named, named))


@pytest.mark.parametrize("form", ["export", "dotenv", "systemd"])
@given(values=VALUES)
@settings(max_examples=40)
def test_a_shell_reads_what_was_written(form: str, values: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("env") / "file"
    file.write_bytes(text_of(form, values).encode())
    script = f". {file}; " + "; ".join(f'printf "%s\\0" "$V{number}"' for number in range(len(values)))
    out = subprocess.run(["sh", "-c", script], capture_output=True, check=True, env={}).stdout
    assert out.decode().split("\0")[:-1] == values


def systemd_reads(text: str) -> Iterator[tuple[str, str]]:
    """As parse_env_file() of systemd 252: its states for values that begin with a double quote, and for plain ones."""
    place = 0
    while place < len(text):
        equals = text.index("=", place)
        called, place, value = text[place:equals], equals + 1, ""
        if text[place] == '"':
            place += 1
            while text[place] != '"':
                if text[place] == "\\":
                    place += 1
                    if text[place] not in '"\\$`':
                        value += "" if text[place] == "\n" else "\\" + text[place]
                        place += 1
                        continue
                value += text[place]
                place += 1
            place += 1
        else:
            end = text.index("\n", place)
            value, place = text[place:end], end
            assert not set(value) & set("\\'\" \t\r"), "a plain value holds what systemd takes for special"
        assert text[place] == "\n"
        place += 1
        yield called, value


@given(values=VALUES)
def test_systemd_reads_what_was_written(values: list[str]) -> None:
    assert [
        value for _, value in sorted(systemd_reads(text_of("systemd", values)), key=lambda pair: int(pair[0][1:]))
    ] == (values)


@given(value=TEXT)
def test_dotenv_is_literal_where_all_readers_agree(value: str) -> None:
    (line,) = lines("dotenv", {"V": value}, {"V": "/v"})
    if "'" not in value and "\\" not in value:
        assert line in (f"V={value}", f"V='{value}'")


@pytest.mark.parametrize(
    ("key", "prefix", "naming", "expected"),
    [
        ("/web/port", "/web", Naming(), "port"),
        ("/web/db/url", "/web", Naming(), "db/url"),
        ("/web/db/url", "/web", Naming(upcase=True, sanitize=True), "DB_URL"),
        ("/web/db-1.x", "/web", Naming(sanitize=True), "db_1_x"),
        ("/web/1st", "/web", Naming(sanitize=True), "_1st"),
        ("/web/straße", "/web", Naming(upcase=True), "STRAßE"),
        ("/web/straße", "/web", Naming(sanitize=True), "stra_e"),
        ("/web/port", "/web/port", Naming(), "port"),
        ("/port", "/", Naming(), "port"),
    ],
)
def test_names(key: str, prefix: str, naming: Naming, expected: str) -> None:
    assert name(key, prefix, naming) == expected


@given(key=TEXT.map(lambda text: "/web/" + text))
def test_a_sanitized_name_is_one_for_a_shell(key: str) -> None:
    if key.strip("/") != "web":
        called = name(key, "/web", Naming(sanitize=True, upcase=True))
        assert lines("export", {called: ""}, {called: key})


def test_later_prefixes_win_and_within_one_the_later_key() -> None:
    both = variables(
        [("/a", [("/a/x", "1"), ("/a/y", "1")]), ("/b", [("/b/x", "2"), ("/b/z_1", "5"), ("/b/z-1", "4")])],
        Naming(sanitize=True),
    )
    assert both.values == {"x": "2", "y": "1", "z_1": "5"}
    assert both.keys["x"] == "/b/x"
    assert both.hidden == (("/b/z-1", "/b/z_1"),)  # across prefixes it is meant


def test_what_no_environment_holds_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match="/a/x holds a NUL"):
        variables([("/a", [("/a/x", "1\0")])], Naming())
    with pytest.raises(Unfit, match=r"/a/x=y cannot be the name of a variable; --sanitize makes it one"):
        variables([("/a", [("/a/x=y", "1")])], Naming())
    with pytest.raises(Unfit, match="/a/x-y would be the variable 'x-y'"):
        lines("dotenv", {"x-y": "1"}, {"x-y": "/a/x-y"})
