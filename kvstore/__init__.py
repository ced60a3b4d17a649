"""kvstore: a Raft-replicated key/value store that speaks etcd's v2 HTTP API."""
