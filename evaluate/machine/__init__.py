"""What machine this is, and what happens on it while it measures."""
