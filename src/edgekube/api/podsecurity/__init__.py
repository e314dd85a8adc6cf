"""The Pod Security Standards (kubernetes.io/docs/concepts/security/pod-security-standards)."""
