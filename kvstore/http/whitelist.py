"""Which hosts a request may name while nothing else proves that it was meant for this server.

A page in a browser can let its own name lead to 127.0.0.1 and then speak to what listens there ("DNS rebinding",
CVE-2018-5702). Its requests name the page's host, and are refused where `--host-whitelist` lists others. With TLS the
certificate has the same effect.
"""

from __future__ import annotations

from kvstore import logs
from kvstore.http.reply import TEXT_ERROR, Answer

log = logs.get("http")


class Whitelist:
    """`hosts`: without ports; empty, or with `*` among them, it allows all."""

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self.allows_all = not hosts or "*" in hosts

    def refusal(self, header: bytes | None) -> Answer | None:
        """The answer to a request with this Host header, if it is refused."""
        if self.allows_all:
            return None
        host = _without_port((header or b"").decode("latin-1"))
        if host in self._hosts:
            return None
        log.debug("refuses a request that names a host beyond --host-whitelist", host=host)
        return Answer(421, TEXT_ERROR, b"this host name is not in --host-whitelist, and the connection has no TLS\n")


def _without_port(host: str) -> str:
    """As Go's SplitHostPort: without a port the brackets of an IPv6 address stay."""
    name, colon, port = host.rpartition(":")
    if not colon or (":" in name and not (name.startswith("[") and name.endswith("]"))) or "]" in port:
        return host
    return name.removeprefix("[").removesuffix("]")
