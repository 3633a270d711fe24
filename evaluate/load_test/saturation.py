"""Where a larger batch stops paying."""

from __future__ import annotations

import math
from collections.abc import Mapping

TOLERANCE = 0.05


def saturation(throughputs: Mapping[int, tuple[float, float, float]], tolerance: float = TOLERANCE) -> int | None:
    """The smallest batch whose throughput is within `tolerance` of the best; None where it still rises.

    throughputs : batch -> (samples per second, low, high), the interval of each.

    A batch counts as within the tolerance only where its interval shows it: its low end against the high end of the
    best. The best counts as itself. Where that leaves the largest batch alone, a larger one might be better still, and
    nothing can be said. Raises ValueError for batches below 1, or values that do not lie in their intervals.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be at least 0 and below 1, got {tolerance}")
    for batch, (value, low, high) in throughputs.items():
        if batch < 1 or not 0 < low <= value <= high < math.inf:
            raise ValueError(
                f"batch {batch} has throughput {value} in [{low}, {high}]; 0 < low <= value <= high needed"
            )
    if not throughputs:
        return None
    best = min(throughputs, key=lambda batch: (-throughputs[batch][0], batch))
    enough = (1 - tolerance) * throughputs[best][2]
    found = min(batch for batch, (_, low, _) in throughputs.items() if batch == best or low >= enough)
    return found if found < max(throughputs) else None
