"""What an application does with k3etcd 0.2.3. Arguments: the members' `host:port`. Runs in its own environment.

What it leans on: a new connection for each request; /v2/machines split at commas; `leader` by leaderInfo.leader of
/v2/stats/self; /v2/stats/leader asked of the leader's own clientURLs (never of 127.0.0.1); any 404 read as "key not
found" and any 401 as "not permitted", whatever the body; auth with JSON bodies.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import k3etcd

PATIENCE_SECONDS = 30.0
ROOT = "secret"


def main() -> None:
    hosts = tuple((host, int(port)) for host, _, port in (one.rpartition(":") for one in sys.argv[1:]))
    client = k3etcd.Client(host=hosts, read_timeout=10)
    see_the_cluster(client, len(hosts))
    use_keys(client)
    use_directories(client)
    use_watches(client)
    use_auth(client)
    client.set("/before", "the kill")

    lose_the_leader()

    assert insist(lambda: client.get("/before", quorum=True)).value == "the kill"
    insist(lambda: client.set("/after", "the kill"))
    assert insist(lambda: client.get("/after")).value == "the kill"
    if len(hosts) > 1:
        assert insist(lambda: client.st_leader)["leader"] in client.ids


def see_the_cluster(client: Any, count: int) -> None:
    assert len(client.machines) == count
    assert len(client.members) == len(set(client.ids)) == len(set(client.names)) == count
    assert sorted(client.clienturls) == sorted(client.machines)
    assert len(client.peerurls) == count
    assert client.leader["id"] in client.ids
    assert client.st_leader["leader"] == client.leader["id"]
    assert len(client.st_leader["followers"]) == count - 1
    assert client.st_self["id"] in client.ids
    assert client.st_store["watchers"] == 0
    assert client.version == {"etcdserver": "3.4.23", "etcdcluster": "3.4.0"}


def use_keys(client: Any) -> None:
    assert client.set("/keys/one", "1").newKey
    assert client.get("/keys/one").value == "1"
    assert client.test_and_set("/keys/one", "2", prevValue="1").action == "compareAndSwap"
    fails(k3etcd.EcodeTestFailed, lambda: client.test_and_set("/keys/one", "3", prevValue="1"))
    fails(k3etcd.EcodeNodeExist, lambda: client.write("/keys/one", "3", prevExist=False))
    fails(k3etcd.EcodeKeyNotFound, lambda: client.get("/keys/none"))
    fails(k3etcd.EcodeRootROnly, lambda: client.delete("/", dir=True, recursive=True))
    fails(k3etcd.EcodeTTLNaN, lambda: client.set("/keys/one", "3", ttl="soon"))
    client.set("/keys/short", "1", ttl=100)
    assert 0 < client.refresh("/keys/short", ttl=50).ttl <= 50
    assert client.get("/keys/short").value == "1"
    fails(k3etcd.EcodeTestFailed, lambda: client.delete("/keys/one", prevValue="1"))
    assert client.delete("/keys/one", prevValue="2").action == "compareAndDelete"


def use_directories(client: Any) -> None:
    assert client.mkdir("/tree/branch").dir
    fails(k3etcd.EcodeNotFile, lambda: client.set("/tree/branch", "leaf"))
    client.set("/tree/branch/a", "1")
    client.set("/tree/branch/b", "2")
    assert sorted(leaf.value for leaf in client.rlsdir("/tree", sorted=True).leaves) == ["1", "2"]
    fails(k3etcd.EcodeDirNotEmpty, lambda: client.deldir("/tree/branch"))
    fails(k3etcd.EcodeNotDir, lambda: client.set("/tree/branch/a/b", "1"))
    client.rdeldir("/tree")
    assert "/tree" not in client


def use_watches(client: Any) -> None:
    start = client.set("/seen", "0").modifiedIndex
    for number in range(1, 4):
        client.set("/seen", str(number))
    events = client.eternal_watch("/seen", waitindex=start, until=start + 3)
    assert [event.value for event in events] == ["0", "1", "2", "3"]
    fails(k3etcd.EtcdReadTimeoutError, lambda: client.watch("/seen", timeout=0.2))
    writer = threading.Timer(0.1, lambda: client.set("/seen", "4"))
    writer.start()
    assert client.watch("/seen", waitindex=start + 4, timeout=PATIENCE_SECONDS).value == "4"
    writer.join()


def use_auth(client: Any) -> None:
    assert client.create_root(ROOT) == {"user": "root", "roles": ["root"]}
    client.enable_auth(ROOT)
    try:
        everything = {"read": ["/garden*"], "write": ["/garden*"]}
        assert client.create_role("gardener", ROOT, everything)["permissions"]["kv"] == everything
        client.create_user("anna", "rose", ROOT)
        assert client.grant_user_roles("anna", ROOT, ["gardener"])["roles"] == ["gardener"]
        assert client.get_user("anna", ROOT)["roles"][0]["role"] == "gardener"
        assert [user["user"] for user in client.get_user(None, ROOT)["users"]] == ["anna", "root"]
        client.revoke_role_permissions("guest", ROOT, {"read": ["/*"], "write": ["/*"]})
        client.basic_auth_account = "anna:rose"
        client.set("/garden/rose", "red")
        fails(k3etcd.EcodeInscientPermissions, lambda: client.set("/street", "1"))
        client.basic_auth_account = None
        fails(k3etcd.EcodeInscientPermissions, lambda: client.get("/garden/rose"))
        assert client.revoke_user_roles("anna", ROOT, ["gardener"])["roles"] == []
        client.delete_user("anna", ROOT)
        client.delete_role("gardener", ROOT)
    finally:
        client.disable_auth(ROOT)
    client.basic_auth_account = None
    assert client.get("/garden/rose").value == "red"


def fails(kind: type[Exception], action: Callable[[], object]) -> None:
    try:
        action()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def insist(action: Callable[[], Any]) -> Any:
    """Again and again while there is no leader, as an application would."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return action()
        except (k3etcd.EtcdException, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def lose_the_leader() -> None:
    """The test kills the leader, where there are others, and says so."""
    sys.stdout.write("lose the leader\n")
    sys.stdout.flush()
    assert sys.stdin.readline() == "lost\n"


if __name__ == "__main__":
    main()
