"""What surrounds the cluster and it does not own: machines, addresses for outsiders, volumes."""
