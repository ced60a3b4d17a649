"""Where templates go: from SRC:DEST[:RELOAD] words, and from a folder of TOML files in confd's fields."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kvctl.command import Context, Failure

_MODE = re.compile("0?[0-7]{1,4}")


class Ownership(NamedTuple):
    """None: as it is."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


class Resource(NamedTuple):
    """`check` and `reload` are commands for sh, or empty; in `check`, {{.src}} stands for the new file. `keys` are read
    whole, below `prefix`."""

    src: str
    dest: str
    reload: str = ""
    check: str = ""
    prefix: str = ""
    ownership: Ownership = Ownership()
    keys: tuple[str, ...] = ()


def resources(context: Context) -> list[Resource]:
    """All that the command line names. Raises Failure."""
    flags = context.flags
    fields = {"owner": flags.text("owner"), "group": flags.text("group"), "mode": flags.text("mode")}
    common = {name: value for name, value in fields.items() if value}
    found = [_of_word(word, flags.text("prefix"), flags.text("check"), common) for word in context.words]
    if folder := flags.text("confdir"):
        found += _of_folder(folder)
    if not found:
        raise Failure("SRC:DEST[:RELOAD] or --confdir is needed")
    return found


def _of_word(word: str, prefix: str, check: str, fields: Mapping[str, Any]) -> Resource:
    src, _, rest = word.partition(":")
    dest, _, reload = rest.partition(":")
    if not src or not dest:
        raise Failure(f"{word!r} is not SRC:DEST[:RELOAD]")
    return Resource(src, dest, reload, check, prefix, _ownership(fields, "the command line"))


def _of_folder(folder: str) -> list[Resource]:
    """As confd has it: DIR/conf.d/*.toml, with the templates in DIR/templates."""
    resources = os.path.join(folder, "conf.d")
    try:
        names = sorted(name for name in os.listdir(resources) if name.endswith(".toml"))
    except OSError as error:
        raise Failure(f"{resources} cannot be read: {error.strerror}") from None
    if not names:
        raise Failure(f"{resources} holds no template resource, which is a file that ends in .toml")
    return [_of_file(os.path.join(resources, name), os.path.join(folder, "templates")) for name in names]


def _of_file(path: str, templates: str) -> Resource:
    import tomllib

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file).get("template")
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise Failure(f"{path} has no [template]")
    for field, value in table.items():
        if field not in FIELDS:
            raise Failure(f"{path}: {field} is not known; there are {', '.join(FIELDS)}")
        if not FIELDS[field](value):
            raise Failure(f"{path}: {field} has a value of the wrong kind: {value!r}")
    for field in ("src", "dest"):
        if not table.get(field):
            raise Failure(f"{path}: {field} is missing")
    return Resource(
        os.path.join(templates, table["src"]),
        table["dest"],
        table.get("reload_cmd", ""),
        table.get("check_cmd", ""),
        table.get("prefix", ""),
        _ownership(table, path),
        tuple(table.get("keys", ())),
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_keys(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


FIELDS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("src", "dest", "prefix", "owner", "group", "mode", "check_cmd", "reload_cmd"), _is_text),
    "uid": _is_number,
    "gid": _is_number,
    "keys": _are_keys,
}


def _ownership(fields: Mapping[str, Any], where: str) -> Ownership:
    """Names and numbers go for owner and group. Raises Failure."""
    uid, gid, mode = fields.get("uid"), fields.get("gid"), None
    if owner := fields.get("owner"):
        try:
            uid = int(owner) if owner.isdecimal() else pwd.getpwnam(owner).pw_uid
        except KeyError:
            raise Failure(f"{where}: there is no user {owner}") from None
    if group := fields.get("group"):
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise Failure(f"{where}: there is no group {group}") from None
    if text := fields.get("mode"):
        if not _MODE.fullmatch(text):
            raise Failure(f"{where}: {text!r} is no mode, as 0644 is one")
        mode = int(text, 8)
    return Ownership(uid, gid, mode)
