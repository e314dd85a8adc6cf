"""PersistentVolumes and claims: binding, provisioning, protection."""
