"""Role-based access control (Kubernetes docs, "Using RBAC Authorization")."""
