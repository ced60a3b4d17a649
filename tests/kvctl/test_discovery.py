"""--discovery-srv, with a resolver that answers as the test tells it."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping

import dns.rdataset
import dns.rdtypes.IN.SRV
import dns.resolver
import pytest

from kvctl.command import Context, Failure
from kvctl.discovery import discover
from kvctl.flags import parse
from kvctl.table import GLOBAL


def context(*arguments: str, environment: Mapping[str, str] | None = None) -> Context:
    return Context(parse([*arguments], GLOBAL), parse([], ()), (), (), environment or {})


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> dict[str, dns.rdataset.Rdataset]:
    records: dict[str, dns.rdataset.Rdataset] = {}

    def resolve(name: str, kind: str, lifetime: float) -> dns.rdataset.Rdataset:
        assert (kind, lifetime > 0) == ("SRV", True)
        if name not in records:
            raise dns.resolver.NXDOMAIN
        return records[name]

    monkeypatch.setattr(dns.resolver, "resolve", resolve)
    return records


SECURE = dns.rdataset.from_text("IN", "SRV", 60, "1 0 2379 b.example.com.", "0 5 2379 a.example.com.")
PLAIN = dns.rdataset.from_text("IN", "SRV", 60, "0 0 4001 c.example.com.")


def test_endpoints_by_priority(zone: dict[str, dns.rdataset.Rdataset], monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", said)
    zone["_etcd-client-ssl._tcp.example.com"] = SECURE
    zone["_etcd-client._tcp.example.com"] = PLAIN
    urls = ["https://a.example.com:2379", "https://b.example.com:2379"]
    asked = context("-D", "example.com")
    assert asked.endpoints() == urls
    said.seek(0)
    assert said.read() == 'ignoring discovered insecure endpoint "http://c.example.com:4001"\n'
    assert asked.tls().server_name == "example.com"
    everything = context("--discovery-srv=example.com", "--insecure-discovery")
    assert everything.endpoints() == [*urls, "http://c.example.com:4001"]
    assert everything.tls().server_name == ""
    variables = {"ETCDCTL_DISCOVERY_SRV": "example.com", "ETCDCTL_INSECURE_DISCOVERY": "1"}
    assert context(environment=variables).endpoints() == [*urls, "http://c.example.com:4001"]


def test_a_domain_without_records(zone: dict[str, dns.rdataset.Rdataset]) -> None:
    with pytest.raises(Failure) as caught:
        discover(context(), "example.com", insecure=True)
    assert str(caught.value) == (
        "dns lookup errors: lookup _etcd-client-ssl._tcp.example.com: no such host"
        " and lookup _etcd-client._tcp.example.com: no such host"
    )
