"""Structured logs: one line an event, text or JSON, on stderr.

    log = logs.get("raft")
    log.info("became leader", term=3, member="8e9e05c52164694d")

    2026-11-23T18:00:00.123Z INFO  raft became leader term=3 member=8e9e05c52164694d

Built on the standard library's logging, so that what aiohttp or asyncio report comes out as such a line
too. Does not know what the events mean. Logging never stops the server: a line that cannot be
written is dropped.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

#: Our own loggers live below this one; everything else is a library, heard from WARNING up.
ROOT = "kvstored"

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_BARE = re.compile(r"[A-Za-z0-9_./:@%+\-,\[\]*]+")  # what a text field shows without quotes
_RESERVED = frozenset({"ts", "level", "component", "msg", "traceback"})


class Logger:
    """The events of one component of the server."""

    __slots__ = ("_logger",)

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{component}")

    def debug(self, message: str, /, **fields: object) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        self._write(logging.ERROR, message, fields)

    def exception(self, message: str, /, **fields: object) -> None:
        """An error with the current exception's traceback in one field: for our own bugs alone."""
        self._write(logging.ERROR, message, fields, with_traceback=True)

    def is_debug(self) -> bool:
        """Whether `debug` writes anything: for fields that cost something to make."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def _write(self, level: int, message: str, fields: dict[str, object], with_traceback: bool = False) -> None:
        assert _RESERVED.isdisjoint(fields), f"reserved field name in {sorted(fields)}"
        if self._logger.isEnabledFor(level):
            # The message goes in as an argument: a "%" in it is no format.
            self._logger.log(level, "%s", message, exc_info=with_traceback, extra={"fields": fields})


def get(component: str) -> Logger:
    """The logger of one component ("raft", "wal", "http" ...)."""
    return Logger(component)


def configure(level: str = "info", line_format: str = "text", stream: TextIO | None = None) -> None:
    """Send all logs to `stream` (stderr) from `level` up; replaces what an earlier call set.

    `level` is one of debug, info, warn, error; `line_format` text or json.
    """
    handler = _StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if line_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _StreamHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)


def set_level(level: str) -> None:
    """From now on events are logged from `level` up, as `configure` says it."""
    logging.getLogger().setLevel(max(logging.WARNING, _LEVELS[level]))
    logging.getLogger(ROOT).setLevel(_LEVELS[level])


class _StreamHandler(logging.Handler):
    """Writes each line in one call, so that lines of several members on one terminal do not mix."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed or full stderr must not take the server down


class TextFormatter(logging.Formatter):
    """`time LEVEL component message key=value ...`; odd values are quoted the JSON way."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [
            _timestamp(record),
            f"{_level(record).upper():5}",
            _component(record),
            _one_line(record.getMessage()),
        ]
        parts += [f"{key}={_text_value(value)}" for key, value in _fields(record).items()]
        return " ".join(parts)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, component, msg, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "ts": _timestamp(record),
            "level": _level(record),
            "component": _component(record),
            "msg": record.getMessage(),
        }
        for key, value in _fields(record).items():
            event[key] = value if value is None or isinstance(value, int | float) else _plain(value)
        return json.dumps(event, separators=(",", ":"))


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{moment.microsecond // 1000:03}Z"


def _level(record: logging.LogRecord) -> str:
    if record.levelno >= logging.ERROR:
        return "error"
    if record.levelno >= logging.WARNING:
        return "warn"
    return "info" if record.levelno >= logging.INFO else "debug"


def _component(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{ROOT}.")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = dict(getattr(record, "fields", {}))
    if record.exc_info and record.exc_info[0] is not None:
        fields["traceback"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return fields


def _plain(value: object) -> str:
    """Any value as text; bytes as what they most likely are, UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _text_value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = _plain(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]
