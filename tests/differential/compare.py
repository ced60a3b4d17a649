"""Whether two bodies say the same: byte for byte, but for the order of a listing and for the time of day.

Knows nothing of requests and servers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

TOLERANCE_SECONDS = 20.0  # between a server's clock and ours: a machine with a lot to do

_EXPIRATION = re.compile(rb'"expiration":"[^"]*"')
_TTL = re.compile(rb'"ttl":-?[0-9]+')
_LATE_TTL = re.compile(rb'"ttl":-?[0-9]+,')
_TIME = re.compile(r"(.{19})(\.[0-9]{1,9})?Z")


def difference(left: bytes, right: bytes, in_order: bool) -> str:
    """What is not the same, or nothing. `in_order`: listings have to be in the same order."""
    if left == right:
        return ""
    if not (_is_json(left) and _is_json(right)):
        return f"{left!r}\n{right!r}"
    masked = [_mask(body) for body in (left, right)]
    times: tuple[list[float], list[float]] = [], []
    shapes = [_shape(_parse(body), in_order, found) for body, found in zip((left, right), times, strict=True)]
    same_bytes = masked[0] == masked[1] if in_order else Counter(masked[0]) == Counter(masked[1])
    same_times = len(times[0]) == len(times[1]) and all(
        abs(one - other) <= TOLERANCE_SECONDS for one, other in zip(*times, strict=True)
    )
    return "" if same_bytes and same_times and shapes[0] == shapes[1] else f"{left!r}\n{right!r}"


def _is_json(body: bytes) -> bool:
    return body.startswith(b"{") and body.endswith(b"}\n") and body.count(b"\n") == 1


def _parse(body: bytes) -> Any:
    """Objects as lists of pairs: the order of fields counts."""
    return json.loads(body, object_pairs_hook=list)


def _mask(body: bytes) -> bytes:
    body = _EXPIRATION.sub(b'"expiration":""', body)
    if body.startswith(b'{"action":"expire"'):
        body = _LATE_TTL.sub(b"", body)  # there only when the sweep came a second too late
    return _TTL.sub(b'"ttl":0', body)


def _shape(item: Any, in_order: bool, times: list[float]) -> Any:
    """The item with its times moved to `times`, and its listings sorted unless their order counts."""
    if not isinstance(item, list):
        return item
    pairs: list[Any] = []
    is_expiry = ("action", "expire") in item
    for pair in item:
        name, value = pair
        if name == "expiration":
            times.append(_seconds(value))
            pairs.append(name)
        elif name == "ttl":
            times.append(value)
            pairs.append(name)
        elif name == "nodes":
            listed = value if in_order else sorted(value, key=_key_first)
            pairs.append((name, [_shape(node, in_order, times) for node in listed]))
        elif name == "prevNode" and is_expiry:
            pairs.append((name, _shape([one for one in value if one[0] != "ttl"], in_order, times)))
        else:
            pairs.append((name, _shape(value, in_order, times)))
    return pairs


def _key_first(node: Any) -> str:
    """Two keys of broken UTF-8 may look alike: then their indices tell them apart."""
    return json.dumps([pair for pair in node if pair[0] in ("key", "createdIndex", "modifiedIndex")])


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text)
    assert match is not None, text
    moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    return (moment - datetime.fromtimestamp(0, UTC)).total_seconds() + float(match[2] or 0)
