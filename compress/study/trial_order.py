"""Which trial comes first.

A law can be fitted as soon as the ends of every axis are known, and gets better by what lies between. So the first seed
of everything comes before the second seed of anything; within a seed the extremes come first (smallest and largest
size, dense and the strongest and mildest level, least and most data), then what halves the gaps between them, and so
on; of equally useful trials the cheaper one, and each native model right after the compressed model it is compared
with. Whenever a study is cut off, its Records span the whole range, and evenly.
"""

from __future__ import annotations

from collections.abc import Sequence


def tiers(count: int) -> list[int]:
    """For each of `count` places in a row, how early it is wanted: the ends 0, the middle 1, the quarters 2, ..."""
    found = [0] * count
    gaps: Sequence[tuple[int, int]] = [(0, count - 1)]
    tier = 1
    while gaps:
        halves = []
        for low, high in gaps:
            if high - low > 1:
                middle = (low + high) // 2
                found[middle] = tier
                halves += [(low, middle), (middle, high)]
        gaps, tier = halves, tier + 1
    return found
