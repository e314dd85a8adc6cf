"""The default ingress controller: Ingresses become the configuration of an HAProxy on a node."""
