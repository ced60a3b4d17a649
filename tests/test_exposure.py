"""What is said at the start of a member that can be reached from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.exposure import open_doors
from kvstore.settings import Settings, TlsSettings, Url

NEAR = (Url("http", "localhost", 1), Url("http", "127.0.0.1", 2), Url("http", "::1", 3), Url("http", "127.9.9.9", 4))
FAR = (Url("http", "0.0.0.0", 5),)
SECURE = (Url("https", "10.0.0.1", 6),)
FILE = Path("x")
CERTIFICATE = TlsSettings(cert_file=FILE, key_file=FILE)
MUTUAL = TlsSettings(cert_file=FILE, key_file=FILE, trusted_ca_file=FILE)

ALL_KEYS = "whoever reaches {} may read and change every key"
PASSWORDS = "passwords and values pass {} for all on the way to read"
MEMBER = "whoever reaches {} may pose as a member, and read and change everything"


@pytest.mark.parametrize(
    ("clients", "tls", "has_users", "said"),
    [
        (NEAR, TlsSettings(), False, []),
        (FAR, TlsSettings(), False, [ALL_KEYS]),
        (FAR, TlsSettings(), True, [PASSWORDS]),
        (FAR, MUTUAL, False, [ALL_KEYS]),  # it counts for https alone
        (SECURE, CERTIFICATE, False, [ALL_KEYS]),
        (SECURE, CERTIFICATE, True, []),
        (SECURE, MUTUAL, False, []),
    ],
)
def test_client_urls(clients: tuple[Url, ...], tls: TlsSettings, has_users: bool, said: list[str]) -> None:
    settings = Settings(listen_client_urls=clients, client_tls=tls)
    assert list(open_doors(settings, has_users)) == [text.format(clients[0]) for text in said]


@pytest.mark.parametrize(
    ("peers", "tls", "said"),
    [
        (NEAR, TlsSettings(), []),
        (FAR, TlsSettings(), [MEMBER]),
        (FAR, MUTUAL, [MEMBER]),
        (SECURE, CERTIFICATE, [MEMBER]),
        (SECURE, MUTUAL, []),
    ],
)
@pytest.mark.parametrize("has_users", [True, False])  # users are nothing to a peer
def test_peer_urls(peers: tuple[Url, ...], tls: TlsSettings, said: list[str], has_users: bool) -> None:
    settings = Settings(listen_peer_urls=peers, peer_tls=tls)
    assert list(open_doors(settings, has_users)) == [text.format(peers[0]) for text in said]
