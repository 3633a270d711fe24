"""Pages: one self-contained file each, escaped by construction, without a script."""
