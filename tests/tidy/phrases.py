"""Phrases that follow another language's syntax, or that name a thing by a clause instead of a noun (docs/style.md).

A pattern is matched against text whose line breaks are blanks. Some matches are good English where they stand: the
allowance holds those too, and nothing asks for zero.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_DETERMINER = "the|an?|it|its|they|their|them|this|that|these|those|there|each|another|one|we|what|which|no|nothing"
_CLAUSE = "is|are|was|were|has|comes?|came|it|they|we|others|goes|stands|waits|arrives?|arrived"
_OWNER = "aiohttp|etcd|mypy|caller|client|driver|kernel|member|peer|system|transport"

#: Each phrase, by the words that replace it.
PATTERNS = {
    "name the person or program": r"\bwho(?:m)?ever\b|(?:^|[.:;] )who (?:is|was|has|may|asks|wants|only)\b|\bto who\b",
    "a client, no member, the passive": r"\b(?:no|some|any|every)body\b",
    "the noun, not a clause": rf"\bwhat (?:{_CLAUSE})\b",
    "after, following": rf"\bbehind (?:index|{_DETERMINER})\b",
    "immediately, or in one batch": r"\bat once\b",
    "because, or a full stop": rf"[,;] for (?:{_DETERMINER})\b",
    "notify, record, report": r"\bt(?:ells?|old|elling)\b|\bsays (?:who|what|which|so|how|why|where|whether|nothing)\b",
    "return, show, yield": r"\bgives\b",
    "absent, invalid, None if": r"\b(?:is|are|was|were) none\b",
    "does not know, has no": r"\bknows? (?:no|nothing|neither|not)\b",
    "the noun again": r"\bone (?:that|who|which)\b|\bone of (?:them|these|those)\b|\bthose (?:that|who)\b",
    "belongs to, is handed to": rf"\b(?:is|are|be|was|were) (?:the |an? )?(?:{_OWNER})'s(?= ?[.,;:)]|$)",
    "sweep, poll, check": r"\b(?:a|the|next|last|first|two|each|no) looks?\b|\blook(?:s|ed)? (?:at|after|again)\b",
    "again": r"\banew\b",
    "during, in the middle": r"\bmidst\b",
    "the number of, as long as": r"\bso (?:many|much|long|few)\b(?! that\b| as\b)",
    "a whole sentence": r"^(?:Of (?:one|an?|the|what|all|its|whom)\b|(?:None|True|False): )",
    "not ..., but in this order": r"(?:^|[.] )Not [a-z]+ (?:are|is)\b",
}
_COMPILED = {meaning: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for meaning, pattern in PATTERNS.items()}

_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LEADING = re.compile(r"^#[:!]?\s*")


class Hit(NamedTuple):
    """One phrase in one text: the line its text begins at, what it should become, and the words around it."""

    line: int
    meaning: str
    found: str


def hits(path: Path, all_strings: bool) -> list[Hit]:
    """The phrases of a Markdown, Python or Cython file; of Python's strings only the docstrings, or all."""
    source = path.read_text()
    if path.suffix == ".md":
        texts = paragraphs(source)
    elif path.suffix == ".py":
        texts = (*comments(source), *strings(source, all_strings))
    else:
        texts = tuple(
            (number, line.partition("#")[2].lstrip(": ")) for number, line in enumerate(source.splitlines(), 1)
        )
    return sorted(hit for line, text in texts for hit in in_text(line, text))


def in_text(line: int, text: str) -> Iterator[Hit]:
    flat = " ".join(text.split())
    for meaning, pattern in _COMPILED.items():
        for match in pattern.finditer(flat):
            yield Hit(line, meaning, flat[max(0, match.start() - 30) : match.end() + 30])


def paragraphs(source: str) -> tuple[tuple[int, str], ...]:
    """The text of a page without its code, in paragraphs."""
    prose = _CODE.sub(lambda code: "\n" * code[0].count("\n") or "CODE", source)
    found, line = [], 1
    for paragraph in prose.split("\n\n"):
        found.append((line, paragraph))
        line += paragraph.count("\n") + 2
    return tuple(found)


def comments(source: str) -> tuple[tuple[int, str], ...]:
    """The comments of a module; those on consecutive lines are one text."""
    found: list[tuple[int, str]] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = _LEADING.sub("", token.string)
            if token.start[0] == last + 1 and not token.line[: token.start[1]].strip():
                found[-1] = (found[-1][0], f"{found[-1][1]}\n{text}")
            else:
                found.append((token.start[0], text))
            last = token.start[0]
    return tuple(found)


def strings(source: str, all_strings: bool) -> tuple[tuple[int, str], ...]:
    """The docstrings of a module, and with `all_strings` every string of at least three words."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(ast.parse(source)):
        if all_strings:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) >= 3:
                found.append((node.lineno, node.value))
        elif isinstance(node, documented) and (text := ast.get_docstring(node)):
            found.append((node.body[0].lineno, text))
    return tuple(found)
