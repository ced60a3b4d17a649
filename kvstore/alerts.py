"""TLS contexts whose failed handshakes keep the alert that tells the other side why.

asyncio closes without sending it. Whoever dials or accepts finds it on the exception, and sends it by a descriptor of
its own. It knows nothing of files, and is cheap to import.
"""

from __future__ import annotations

import ssl
from typing import Any


class AlertingSession(ssl.SSLObject):
    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as problem:
            problem.alert = self.outgoing.read()  # type: ignore[attr-defined]
            raise


class AlertingContext(ssl.SSLContext):
    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *more: Any, **named: Any) -> ssl.SSLObject:
        session: AlertingSession = super().wrap_bio(incoming, outgoing, *more, **named)  # type: ignore[assignment]
        session.outgoing = outgoing
        return session


AlertingContext.sslobject_class = AlertingSession


def alert_of(problem: BaseException) -> bytes:
    """What to send to the other side before closing; empty where there is nothing to say."""
    alert: bytes = getattr(problem, "alert", b"")
    return alert
