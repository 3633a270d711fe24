"""What is doubtful about a fit, as a list of rules."""
