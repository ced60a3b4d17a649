"""What can go wrong when a cluster is asked, as types.

`str()` of each is one line fit for an operator, except `Unreachable`, whose text is etcd's own and names one endpoint
a line. Nothing here knows how a program prints or ends.
"""

from __future__ import annotations

from collections.abc import Sequence

EVENT_INDEX_CLEARED = 401


class ClientError(Exception):
    """Any of the below."""


class KeyspaceError(ClientError):
    """The key space refused: etcd's v2 error. Nothing was changed."""

    def __init__(self, code: int, message: str, cause: str, index: int, status: int = 400) -> None:
        super().__init__(f"{code}: {message} ({cause}) [{index}]")
        self.code = code
        self.message = message
        self.cause = cause
        self.index = index
        self.status = status


class Refused(ClientError):
    """Members, users or roles: the request was refused, with the server's message. Nothing was changed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class InvalidAnswer(ClientError):
    """Whoever answers is no etcd v2 server."""


class InvalidEndpoint(ClientError):
    """An endpoint that is no URL."""


class InvalidTls(ClientError):
    """A file of TLS cannot be read, or does not hold what it should."""


class NoEndpoints(ClientError):
    """The members advertise no client URL."""

    def __init__(self) -> None:
        super().__init__("client: no endpoints available")


class EndpointError(ClientError):
    """One endpoint failed. `sent`: the request may have reached it. `is_connection`: the network's failure.
    `is_tls`: the endpoint is there, and one side refused the other's certificate or TLS."""

    def __init__(self, message: str, *, sent: bool, is_connection: bool = False, is_tls: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.is_connection = is_connection
        self.is_tls = is_tls


class Interrupted(ClientError):
    """A wait had begun, and its connection broke; see `Watch`, which goes on."""


class Unreachable(ClientError):
    """No endpoint could do it; what each of them said. Nothing was changed."""

    def __init__(self, errors: Sequence[EndpointError]) -> None:
        super().__init__("client: etcd cluster is unavailable or misconfigured")
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return str(self.args[0]) + "".join(f"; error #{number}: {error}\n" for number, error in enumerate(self.errors))

    @property
    def detail(self) -> str:
        return "".join(f"error #{number}: {error}\n" for number, error in enumerate(self.errors))

    @property
    def is_connection(self) -> bool:
        return all(error.is_connection for error in self.errors)


class DeadlineExceeded(ClientError):
    """The total time is up. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__("context deadline exceeded")


class OutcomeUnknown(ClientError):
    """A write was sent and its answer never came: it may have happened, may not, or may still.

    It is not sent again: a second one could undo what somebody else wrote in between. Whoever can tell by reading
    whether it happened should read.
    """

    def __init__(self, reason: ClientError) -> None:
        super().__init__(f"the outcome of the write is not known, it may have happened: {reason}")
        self.reason = reason
