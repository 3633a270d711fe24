"""Pictures as SVG whose colours are the page's: matplotlib draws, one file a kind of data."""
