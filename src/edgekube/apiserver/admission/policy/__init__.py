"""ValidatingAdmissionPolicy: rules in CEL instead of webhooks (KEP-3488)."""
