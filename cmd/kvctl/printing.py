"""What etcdctl prints of a response, in its three formats. JSON is Go's, escapes and order of fields included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvctl.command import Context
from kvstore.client import Node, Response
from kvstore.client.gojson import go_json


def print_response(context: Context, response: Response) -> None:
    """An unknown format is complained about, and not an error."""
    if context.output == "json":
        context.say(response_json(response))
    elif context.output in ("simple", "extended"):
        lines = _simple(response) if context.output == "simple" else _extended(response)
        context.say("\n".join(lines))
    else:
        context.complain(f"Unsupported output format: {context.output}")


def _simple(response: Response) -> Iterator[str]:
    if response.action == "delete":
        yield f"PrevNode.Value: {response.prev_node.value if response.prev_node else ''}"
    else:
        yield response.node.value


def _extended(response: Response) -> Iterator[str]:
    node = response.node
    yield f"Key: {node.key}"
    yield f"Created-Index: {node.created_index}"
    yield f"Modified-Index: {node.modified_index}"
    if response.prev_node is not None:
        yield f"PrevNode.Value: {response.prev_node.value}"
    yield f"TTL: {node.ttl}"
    yield f"Index: {response.etcd_index}"
    if response.action != "delete":
        yield ""
        yield node.value


def response_json(response: Response) -> str:
    previous = None if response.prev_node is None else _node(response.prev_node)
    return go_json({"action": response.action, "node": _node(response.node), "prevNode": previous})


def _node(node: Node) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": node.key}
    if node.is_dir:
        fields["dir"] = True
    fields["value"] = node.value
    fields["nodes"] = None if node.nodes is None else [_node(child) for child in node.nodes]
    fields["createdIndex"] = node.created_index
    fields["modifiedIndex"] = node.modified_index
    if node.expiration:
        fields["expiration"] = node.expiration
    if node.ttl:
        fields["ttl"] = node.ttl
    return fields


def go_quoted(raw: bytes) -> str:
    """Go's %q. What is sent as a body is a form or JSON: ASCII, or JSON's UTF-8."""
    text = raw.decode("utf-8", "surrogateescape")
    return '"' + "".join(map(_quoted, text)) + '"'


_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}


def _quoted(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"
