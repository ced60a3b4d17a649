"""kvstore: a Raft-replicated key/value store that speaks etcd's v2 HTTP API."""

import os

from kvstore import compiled

if os.environ.get("KVSTORE_PURE"):
    for folder in __path__:
        compiled.leave_out(folder)
