"""JSON as Go's encoder writes it, since etcdctl prints it and shows what it sends."""

from __future__ import annotations

import json
from typing import Any

# What Go's encoder escapes and Python's does not, or otherwise. All of it stands within strings only.
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_ESCAPE_TABLE = str.maketrans(_ESCAPES)


def go_json(document: Any) -> str:
    """Without spaces, the fields in their order, and escaped as Go does for the sake of HTML."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPE_TABLE)
    if "\\b" in text or "\\f" in text:  # Go before 1.22 has no short forms of these
        text = _long_forms(text)
    return text


def _long_forms(text: str) -> str:
    parts = text.split("\\\\")  # an escaped backslash: what follows it is no escape
    return "\\\\".join(part.replace("\\b", "\\u0008").replace("\\f", "\\u000c") for part in parts)
