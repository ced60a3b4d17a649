"""etcd 3.4's flags that this server does not have: those accepted without effect, and those refused at the start.

A flag is ignored only if that is harmless. A deployment that asks for another way to find the cluster, or for a forced
new one, must not get a server that silently does neither.
"""

from __future__ import annotations

from typing import NamedTuple


class Ignored(NamedTuple):
    """Accepted with one warning, which is `why`."""

    name: str
    why: str
    boolean: bool = False


class Refused(NamedTuple):
    """Stops the start with `why`, unless the value is in `harmless`: etcd's default."""

    name: str
    why: str
    boolean: bool = False
    harmless: tuple[str, ...] = ("",)


_V3 = "there is no v3 API yet"
_BACKEND = "there is no bbolt backend"
_PROXY = "there is no v2 proxy mode"
_CORRUPT = "every record is checked by checksum whenever it is read"
_LOGS = "logs are structured lines on stderr; see --log-format"
_GONE = "etcd 3 ignores it, too"

IGNORED = (
    Ignored("initial-election-tick-advance", "a start never waits longer than one election timeout", boolean=True),
    Ignored("pre-vote", "PreVote is always on", boolean=True),
    Ignored("enable-v2", "the v2 API is always on", boolean=True),
    Ignored("quota-backend-bytes", _BACKEND),
    Ignored("backend-batch-interval", _BACKEND),
    Ignored("backend-batch-limit", _BACKEND),
    Ignored("max-txn-ops", _V3),
    Ignored("max-concurrent-streams", _V3),
    Ignored("grpc-keepalive-min-time", _V3),
    Ignored("grpc-keepalive-interval", _V3),
    Ignored("grpc-keepalive-timeout", _V3),
    Ignored("auto-compaction-retention", _V3),
    Ignored("auto-compaction-mode", _V3),
    Ignored("auth-token-ttl", "there are no tokens"),
    Ignored("enable-pprof", "there are no Go profiles", boolean=True),
    Ignored("metrics", "all metrics are always available; their cost is negligible"),
    Ignored("logger", _LOGS),
    Ignored("log-output", _LOGS),
    Ignored("log-outputs", _LOGS),
    Ignored("log-package-levels", "--log-level sets the level of all components"),
    Ignored("discovery-fallback", "there is no discovery"),
    Ignored("discovery-proxy", "there is no discovery"),
    Ignored("discovery-srv-name", "there is no discovery"),
    Ignored("proxy-failure-wait", _PROXY),
    Ignored("proxy-refresh-interval", _PROXY),
    Ignored("proxy-dial-timeout", _PROXY),
    Ignored("proxy-write-timeout", _PROXY),
    Ignored("proxy-read-timeout", _PROXY),
    Ignored("experimental-initial-corrupt-check", _CORRUPT, boolean=True),
    Ignored("experimental-corrupt-check-time", _CORRUPT),
    Ignored("experimental-backend-bbolt-freelist-type", _BACKEND),
    Ignored("experimental-enable-lease-checkpoint", _V3, boolean=True),
    Ignored("experimental-compaction-batch-limit", _V3),
    Ignored("experimental-watch-progress-notify-interval", _V3),
    Ignored("experimental-warning-apply-duration", "there is no such warning"),
    Ignored("unsafe-no-fsync", "every write is synced to disk before it is acknowledged", boolean=True),
    Ignored("cluster-active-size", _GONE, boolean=True),
    Ignored("cluster-remove-delay", _GONE, boolean=True),
    Ignored("cluster-sync-interval", _GONE, boolean=True),
    Ignored("config", _GONE, boolean=True),
    Ignored("force", _GONE, boolean=True),
    Ignored("max-result-buffer", _GONE, boolean=True),
    Ignored("max-retry-attempts", _GONE, boolean=True),
    Ignored("peer-heartbeat-interval", _GONE, boolean=True),
    Ignored("peer-election-timeout", _GONE, boolean=True),
    Ignored("retry-interval", _GONE, boolean=True),
    Ignored("snapshot", _GONE, boolean=True),
    Ignored("v", _GONE, boolean=True),
    Ignored("vv", _GONE, boolean=True),
)

_AUTH = "there are no tokens: users log in by HTTP Basic or by certificate"
_OFF = ("", "0", "f", "F", "false", "FALSE", "False")

REFUSED = (
    Refused("auth-token", _AUTH, harmless=("", "simple")),
    Refused("discovery", "there is no discovery; use --initial-cluster"),
    Refused("discovery-srv", "there is no discovery; use --initial-cluster"),
    Refused("proxy", _PROXY, harmless=("", "off")),
    Refused("listen-metrics-urls", "metrics are served on the client URLs, as /metrics"),
    Refused(
        "force-new-cluster",
        "no new cluster is forced; docs/operations.md describes how to restore one",
        boolean=True,
        harmless=_OFF,
    ),
    Refused("experimental-enable-v2v3", "v2 requests are served by the store itself"),
)
