"""Keys as environment variables. It knows no cluster and no shell.

A key's name is its path below the prefix, as in envconsul: below `/web`, `/web/db/url` is `db/url`, and with
`sanitize` and `upcase` DB_URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_UNUSUAL = re.compile("[^a-zA-Z0-9_]")


class Naming(NamedTuple):
    """`sanitize`: what is no letter, digit or underscore becomes an underscore, and a name never begins with a digit.
    `upcase`: a to z become capitals."""

    upcase: bool = False
    sanitize: bool = False


class Unfit(Exception):
    """A key that cannot be an environment variable; one line."""


def name(key: str, prefix: str, naming: Naming) -> str:
    """`key` is `prefix` itself, which is named by its last part, or below it. Raises Unfit."""
    below = key.removeprefix(prefix.rstrip("/")).strip("/")
    text = below or key.rsplit("/", 1)[-1]
    if naming.sanitize:
        text = _UNUSUAL.sub("_", text)
        text = f"_{text}" if text[:1].isdigit() else text
    if naming.upcase:
        text = text.upper() if text.isascii() else "".join(c.upper() if c.isascii() else c for c in text)
    if not text or "=" in text or "\0" in text:
        raise Unfit(f"{key} cannot be the name of a variable; --sanitize makes it one")
    return text


class Variables(NamedTuple):
    """`values` by name. `keys`: where each came from. `hidden`: pairs of keys of one prefix that have one name; the
    second one won."""

    values: Mapping[str, str]
    keys: Mapping[str, str]
    hidden: tuple[tuple[str, str], ...]


def variables(prefixes: Iterable[tuple[str, Iterable[tuple[str, str]]]], naming: Naming) -> Variables:
    """Of each prefix its keys and values. Later prefixes win, and within one the later key. Raises Unfit."""
    values: dict[str, str] = {}
    keys: dict[str, str] = {}
    hidden = []
    for prefix, pairs in prefixes:
        here: dict[str, str] = {}
        for key, value in sorted(pairs):
            called = name(key, prefix, naming)
            if "\0" in value:
                raise Unfit(f"the value of {key} holds a NUL, which no variable can")
            if called in here:
                hidden.append((here[called], key))
            here[called] = keys[called] = key
            values[called] = value
    return Variables(values, keys, tuple(hidden))
