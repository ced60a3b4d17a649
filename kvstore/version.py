"""The version of this program, and the etcd versions whose API it answers with."""

VERSION = "0.2.0"

#: What `/version` reports: clients choose their behaviour by it.
ETCD_SERVER_VERSION = "3.4.23"
ETCD_CLUSTER_VERSION = "3.4.0"
