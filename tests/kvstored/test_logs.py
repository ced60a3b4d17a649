"""The form of a log line, and that logging never stops anything."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from kvstore import logs
from kvstore.settings import Url

LINE_START = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Leaves the process-wide loggers as they were."""
    root, own = logging.getLogger(), logging.getLogger(logs.ROOT)
    before = root.level, own.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    own.setLevel(before[1])
    for handler in set(root.handlers) - set(before[2]):
        root.removeHandler(handler)


def configured(level: str = "info", line_format: str = "text") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, line_format, stream)
    return stream


def test_a_text_line() -> None:
    stream = configured()
    logs.get("raft").info("became leader", term=3, member="8e9e05c52164694d")
    assert re.fullmatch(LINE_START + "INFO  raft became leader term=3 member=8e9e05c52164694d\n", stream.getvalue())


def test_a_json_line() -> None:
    stream = configured(line_format="json")
    logs.get("raft").warning("slow disk", seconds=1.5, file="a b", url=Url("http", "a", 1), gone=None, ok=True)
    event = json.loads(stream.getvalue())
    assert re.fullmatch(LINE_START.strip(), event.pop("ts"))
    assert event == {
        "level": "warn",
        "component": "raft",
        "msg": "slow disk",
        "seconds": 1.5,
        "file": "a b",
        "url": "http://a:1",
        "gone": None,
        "ok": True,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        (Url("http", "127.0.0.1", 80), "http://127.0.0.1:80"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("line\nbreak\x1b[31m", '"line\\nbreak\\u001b[31m"'),
        (b"k\xff", '"k\\\\xff"'),
        ("é", '"\\u00e9"'),
        (None, "null"),
        (True, "true"),
        (-1, "-1"),
    ],
)
def test_values_in_text(value: object, shown: str) -> None:
    stream = configured()
    logs.get("x").info("m", value=value)
    assert stream.getvalue().endswith(f" m value={shown}\n")
    assert stream.getvalue().count("\n") == 1


def test_a_message_is_one_line_and_no_format() -> None:
    stream = configured()
    logs.get("x").info("100%s\nforged line")
    assert stream.getvalue().endswith("INFO  x 100%s\\nforged line\n")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["DEBUG", "INFO", "WARN", "ERROR"]),
        ("info", ["INFO", "WARN", "ERROR"]),
        ("warn", ["WARN", "ERROR"]),
        ("error", ["ERROR"]),
    ],
)
def test_levels(level: str, heard: list[str]) -> None:
    stream = configured(level)
    log = logs.get("x")
    log.debug("m")
    log.info("m")
    log.warning("m")
    log.error("m")
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == heard
    assert log.is_debug() is (level == "debug")


def test_a_bug_logs_its_traceback_in_one_field() -> None:
    stream = configured()
    try:
        raise ZeroDivisionError("x")
    except ZeroDivisionError:
        logs.get("x").exception("stops", code=1)
    assert stream.getvalue().count("\n") == 1
    assert re.search(r' ERROR x stops code=1 traceback="Traceback .*ZeroDivisionError: x"\n$', stream.getvalue())


def test_a_library_is_heard_from_warning_up_in_the_same_form() -> None:
    stream = configured("debug")
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("aiohttp.server").warning("odd: %s", "x")
    assert re.fullmatch(LINE_START + "WARN  aiohttp.server odd: x\n", stream.getvalue())


def test_configuring_again_replaces() -> None:
    first, second = configured(), configured()
    logs.get("x").info("m")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_a_stream_that_cannot_be_written_to_is_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    stream = configured()
    stream.close()
    logs.get("x").info("m")
    assert capsys.readouterr() == ("", "")


def test_a_field_cannot_pose_as_part_of_the_event() -> None:
    configured()
    with pytest.raises(AssertionError, match="reserved"):
        logs.get("x").info("m", level="error")
