"""Node-pressure eviction: what is short, who goes first."""
