"""Variables as text, quoted for who reads it. Pure; names and values are text without NUL.

- `export`: lines for a POSIX shell.
- `dotenv`: for docker compose, python-dotenv and their like. Literal single quotes wherever they will do, since all
  readers agree on those; else double quotes with backslashes. A shell reads it the same.
- `systemd`: for EnvironmentFile=. Double quotes, with backslashes before what systemd takes for special.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

from kvctl.containers.variables import Unfit

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PLAIN = re.compile(r"[a-zA-Z0-9_./:@%+,-]+")
_SPECIAL = re.compile(r'(["\\$`])')


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _dotenv(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    if "'" in value or "\\" in value:
        return f"{name}={_double(value)}"
    return f"{name}='{value}'"


def _systemd(name: str, value: str) -> str:
    return f"{name}={value if _PLAIN.fullmatch(value) else _double(value)}"


def _double(value: str) -> str:
    return '"' + _SPECIAL.sub(r"\\\1", value) + '"'


FORMATS: Mapping[str, Callable[[str, str], str]] = {"dotenv": _dotenv, "export": _export, "systemd": _systemd}


def lines(form: str, values: Mapping[str, str], keys: Mapping[str, str]) -> list[str]:
    """One variable each, by name. A value with line feeds takes several lines. Raises Unfit, which names the key."""
    for name in values:
        if not _NAME.fullmatch(name):
            raise Unfit(f"{keys[name]} would be the variable {name!r}, which no shell reads; --sanitize makes it one")
    return [FORMATS[form](name, values[name]) for name in sorted(values)]
