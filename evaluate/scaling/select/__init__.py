"""Which law: candidates compete on held-out large points."""
