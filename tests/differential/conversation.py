"""One connection to a server, and its answers as the bytes they came in.

Raw sockets: an HTTP library would refuse half of what is asked here. Knows nothing of keys.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType

ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[bytes, bytes]  # names in lower case
    body: bytes


class Conversation:
    """A kept-alive connection. TimeoutError when the server says nothing for ANSWER_SECONDS."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def response(self, method: str) -> Response:
        status, headers = self.head()
        if method == "HEAD":
            return Response(status, headers, b"")
        if headers.get(b"transfer-encoding") == b"chunked":
            pieces = []
            while piece := self.chunk():
                pieces.append(piece)
            return Response(status, headers, b"".join(pieces))
        return Response(status, headers, self._exactly(int(headers.get(b"content-length", b"0"))))

    def head(self) -> tuple[int, dict[bytes, bytes]]:
        """Status and headers; the body is still to be read."""
        status = int(self._line().split(b" ")[1])
        headers: dict[bytes, bytes] = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            assert name.lower() not in headers, f"{name!r} twice"
            headers[name.lower()] = value.strip()
        return status, headers

    def chunk(self) -> bytes:
        """The next chunk of a body; empty: it is over."""
        piece = self._exactly(int(self._line(), 16))
        assert self._line() == b""
        return piece

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def _line(self) -> bytes:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError(f"the connection ended within {line!r}")
        return line[:-2]

    def _exactly(self, count: int) -> bytes:
        piece = self._reader.read(count)
        if len(piece) != count:
            raise ConnectionError(f"the connection ended within {piece!r}")
        return piece
