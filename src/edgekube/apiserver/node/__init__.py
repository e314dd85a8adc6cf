"""What a node may do: only what its own pods need (Kubernetes docs, "Using Node Authorization")."""
