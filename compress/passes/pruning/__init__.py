"""Structured pruning: which channels go together, how much each is worth, and what is cut."""
