"""API priority and fairness: one noisy client does not starve the others (KEP-1040)."""
