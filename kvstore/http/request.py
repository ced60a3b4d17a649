"""A request as handlers see it, whatever connection it came over."""

from __future__ import annotations

from typing import Protocol

#: A body that costs next to nothing, whatever is in it.
SHORT_BODY_BYTES = 16 << 10


class BodyError(Exception):
    """The body cannot be had; `cause` is etcd's wording of why."""

    def __init__(self, cause: bytes) -> None:
        super().__init__(cause)
        self.cause = cause


class Request(Protocol):
    """`path` is percent-decoded and clean, `query` is raw."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> bytes: ...

    @property
    def query(self) -> bytes: ...

    @property
    def content_type(self) -> bytes | None: ...

    @property
    def has_short_body(self) -> bool:
        """Whether its head says that at most SHORT_BODY_BYTES follow."""

    @property
    def authorization(self) -> bytes | None:
        """The Authorization header."""

    @property
    def common_name(self) -> bytes | None:
        """Of the certificate that the client showed and that was found good; None without one."""

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyError when it is longer than `limit` bytes, or broken.

        A client that waits for `100 Continue` gets it now; such a client sends no body before. The load
        counts the bytes until `release_body`.
        """

    def release_body(self) -> None:
        """The body is parsed, and forgotten. Idempotent; called at the end of each request in any case."""
