"""Comparisons: candidates timed against one another in interleaved rounds by a supervised worker."""
