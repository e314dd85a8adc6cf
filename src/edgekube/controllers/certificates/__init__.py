"""Certificate requests: approved for kubelets, signed by the cluster's CA, cleaned up (pkg/controller/certificates in Kubernetes)."""
