"""Who was refused, and why: one line each, and not more of them than a disk can take.

Whoever reaches a port can be refused as often as they like, so the lines are counted: MAX_LINES in WINDOW_SECONDS,
then one that says how many more there were.
"""

from __future__ import annotations

import asyncio
import ssl

from kvstore import logs

MAX_LINES = 20
WINDOW_SECONDS = 10.0

log = logs.get("tls")

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
    if isinstance(problem, ssl.SSLError) and problem.reason:
        words = problem.reason.replace("_", " ").lower()
        if " alert " in words:
            return f"it ended the handshake: {words.partition(' alert ')[2]}"
        return _REASONS.get(problem.reason, words)
    return str(problem) or "it closed the connection in the handshake"


def speaks_no_tls(problem: OSError) -> bool:
    return isinstance(problem, ssl.SSLError) and problem.reason in _NO_TLS


class Refusals:
    """Of one listener, or of all that is dialled."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lines = 0
        self._unsaid = 0
        self._window: asyncio.TimerHandle | None = None

    def tell(self, why: str, **fields: object) -> None:
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._next_window)
        self._lines += 1
        if self._lines <= MAX_LINES:
            log.warning(self._what, why=why, **fields)
        else:
            self._unsaid += 1

    def close(self) -> None:
        """Says what is left to say."""
        if self._window is not None:
            self._window.cancel()
            self._next_window()

    def _next_window(self) -> None:
        self._window = None
        if self._unsaid:
            log.warning(f"{self._what}: too many to tell each", more=self._unsaid, seconds=WINDOW_SECONDS)
        self._lines = self._unsaid = 0
