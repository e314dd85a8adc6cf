"""What the place the cluster runs in does for it: load balancers and machines (the cloud controller manager)."""
