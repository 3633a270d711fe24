"""The laws themselves: formulas, parameters with bounds, initial guesses. Importing it registers them all."""

from evaluate.scaling.forms import bits, curves, joint, pruning  # isort: skip
from evaluate.scaling.forms import combined  # isort: skip

__all__ = ["bits", "combined", "curves", "joint", "pruning"]
