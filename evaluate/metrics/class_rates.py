"""Means over classes, so that a rare class counts as much as a frequent one; in per cent.

A class that occurs neither in the targets nor in the guesses is left out. Of outputs (n, classes) and class ids (n,),
or of outputs (n, classes, ...) and ids (n, ...), which are pooled over all samples: -100 has no label.
"""

from __future__ import annotations

from evaluate.metrics.base import register_metric
from evaluate.metrics.class_ids import ClassCounts, mean_where, share_of
from evaluate.metrics.resampling import Floats


@register_metric("macro_f1", unit="%", higher_is_better=True, labels=True, dense=True)
class MacroF1(ClassCounts):
    """The mean over classes of F1, the harmonic mean of precision and recall."""

    def of_counts(self, found: Floats, guessed: Floats, actual: Floats) -> Floats:
        """2 found / (guessed + actual)."""
        return 100 * mean_where(share_of(2 * found, guessed + actual), guessed + actual > 0)


@register_metric("macro_precision", unit="%", higher_is_better=True, labels=True, dense=True)
class MacroPrecision(ClassCounts):
    """The mean over classes of precision, the share of a class's guesses that are right; 0 where none is."""

    def of_counts(self, found: Floats, guessed: Floats, actual: Floats) -> Floats:
        """found / guessed."""
        return 100 * mean_where(share_of(found, guessed), guessed + actual > 0)


@register_metric("macro_recall", unit="%", higher_is_better=True, labels=True, dense=True)
class MacroRecall(ClassCounts):
    """The mean over classes of recall, the share of a class's labels that are found; 0 where it is only guessed."""

    def of_counts(self, found: Floats, guessed: Floats, actual: Floats) -> Floats:
        """found / actual."""
        return 100 * mean_where(share_of(found, actual), guessed + actual > 0)


@register_metric("balanced_accuracy", unit="%", higher_is_better=True, labels=True, dense=True)
class BalancedAccuracy(ClassCounts):
    """The mean of recall over the classes that have labels, guesses of others left alone."""

    def of_counts(self, found: Floats, guessed: Floats, actual: Floats) -> Floats:
        """found / actual, where there are labels."""
        return 100 * mean_where(share_of(found, actual), actual > 0)


@register_metric("miou", unit="%", higher_is_better=True, labels=True, dense=True)
class MeanIoU(ClassCounts):
    """The mean over classes of intersection over union of labels and guesses, as of pixels (Everingham et al. 2010)."""

    def of_counts(self, found: Floats, guessed: Floats, actual: Floats) -> Floats:
        """found / (guessed + actual - found)."""
        union = guessed + actual - found
        return 100 * mean_where(share_of(found, union), union > 0)
