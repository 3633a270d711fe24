"""The laws themselves: formulas, parameters with bounds, initial guesses. Importing it registers them all."""

from evaluate.scaling.forms import curves, joint, pruning  # isort: skip
from evaluate.scaling.forms import combined  # isort: skip

__all__ = ["combined", "curves", "joint", "pruning"]
