"""Samples, and how accurate a model's outputs on them are, with intervals."""
