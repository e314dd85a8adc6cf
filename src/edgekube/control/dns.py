"""What master and nodes both know of the cluster's DNS."""

from edgekube.api.resource import Key

DNS_CONFIG = Key("kube-system", "edgekube-dns")
"""The ConfigMap that every node gets: stub domains and upstream servers (see `proxy.dns.upstreams`)."""
