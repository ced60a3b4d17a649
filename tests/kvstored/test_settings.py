"""Settings that clash, URLs and --initial-cluster: each refusal word by word."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.limits import Limits
from kvstore.settings import (
    InitialMember,
    Settings,
    SettingsError,
    TlsSettings,
    Url,
    parse_initial_cluster,
    parse_url,
    parse_urls,
)

A, B = Url("http", "a", 1), Url("http", "b", 2)
SECURE = Url("https", "127.0.0.1", 1)
PATH = Path("x")


def alone(count: int) -> tuple[InitialMember, ...]:
    others = [InitialMember(f"n{i}", (Url("http", "other", i),)) for i in range(1, count)]
    return (InitialMember("default", (Url("http", "localhost", 2380),)), *others)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "--name must not be empty"),
        ({"snapshot_count": 0}, "--snapshot-count must be at least 1 (is 0)"),
        ({"bcrypt_cost": 3}, "--bcrypt-cost must be 4 to 31 (is 3); one more doubles the time"),
        ({"bcrypt_cost": 32}, "--bcrypt-cost must be 4 to 31 (is 32); one more doubles the time"),
        ({"heartbeat_interval_ms": 0}, "--heartbeat-interval must be at least 1 (is 0)"),
        ({"election_timeout_ms": -1}, "--election-timeout must be at least 1 (is -1)"),
        ({"event_history": 0}, "--event-history must be at least 1 (is 0)"),
        ({"limits": Limits(request_bytes=0)}, "--max-request-bytes must be at least 1 (is 0)"),
        ({"limits": Limits(idle_seconds=0)}, "--client-idle-timeout must be at least 1 (is 0)"),
        ({"limits": Limits(headers=9)}, "--max-headers must be at least 16 (is 9): clients send several"),
        ({"limits": Limits(request_bytes=1 << 30)}, "--max-request-bytes must not exceed 33554432 (is 1073741824)"),
        ({"limits": Limits(key_components=2049)}, "--max-key-components must not exceed 2048 (is 2049)"),
        ({"limits": Limits(key_bytes=65537)}, "--max-key-bytes must not exceed 65536 (is 65537)"),
        ({"max_snapshots": -1}, "--max-snapshots must not be negative (is -1); 0 keeps all"),
        ({"max_wals": -2}, "--max-wals must not be negative (is -2); 0 keeps all"),
        (
            {"heartbeat_interval_ms": 201},
            "--election-timeout (1000 ms) must be at least 5 times --heartbeat-interval (201 ms)",
        ),
        ({"election_timeout_ms": 50_001}, "--election-timeout (50001 ms) must not exceed 50000 ms"),
        ({"log_level": "loud"}, "--log-level must be one of debug, info, warn, error (is 'loud')"),
        ({"log_format": "xml"}, "--log-format must be one of text, json (is 'xml')"),
        ({"initial_cluster_state": "old"}, "--initial-cluster-state must be one of new, existing (is 'old')"),
        ({"tls_min_version": "TLS1.1"}, "--tls-min-version must be one of TLS1.2, TLS1.3 (is 'TLS1.1')"),
        (
            {"cipher_suites": ("TLS_RSA_WITH_RC4_128_SHA",)},
            "--cipher-suites: 'TLS_RSA_WITH_RC4_128_SHA' is not known, or not safe any more",
        ),
        (
            {"listen_client_urls": (SECURE,)},
            "--listen-client-urls: https://127.0.0.1:1 needs --cert-file and --key-file",
        ),
        (
            {"listen_peer_urls": (SECURE,)},
            "--listen-peer-urls: https://127.0.0.1:1 needs --peer-cert-file and --peer-key-file",
        ),
        ({"client_tls": TlsSettings(key_file=PATH)}, "--cert-file and --key-file must be given together"),
        (
            {"peer_tls": TlsSettings(trusted_ca_file=PATH, allowed_cn="a", allowed_hostname="b")},
            "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other",
        ),
        (
            {"client_tls": TlsSettings(crl_file=PATH)},
            "--client-crl-file needs --trusted-ca-file: without it nobody shows a certificate",
        ),
        (
            {"client_tls": TlsSettings(allowed_hostname="a")},
            "--client-cert-allowed-hostname needs --trusted-ca-file: without it nobody shows a certificate",
        ),
        (
            {"peer_tls": TlsSettings(allowed_cn="a")},
            "--peer-cert-allowed-cn needs --peer-trusted-ca-file: without it nobody shows a certificate",
        ),
        ({"listen_client_urls": ()}, "--listen-client-urls must name at least one URL"),
        (
            {"listen_peer_urls": (A,)},
            "--listen-peer-urls: http://a:1 must name an IP address or localhost to listen on",
        ),
        (
            {"advertise_client_urls": (Url("http", "a", 0),)},
            "--advertise-client-urls: http://a:0: port 0 cannot be reached by others",
        ),
        (
            {"initial_advertise_peer_urls": tuple(Url("http", "h" * 60, port) for port in range(10_000, 10_030))},
            "--initial-advertise-peer-urls has URLs of 2190 characters; the limit is 2048",
        ),
        ({"cors": ("a.b",)}, "--cors: 'a.b' must be * or have the form http://host or http://host:port"),
        ({"cors": ("http://a/b",)}, "--cors: 'http://a/b' must be * or have the form http://host or http://host:port"),
        ({"initial_cluster": alone(8)}, "--initial-cluster names 8 members; a cluster has 1 to 7"),
        (
            {"initial_cluster": (*alone(1), InitialMember("n2", (Url("http", "localhost", 2380),)))},
            "--initial-cluster gives http://localhost:2380 to both 'default' and 'n2'",
        ),
        (
            {"initial_cluster": (InitialMember("n1", (A,)),)},
            "--initial-cluster has no member named 'default' (this is --name)",
        ),
        (
            {"initial_cluster": (InitialMember("default", (A,)),)},
            "--initial-cluster must include default=http://localhost:2380, as --initial-advertise-peer-urls says,"
            " and no other URL of 'default'",
        ),
        (
            {"initial_cluster": (InitialMember("default", (Url("http", "x", 0),)),)},
            "--initial-cluster: http://x:0: port 0 cannot be reached by others",
        ),
    ],
)
def test_refusals(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings(**fields).check_first_start()
    assert str(refusal.value) == message


def test_certificates_of_any_usage_are_warned_of() -> None:
    tls = TlsSettings(trusted_ca_file=PATH, allow_any_usage=True)
    (warning,) = Settings(
        peer_tls=dataclasses.replace(tls, cert_file=PATH, key_file=PATH), listen_peer_urls=(SECURE,)
    ).warnings
    assert "--peer-cert-allow-any-usage lets every certificate" in warning


@pytest.mark.parametrize(
    "fields",
    [
        {"heartbeat_interval_ms": 200},
        {"election_timeout_ms": 50_000},
        {"max_wals": 0, "max_snapshots": 0},
        {"initial_cluster": alone(7)},
        {"listen_client_urls": (Url("http", "127.0.0.1", 0), Url("http", "::", 1))},
    ],
)
def test_the_limits_themselves_are_allowed(fields: dict[str, Any]) -> None:
    found = Settings(**fields)
    assert {name: getattr(found, name) for name in fields} == fields


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:2379", Url("http", "127.0.0.1", 2379)),
        (" http://a.example.org:80 ", Url("http", "a.example.org", 80)),
        ("HTTP://A:1", Url("http", "a", 1)),
        ("https://a:1", Url("https", "a", 1)),
        ("http://[::1]:2380", Url("http", "::1", 2380)),
        ("http://0.0.0.0:0", Url("http", "0.0.0.0", 0)),
    ],
)
def test_urls(text: str, url: Url) -> None:
    assert parse_url("x", text) == url
    assert parse_url("x", str(url)) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unix://a:1", "--x: 'unix://a:1': unix sockets are not supported; use http:// or https://"),
        ("unixs://a:1", "--x: 'unixs://a:1': unix sockets are not supported; use http:// or https://"),
        ("", "--x: '' must start with http:// or https://"),
        ("a:1", "--x: 'a:1' must start with http:// or https://"),
        ("127.0.0.1:2379", "--x: '127.0.0.1:2379' must start with http:// or https://"),
        ("http:a:1", "--x: 'http:a:1' must start with http:// or https://"),
        ("ftp://a:1", "--x: 'ftp://a:1' must start with http:// or https://"),
        ("http://a", "--x: 'http://a' must have the form http://host:port"),
        ("http://a:", "--x: 'http://a:' must have the form http://host:port"),
        ("http://[::1]", "--x: 'http://[::1]' must have the form http://host:port"),
        ("http://a:b", "--x: 'http://a:b' must have the form http://host:port"),
        ("http://a:65536", "--x: 'http://a:65536': a port is at most 65535"),
        ("http://:2379", "--x: 'http://:2379' has no host"),
        ("http://a:1/", "--x: 'http://a:1/' must be http://host:port and nothing more"),
        ("http://a:1/v2", "--x: 'http://a:1/v2' must be http://host:port and nothing more"),
        ("http://a:1?b", "--x: 'http://a:1?b' must be http://host:port and nothing more"),
        ("http://a:1#", "--x: 'http://a:1#' must be http://host:port and nothing more"),
        ("http://u:p@a:1", "--x: 'http://u:p@a:1' must be http://host:port and nothing more"),
        ("http://a b:1", "--x: 'http://a b:1' has an odd character in its host"),
        ("http://[::1:1", "--x: 'http://[::1:1' is not a URL: Invalid IPv6 URL"),
    ],
)
def test_bad_urls(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_url("x", text)
    assert str(refusal.value) == message


@given(st.text(alphabet="htp:/[]@?#.,=%ab19 \n\x00é", max_size=24).map(lambda tail: "http://" + tail))
def test_any_text_gives_a_url_that_reads_back_or_one_line(text: str) -> None:
    try:
        url = parse_url("x", text)
    except SettingsError as refusal:
        line = str(refusal)
    else:
        line = str(url)
        assert parse_url("x", line) == url
    assert line.isprintable()


def test_several_urls_keep_their_order() -> None:
    assert parse_urls("x", "http://b:2,http://a:1") == (B, A)


def test_a_url_given_twice() -> None:
    with pytest.raises(SettingsError, match=r"^--x names http://a:1 twice$"):
        parse_urls("x", "http://a:1,http://a:1")


def test_a_name_may_repeat_in_the_initial_cluster() -> None:
    assert parse_initial_cluster("n2=http://b:2, n1=http://b:1,n1=http://a:1") == (
        InitialMember("n1", (A, Url("http", "b", 1))),
        InitialMember("n2", (B,)),
    )


@pytest.mark.parametrize("text", ["n1", "n1=", "=http://a:1", "n1=http://a:1,", "", ","])
def test_bad_initial_clusters(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--initial-cluster: '[^']*' must have the form name=http://host:port$"):
        parse_initial_cluster(text)


def test_a_bad_url_in_the_initial_cluster() -> None:
    with pytest.raises(SettingsError, match=r"^--initial-cluster: 'ftp://a:1' must start with http"):
        parse_initial_cluster("n1=ftp://a:1")
