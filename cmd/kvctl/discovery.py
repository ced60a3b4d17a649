"""--discovery-srv: the endpoints that a domain's SRV records name."""

from __future__ import annotations

import dns.exception
import dns.resolver

from kvctl.command import Context, Failure

#: A lookup that takes longer has failed.
LOOKUP_SECONDS = 5.0
_SERVICES = (("https", "etcd-client-ssl"), ("http", "etcd-client"))


def discover(context: Context, domain: str, *, insecure: bool) -> list[str]:
    """URLs out of _etcd-client-ssl._tcp and, with `insecure`, _etcd-client._tcp. Raises Failure when both fail."""
    found, failed = [], []
    for scheme, service in _SERVICES:
        try:
            found += [(scheme, endpoint) for endpoint in _look_up(f"_{service}._tcp.{domain}")]
        except (dns.exception.DNSException, OSError) as error:
            failed.append(f"lookup _{service}._tcp.{domain}: {_why(error)}")
    if len(failed) == len(_SERVICES):
        raise Failure(f"dns lookup errors: {' and '.join(failed)}")
    for scheme, endpoint in found:
        if scheme == "http" and not insecure:
            context.complain(f'ignoring discovered insecure endpoint "http://{endpoint}"')
    return [f"{scheme}://{endpoint}" for scheme, endpoint in found if scheme == "https" or insecure]


def _look_up(name: str) -> list[str]:
    records = dns.resolver.resolve(name, "SRV", lifetime=LOOKUP_SECONDS)
    ordered = sorted(records, key=lambda record: (record.priority, -record.weight))
    return [f"{record.target.to_text(omit_final_dot=True)}:{record.port}" for record in ordered]


def _why(error: Exception) -> str:
    if isinstance(error, (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer)):
        return "no such host"
    return " ".join(str(error).split())
