"""Service addresses and node ports: which there are, who has them (KEP-1880, KEP-3070, KEP-3668)."""
