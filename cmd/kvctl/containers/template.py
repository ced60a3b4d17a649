"""Jinja2 templates over what was read of the key space. Imported by `render` alone, since Jinja2 takes its time.

A template is filled from the answers that are there; a key that was not read yet is named by `NotRead`, and the
template is filled again when it was. So templates need no thread, and what they read is known.
Sandboxed: values are never code, and a template can call nothing but these functions and filters.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kvctl.containers.source import Subject
from kvctl.containers.tree import Tree, clean

Answers = Mapping[Subject, Tree | None]
_GLOB = re.compile(r"[*?\[]")
_NO_DEFAULT: Any = object()


class NotRead(Exception):
    """The template needs this to be read."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject.key)
        self.subject = subject


class TemplateError(Exception):
    """FILE:LINE: what is wrong; one line."""


class _Missing(Exception):
    """What a function was asked for is not there."""


class Pair(NamedTuple):
    """`key` is whole, `name` is its path below what was asked for."""

    key: str
    name: str
    value: str


class Template:
    """`path` of the file; `prefix` goes in front of all keys. Other templates of its folder can be included."""

    def __init__(self, path: str, prefix: str, environment: Mapping[str, str]) -> None:
        self.path = path
        self._prefix = prefix
        self._environment = environment
        self._folder = os.path.dirname(path) or "."
        self._jinja = ImmutableSandboxedEnvironment(
            loader=jinja2.FileSystemLoader(self._folder),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
        )

    def fill(self, answers: Answers) -> tuple[str, frozenset[Subject]]:
        """The text, and what it was made from. Raises NotRead, TemplateError."""
        functions = _Functions(answers, self._prefix, self._environment)
        try:
            template = self._jinja.get_template(os.path.basename(self.path))
            text = template.render({name: getattr(functions, name) for name in _Functions.NAMES})
        except NotRead:
            raise
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"{error.filename or self.path}:{error.lineno}: {_line(error.message)}") from None
        except jinja2.TemplateNotFound as error:
            raise TemplateError(self._unread(str(error.name), self._place(error.__traceback__))) from None
        except Exception as error:  # whatever an expression can raise; all of it is the template's fault
            kind = "" if isinstance(error, (_Missing, jinja2.TemplateError)) else f"{type(error).__name__}: "
            raise TemplateError(f"{self._place(error.__traceback__)}: {kind}{_line(error)}") from None
        return text, frozenset(functions.used)

    def _unread(self, name: str, place: str) -> str:
        """Why a template is not there, which Jinja2 does not say; `place` is where it is asked for."""
        is_own = name == os.path.basename(self.path)
        path = self.path if is_own else os.path.join(self._folder, name)
        if os.pardir in name.split("/"):
            why = "it must lie in the folder of the template that includes it"
        else:
            try:
                os.stat(path)
                why = "it is no file"
            except OSError as problem:
                why = str(problem.strerror)
        return f"{path}: {why}" if is_own else f"{place}: the template {path} cannot be read: {why}"

    def _place(self, trace: TracebackType | None) -> str:
        """Of the innermost frame that is a template's: Jinja2 gives those the template's file and line."""
        place = self.path
        while trace is not None:
            path = trace.tb_frame.f_code.co_filename
            if os.path.dirname(path) == self._folder or path == self.path:
                place = f"{path}:{trace.tb_lineno}"
            trace = trace.tb_next
        return place


def _line(error: object) -> str:
    return " ".join(str(error).split())


class _Functions:
    """What a template can call; `used` is what it read."""

    NAMES = ("get", "gets", "ls", "lsdir", "exists", "env", "json")

    def __init__(self, answers: Answers, prefix: str, environment: Mapping[str, str]) -> None:
        self.used: set[Subject] = set()
        self._answers = answers
        self._prefix = prefix
        self._environment = environment

    def get(self, key: str, default: Any = _NO_DEFAULT) -> Any:
        """A key's value."""
        full, found = self._find(key, "value")
        if found is None and default is not _NO_DEFAULT:
            return default
        if found is None:
            raise _Missing(f"the key {full} does not exist")
        if found.value is None:
            raise _Missing(f"{full} is a directory; gets, ls and lsdir read directories")
        return found.value

    def gets(self, key: str) -> list[Pair]:
        """All keys below a directory, or those that a pattern names: * and ? stand for parts of one name."""
        base, is_wanted = _pattern(key)
        full, found = self._find(base, "all")
        if found is None:
            raise _Missing(f"the directory {full} does not exist")
        whole = full.rstrip("/") + "/"
        pairs = (Pair(path, path.removeprefix(whole), value) for path, value in found.files())
        return [pair for pair in pairs if is_wanted.fullmatch(pair.name)]

    def ls(self, key: str) -> list[str]:
        """The names in a directory."""
        return [child.name for child in self._children(key)]

    def lsdir(self, key: str) -> list[str]:
        """The names of the directories in a directory."""
        return [child.name for child in self._children(key) if child.value is None]

    def exists(self, key: str) -> bool:
        return self._find(key, "names")[1] is not None

    def env(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        """A variable of kvctl's own environment."""
        if name not in self._environment and default is _NO_DEFAULT:
            raise _Missing(f"the environment variable {name} is not set")
        return self._environment.get(name, default)

    def json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise _Missing(f"no JSON: {error}") from None

    def _children(self, key: str) -> tuple[Tree, ...]:
        full, found = self._find(key, "names")
        if found is None or found.value is not None:
            raise _Missing(f"the directory {full} does not exist")
        return found.children

    def _find(self, key: str, extent: Literal["value", "names", "all"]) -> tuple[str, Tree | None]:
        if not isinstance(key, str):
            raise _Missing(f"a key must be a text, not {key!r}")
        full = clean(f"{self._prefix}/{key}")
        above = full
        while True:
            subject = Subject(above, "all")
            if subject in self._answers:
                self.used.add(subject)
                answer = self._answers[subject]
                return full, None if answer is None else answer.find(full)
            if above == "/":
                break
            above = posixpath.dirname(above)
        subject = Subject(full, extent)
        if subject not in self._answers:
            raise NotRead(subject)
        self.used.add(subject)
        return full, self._answers[subject]


def _pattern(key: str) -> tuple[str, re.Pattern[str]]:
    """The directory to read, and what the path below it must match."""
    match = _GLOB.search(key) if isinstance(key, str) else None
    if match is None:
        return key, re.compile(".*", re.DOTALL)
    base, _, rest = key[: match.start()].rpartition("/")
    rest = key[len(base) :].lstrip("/")
    parts = re.split(r"(\*|\?|\[[^\]]+\])", rest)
    signs = {"*": "[^/]*", "?": "[^/]"}
    expression = "".join(signs.get(part) or (part if part[:1] == "[" else re.escape(part)) for part in parts)
    try:
        return base or "/", re.compile(expression)
    except re.error:
        raise _Missing(f"no pattern: {key}") from None
