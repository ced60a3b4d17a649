"""What an application does with python-etcd 0.4.5. Arguments: the members' `host:port`. Runs in its own environment.

What it leans on: the client replaces its endpoints by what /v2/machines says; `leader` looks up `leaderInfo.leader` of
/v2/stats/self in /v2/members; a lock is an in-order key under /_locks (hidden), watched from modifiedIndex + 1; auth
bodies are JSON, and a user is asked for (404) before it is created.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import etcd
from etcd import auth

PATIENCE_SECONDS = 30.0


def main() -> None:
    hosts = tuple((host, int(port)) for host, _, port in (one.rpartition(":") for one in sys.argv[1:]))
    client = etcd.Client(host=hosts, allow_reconnect=True, read_timeout=10)
    see_the_cluster(client, len(hosts))
    use_keys(client)
    use_directories(client)
    use_watches(client)
    use_auth(client, hosts)

    held = etcd.Lock(client, "turn")
    assert held.acquire(lock_ttl=600)
    second = etcd.Lock(etcd.Client(host=hosts, allow_reconnect=True, read_timeout=10), "turn")
    waiting = threading.Thread(target=insist, args=(lambda: second.acquire(lock_ttl=600),), daemon=True)
    waiting.start()
    client.write("/before", "the kill")

    lose_the_leader()

    assert insist(lambda: client.read("/before", quorum=True)).value == "the kill"
    insist(lambda: client.write("/after", "the kill"))
    assert insist(lambda: client.read("/after")).value == "the kill"
    assert not second.is_taken
    insist(held.release)
    waiting.join(PATIENCE_SECONDS)
    assert second.is_taken
    assert insist(lambda: second.is_acquired)
    insist(second.release)


def see_the_cluster(client: Any, count: int) -> None:
    assert len(client.machines) == count
    members = client.members
    assert len(members) == count
    assert client.leader["id"] in members
    assert client.leader["clientURLs"][0] in client.machines
    assert (client.version, client.cluster_version) == ("3.4.23", "3.4.0")
    assert client.stats["id"] in members
    assert client.store_stats["setsSuccess"] >= 0


def use_keys(client: Any) -> None:
    made = client.write("/keys/one", "1")
    assert made.newKey
    assert made.action == "set"
    assert "/keys/one" in client
    assert client.read("/keys/one").value == "1"
    swapped = client.test_and_set("/keys/one", "2", "1")
    assert (swapped.action, swapped.value, swapped._prev_node.value) == ("compareAndSwap", "2", "1")
    fails(etcd.EtcdCompareFailed, lambda: client.test_and_set("/keys/one", "3", "1"))
    fails(etcd.EtcdAlreadyExist, lambda: client.write("/keys/one", "3", prevExist=False))
    fails(etcd.EtcdKeyNotFound, lambda: client.read("/keys/none"))
    fails(etcd.EtcdKeyNotFound, lambda: client.write("/keys/none", "1", prevExist=True))
    fails(etcd.EtcdRootReadOnly, lambda: client.delete("/", recursive=True))
    node = client.read("/keys/one")
    node.value = "näher & <weiter>"
    assert client.update(node).value == "näher & <weiter>"
    assert client.pop("/keys/one").value == "näher & <weiter>"
    client.write("/keys/short", "1", ttl=100)
    assert 0 < client.refresh("/keys/short", ttl=50).ttl <= 50
    assert client.read("/keys/short").value == "1"


def use_directories(client: Any) -> None:
    client.write("/tree/branch", None, dir=True)
    fails(etcd.EtcdNotFile, lambda: client.write("/tree/branch", "leaf"))
    for value in ("first", "second"):
        assert client.write("/tree/branch", value, append=True).value == value
    client.write("/tree/_hidden", "1")
    found = client.read("/tree", recursive=True, sorted=True)
    assert [leaf.value for leaf in found.leaves] == ["first", "second"]
    fails(etcd.EtcdDirNotEmpty, lambda: client.delete("/tree/branch", dir=True))
    assert client.delete("/tree", recursive=True).action == "delete"
    fails(etcd.EtcdKeyNotFound, lambda: client.read("/tree"))


def use_watches(client: Any) -> None:
    start = client.write("/seen", "0").modifiedIndex
    for number in range(1, 4):
        client.write("/seen", str(number))
    events = client.eternal_watch("/seen", index=start)
    assert [next(events).value for _ in range(4)] == ["0", "1", "2", "3"]
    fails(etcd.EtcdWatchTimedOut, lambda: client.watch("/seen", timeout=0.2))
    writer = threading.Timer(0.1, lambda: client.write("/seen", "4"))
    writer.start()
    assert client.watch("/seen", timeout=PATIENCE_SECONDS, index=start + 4).value == "4"
    writer.join()


def use_auth(client: Any, hosts: Any) -> None:
    root = auth.EtcdUser(client, "root")
    root.password = "secret"
    root.write()
    switch = auth.Auth(client)
    assert not switch.active
    switch.active = True
    admin = etcd.Client(host=hosts, allow_reconnect=True, username="root", password="secret")
    try:
        fails(etcd.EtcdInsufficientPermissions, lambda: auth.EtcdUser(client, "anna").write())
        role = auth.EtcdRole(admin, "gardener")
        role.grant("/garden*", "RW")
        role.write()
        anna = auth.EtcdUser(admin, "anna")
        anna.password = "rose"
        anna.roles = ["gardener"]
        anna.write()
        guest = auth.EtcdRole(admin, "guest")
        guest.read()
        guest.revoke("/*", "RW")
        guest.write()
        gardener = etcd.Client(host=hosts, allow_reconnect=True, username="anna", password="rose")
        gardener.write("/garden/rose", "red")
        assert gardener.read("/garden", recursive=True).value is None
        fails(etcd.EtcdInsufficientPermissions, lambda: gardener.write("/street", "1"))
        fails(etcd.EtcdInsufficientPermissions, lambda: client.read("/garden/rose"))
        assert [user["user"] for user in auth.EtcdUser(admin, "anna").names] == ["anna", "root"]
        anna.delete()
        guest.grant("/*", "RW")
        guest.write()
    finally:
        auth.Auth(admin).active = False
    assert client.read("/garden/rose").value == "red"


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
        except etcd.EtcdException:
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
