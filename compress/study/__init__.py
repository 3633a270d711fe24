"""Studies: many trials of one recipe family, and the laws fitted on their Records."""
