"""An asynchronous client of etcd's v2 API, for kvctl and for tests. It imports nothing of the server.

    async with Client(["http://127.0.0.1:2379"]) as client:
        keys = Keys(client)
        await keys.set("/message", "hello", ttl=60)
        response = await keys.get("/message", quorum=True)     # response.node.value, response.etcd_index
        async for event in keys.watch("/message", after_index=response.etcd_index):
            ...                                                # a Response, or Missed: events were lost, read again

- `client.py`: `Client`, endpoints with failover, times, `sync()` to the members' client URLs; `tls.py`: `Tls`.
- `keys.py`: `Keys`; `response.py`: `Response`, `Node`; `watch.py`: `Watch`, which outlives a dead member.
- `members.py`: `Members`; `auth.py`: users, roles, on and off. Not imported here, since few commands need them.
- `errors.py`: everything raised is a `ClientError`. `KeyspaceError` has etcd's code, message, cause and index.
  `OutcomeUnknown`: a write was sent and not answered; it is never sent again by itself. `Unreachable`: no endpoint
  did it, nothing was changed.

What this package imports is paid by every start of kvctl; `benchmarks/startup.py` measures it.
"""

from kvstore.client.client import Client
from kvstore.client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidEndpoint,
    InvalidTls,
    KeyspaceError,
    OutcomeUnknown,
    Refused,
    Unreachable,
)
from kvstore.client.keys import Keys
from kvstore.client.response import Node, Response
from kvstore.client.tls import Tls
from kvstore.client.watch import Missed, Watch

__all__ = [
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "InvalidEndpoint",
    "InvalidTls",
    "Keys",
    "KeyspaceError",
    "Missed",
    "Node",
    "OutcomeUnknown",
    "Refused",
    "Response",
    "Tls",
    "Unreachable",
    "Watch",
]
