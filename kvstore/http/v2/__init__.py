"""etcd's v2 API: parse a request, do it, answer it."""
