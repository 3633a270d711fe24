"""Many labels a sample, each there or not: logits (n, labels) against 0 and 1 of the same shape; in per cent."""

from __future__ import annotations

import numpy as np

from evaluate.core.errors import DataError
from evaluate.metrics.base import Array, Metric, register_metric
from evaluate.metrics.class_ids import mean_where, share_of
from evaluate.metrics.resampling import Counts, Floats, weighted_rows


class LabelSets(Metric):
    """A mean over labels. A subclass gives `resampled`; the value is that of every sample once."""

    def both(self, outputs: Floats, targets: Array) -> tuple[Floats, Floats]:
        """Logits and targets, (n, labels) each. Raises DataError for other shapes and for targets but 0 and 1."""
        wanted = np.asarray(targets, dtype=np.float64)
        wanted = wanted[:, None] if wanted.ndim == 1 else wanted
        logits = outputs[:, None] if outputs.ndim == 1 else outputs
        if logits.shape != wanted.shape or not wanted.size:
            raise DataError(
                f"{self.label} needs a logit and a 0 or 1 for each label, both (n, labels), got {list(outputs.shape)} "
                f"and {list(np.shape(targets))}"
            )
        if not np.isin(wanted, (0.0, 1.0)).all():
            raise DataError(f"{self.label} needs targets that are 0 or 1, got {wanted.min():g} to {wanted.max():g}")
        return logits.reshape(len(logits), -1), wanted.reshape(len(wanted), -1)

    def value(self, values: Floats) -> float:
        """Raises DataError where no label has a sample."""
        found = float(self.resampled(values, np.ones((1, len(values)), dtype=np.int64))[0])
        if np.isnan(found):
            raise DataError(f"{self.label} has nothing to judge: no label is 1 anywhere")
        return found


@register_metric("label_f1", unit="%", higher_is_better=True, labels=False)
class LabelF1(LabelSets):
    """The mean over labels of F1, a label being given where its logit is above 0; those never given nor asked left out.

    Statistics are (n, 3 labels): given and right, given, asked.
    """

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n, 3 labels) of 0 and 1."""
        logits, wanted = self.both(outputs, targets)
        given = (logits > 0).astype(np.float64)
        return np.concatenate([given * wanted, given, wanted], axis=1)

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) values, nan where no label is left."""
        found, given, asked = np.moveaxis(weighted_rows(counts, values).reshape(len(counts), 3, -1), 1, 0)
        return 100 * mean_where(share_of(2 * found, given + asked), given + asked > 0)


@register_metric("average_precision", unit="%", higher_is_better=True, labels=False)
class AveragePrecision(LabelSets):
    """The mean over labels of the area under precision against recall, as a step function; labels never asked left out.

    (Manning, Raghavan and Schuetze 2008, Introduction to Information Retrieval, section 8.4.) Only the order of the
    outputs counts; equal ones are taken together. Statistics are (n, 2 labels): outputs, then targets.
    """

    def per_sample(self, outputs: Floats, targets: Array) -> Floats:
        """(n, 2 labels)."""
        return np.concatenate(self.both(outputs, targets), axis=1)

    def resampled(self, values: Floats, counts: Counts) -> Floats:
        """(r,) values, nan where no label is left."""
        logits, wanted = np.split(values, 2, axis=1)
        found = np.stack([_area(x, y, counts) for x, y in zip(logits.T, wanted.T)], axis=1)
        return 100 * mean_where(found, ~np.isnan(found))


def _area(logits: Floats, wanted: Floats, counts: Counts) -> Floats:
    """(r,) average precisions of one label on each resample, nan where none of it is asked."""
    order = np.argsort(-logits, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(logits[order]) != 0, True))
    drawn = counts[:, order].astype(np.float64)
    given = drawn.cumsum(axis=1)[:, ends]
    right = (drawn * wanted[order]).cumsum(axis=1)[:, ends]
    areas = (np.diff(right, axis=1, prepend=0.0) * share_of(right, given)).sum(axis=1)
    asked = right[:, -1]
    return np.asarray(np.divide(areas, asked, out=np.full(len(counts), np.nan), where=asked > 0), dtype=np.float64)
