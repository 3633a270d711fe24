"""Arrivals, rates and batches: the parts behind `evaluate.scenarios`."""
