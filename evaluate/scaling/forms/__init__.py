"""The laws themselves: formulas, parameters with bounds, initial guesses."""
