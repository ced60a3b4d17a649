"""What a member leaves open to whoever can reach it: said once, loudly, at its start."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from kvstore.settings import Settings, Url


def open_doors(settings: Settings, has_users: bool) -> Iterator[str]:
    """One clause for each URL beyond this machine that lets in more than it should. `has_users`: auth is on."""
    shown = settings.client_tls.asks_for_certificates
    for url in filter(_is_far, settings.listen_client_urls):
        if not has_users and not (url.scheme == "https" and shown):
            yield f"whoever reaches {url} may read and change every key"
        elif url.scheme == "http":
            yield f"passwords and values pass {url} for all on the way to read"
    for url in filter(_is_far, settings.listen_peer_urls):
        if url.scheme == "http" or not settings.peer_tls.asks_for_certificates:
            yield f"whoever reaches {url} may pose as a member, and read and change everything"


def _is_far(url: Url) -> bool:
    return url.host != "localhost" and not ipaddress.ip_address(url.host).is_loopback
