"""Who was refused, and why: one line each, and not more of them than a disk can take.

Whoever reaches a port can be refused as often as they like. So in WINDOW_SECONDS each host is told of once for each
reason, there are MAX_LINES at most, and one line behind them says how many more there were.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from kvstore import logs

MAX_LINES = 20
WINDOW_SECONDS = 60.0

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "UNSUPPORTED_PROTOCOL": "it wants a version of TLS below --tls-min-version",
    "VERSION_TOO_LOW": "it wants a version of TLS below --tls-min-version",
    "NO_SHARED_CIPHER": "no cipher suite in common",
    "HTTP_REQUEST": "it speaks plain HTTP on a port for TLS",
    "HTTPS_PROXY_REQUEST": "it speaks plain HTTP on a port for TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
}
_NO_TLS = ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER")
#: OpenSSL's words that leave an operator alone.
_MORE = {
    "unable to get local issuer certificate": "signed by an authority that is not trusted here",
    "self-signed certificate": "self-signed",
    "unsuitable certificate purpose": "not made for this use (extended key usage)",
}


def reason(problem: OSError) -> str:
    """Why a handshake failed, in words for an operator."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        words = problem.verify_message
        return f"its certificate: {words}" + (f" ({_MORE[words]})" if words in _MORE else "")
    if isinstance(problem, ssl.SSLError) and getattr(problem, "reason", None):
        words = problem.reason.replace("_", " ").lower()
        if " alert " in words:
            return f"it ended the handshake: {words.partition(' alert ')[2]}"
        return _REASONS.get(problem.reason, words)
    return str(problem) or "it closed the connection in the handshake"


def speaks_no_tls(problem: OSError) -> bool:
    return isinstance(problem, ssl.SSLError) and getattr(problem, "reason", None) in _NO_TLS


class Refusals:
    """Of one listener."""

    def __init__(self, side: str, component: str = "tls") -> None:
        self._side = side
        self._log = logs.get(component)
        self._told: set[tuple[str, str]] = set()
        self._unsaid = 0
        self._window: asyncio.TimerHandle | None = None

    def tell(self, why: str, address: tuple[Any, ...] | None = None) -> None:
        """`address`: of the one who was refused."""
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._next_window)
        told = (address[0] if address else "", why)
        if told in self._told or len(self._told) >= MAX_LINES:
            self._unsaid += 1
            return
        self._told.add(told)
        fields = {"why": why, **({"peer": text_of(address)} if address else {}), "side": self._side}
        self._log.warning("refuses a connection", **fields)

    def close(self) -> None:
        """Says what is left to say."""
        if self._window is not None:
            self._window.cancel()
            self._next_window()

    def _next_window(self) -> None:
        self._window = None
        if self._unsaid:
            self._log.warning("refused more connections for such reasons", more=self._unsaid, side=self._side)
        self._told.clear()
        self._unsaid = 0


def text_of(address: tuple[Any, ...]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
