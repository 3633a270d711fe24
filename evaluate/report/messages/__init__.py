"""Sentences: what Records and laws say, in one place. No layout, no colour."""
