"""kvctl: the command line for etcd's v2 API, used like etcdctl."""
