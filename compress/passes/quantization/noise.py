"""How far one file's outputs are from another's: the power of what changes over the output's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluate.runtime.session import Value, judged_place, open_session


def outputs_of(data: bytes, calls: Sequence[Mapping[str, Value]], *, optimize: bool = True) -> NDArray[np.float64]:
    """The judged output of all calls, one after the other, flat. Without optimization nothing is fused."""
    with open_session(data, optimize=optimize) as session:
        given = [session.run(feeds) for feeds in calls]
    return np.concatenate([np.asarray(one[judged_place(one)], dtype=np.float64).reshape(-1) for one in given])


def noise_of(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """0 where nothing changes; 0.01 is 20 dB. What is not finite is left out."""
    finite = np.isfinite(found) & np.isfinite(wanted)
    power, apart = (float(np.square(values[finite]).sum()) for values in (wanted, found - wanted))
    return apart / power if power > 0 else apart


def decibel(noise: float) -> float | None:
    """The signal-to-noise ratio in dB; None where nothing changes."""
    return float(-10 * np.log10(noise)) if noise > 0 else None
