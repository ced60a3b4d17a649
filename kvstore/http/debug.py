"""`/debug/vars` and `/config/local/log`: a look inside, and the level of the logs while the server runs."""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from kvstore import logs
from kvstore.http.backend import Backend
from kvstore.http.json_body import JsonTooLong, json_body
from kvstore.http.reply import JSON, Answer
from kvstore.http.request import BodyError, Request
from kvstore.http.texts import quote
from kvstore.http.v2.stats import STATES

#: etcd's levels, each with its short names, and ours.
_LEVELS = {
    **dict.fromkeys(("CRITICAL", "C", "ERROR", "0", "E"), "error"),
    **dict.fromkeys(("WARNING", "1", "W"), "warn"),
    **dict.fromkeys(("NOTICE", "2", "N", "INFO", "3", "I"), "info"),
    **dict.fromkeys(("DEBUG", "4", "D", "TRACE", "5", "T"), "debug"),
}
_VARIABLES = b"Content-Type: application/json; charset=utf-8\r\n"
_CHANGED = Answer(204, b"", b"")
_NOT_JSON = Answer(400, JSON, b'{"message":"Invalid json body"}')

log = logs.get("http")


class DebugApi:
    """The handlers of one member."""

    def __init__(self, backend: Backend, max_body: int) -> None:
        self._backend = backend
        self._max_body = max_body

    async def vars(self, request: Request) -> Answer:
        """What Go's expvar shows of an etcd, as far as there is such a thing here."""
        numbers = self._backend.numbers()
        shown = {
            "cmdline": sys.argv,
            "file_descriptor_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "memstats": {"MaxResidentKiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss},
            "raft.status": {
                "id": f"{numbers.member:x}",
                "term": numbers.term,
                "commit": numbers.committed,
                "applied": numbers.applied,
                "lead": f"{numbers.leader:x}",
                "raftState": STATES[numbers.role],
            },
        }
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in shown.items())
        return Answer(200, _VARIABLES, f"{{\n{lines}\n}}\n".encode())

    async def log_level(self, request: Request) -> Answer:
        """`{"Level": "DEBUG"}`, in any case; what follows the object is ignored, as in etcd."""
        try:
            asked = _level(await json_body(request, self._max_body))
        except JsonTooLong as error:
            return Answer(400, JSON, b'{"message":"%b"}' % error.cause)
        except (BodyError, ValueError, RecursionError):
            return _NOT_JSON
        level = _LEVELS.get(asked.upper())
        if level is None:
            text = quote(asked.encode("utf-8", "replace"))
            return Answer(400, JSON, b'{"message":"Invalid log level %b"}' % text)
        logs.set_level(level)
        log.info("logs from another level up", least=level)
        return _CHANGED


def _level(body: bytes) -> str:
    """Raises ValueError where Go's decoder would fail."""
    document: Any = json.JSONDecoder().raw_decode(body.decode("utf-8", "replace").lstrip(" \t\r\n"))[0]
    level: Any = ""
    if document is not None and not isinstance(document, dict):
        raise ValueError("not an object")
    for name, given in (document or {}).items():
        if name.lower() == "level" and given is not None:
            level = given
    if not isinstance(level, str):
        raise ValueError("not a text")
    return level
