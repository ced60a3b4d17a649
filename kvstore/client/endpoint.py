"""Where a server is: a URL, read the way Go's net/url reads it, because its errors are part of etcdctl's output."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from kvstore.client.errors import InvalidEndpoint

DEFAULT_PORTS = {"http": 80, "https": 443}
_HEX = frozenset("0123456789abcdefABCDEF")
#: What Go leaves as it is in a path, besides letters, digits and -_.~
_PLAIN = "/$&+,:;=@"


class Endpoint(NamedTuple):
    """A server's address. `path` is in front of every request's path; `scheme` may be one that nobody can speak."""

    scheme: str
    host: str
    port: int
    path: str
    url: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"

    def target(self, path: str) -> str:
        """The request target for `path`, which is not yet quoted and begins with a slash."""
        return quote(canonical(self.path + path), safe=_PLAIN, errors="surrogateescape")

    def full(self, target: str) -> str:
        """The URL of a target of this server, as curl wants it."""
        return f"{self.scheme}://{self.url.split('://', 1)[-1].split('/', 1)[0]}{target}"


def parse(text: str) -> Endpoint:
    """Raises InvalidEndpoint with Go's words."""
    scheme, rest = _scheme(text)
    _check_escapes(text, rest)
    if not scheme:
        scheme = "http"
        if not rest.startswith("//"):
            if ":" in rest.split("/", 1)[0]:
                raise InvalidEndpoint(f'parse "{text}": first path segment in URL cannot contain colon')
            rest = f"///{rest.lstrip('/')}"
        text = f"http:{rest}"
    if not rest.startswith("//"):
        return Endpoint(scheme, "", 0, "", text)
    authority, slash, path = rest[2:].partition("/")
    path = (slash + path).partition("?")[0].partition("#")[0]
    host, port = _host_and_port(text, authority.rpartition("@")[2])
    return Endpoint(scheme, host, port or DEFAULT_PORTS.get(scheme, 0), path, text)


def _scheme(text: str) -> tuple[str, str]:
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise InvalidEndpoint(f"parse {text!r}: net/url: invalid control character in URL")
    for place, char in enumerate(text):
        if char == ":":
            if place == 0:
                raise InvalidEndpoint(f'parse "{text}": missing protocol scheme')
            return text[:place].lower(), text[place + 1 :]
        if not (char.isascii() and (char.isalpha() or (place and (char.isdigit() or char in "+-.")))):
            break
    return "", text


def _check_escapes(text: str, rest: str) -> None:
    place = rest.find("%")
    while place >= 0:
        if not (len(rest) >= place + 3 and set(rest[place + 1 : place + 3]) <= _HEX):
            raise InvalidEndpoint(f'parse "{text}": invalid URL escape "{rest[place : place + 3]}"')
        place = rest.find("%", place + 3)


def _host_and_port(text: str, authority: str) -> tuple[str, int]:
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket:
            raise InvalidEndpoint(f"parse \"{text}\": missing ']' in host")
    else:
        host, colon, number = authority.rpartition(":")
        host, port = (host, colon + number) if colon else (number, "")
    digits = port.removeprefix(":") or "0"
    if port and not (port.startswith(":") and digits.isascii() and digits.isdigit()):
        raise InvalidEndpoint(f'parse "{text}": invalid port "{port}" after host')
    return host, int(digits[:9])


def canonical(path: str) -> str:
    """Go's path.Clean, but for a trailing slash, which means something in etcd's key space."""
    if not path.startswith("/"):
        path = "/" + path
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    clean = "/" + "/".join(parts)
    return clean + "/" if path.endswith("/") and clean != "/" else clean
