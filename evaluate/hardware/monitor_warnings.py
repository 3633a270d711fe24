"""What a summary of `evaluate.hardware.monitor` means for the figures, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Other processes: this much of all cores (or of one core, where there are many) at the median; this much at any time.
_OTHERS, _OTHERS_ONE = 0.1, 0.5
_PEAK, _PEAK_ONE = 0.25, 1.0
# Shares of time, and relative changes, above which a figure is no longer that of a machine at rest.
_STEAL, _STOPPED, _SWING, _BUSY = 0.01, 0.005, 1.1, 0.7
_WARMER = 10.0
# With these drivers "powersave" is the usual governor, and follows the work.
_DYNAMIC = ("intel_pstate", "amd-pstate-epp")


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """Plain sentences with figures and the next step, the worst first; [] for a quiet machine.

    What the summary does not hold, or holds as None, is left unsaid.
    """
    rules = (_others, _load, _quota, _steal, _throttled, _clock, _warmer)
    return [sentence for sentence in (rule(summary) for rule in rules) if sentence is not None]


def _others(summary: Mapping[str, Any]) -> str | None:
    others, cores = summary.get("others_cores"), summary.get("cores")
    if not others or not cores:
        return None
    often, peak = others["median"], others["max"]
    if often < min(_OTHERS * cores, _OTHERS_ONE) and peak < min(_PEAK * cores, _PEAK_ONE):
        return None
    return (
        f"other processes used {often:.1f} of {cores} cores while this was measured (up to {peak:.1f} at times): stop "
        "them, which `top` names, or measure when the machine is quiet"
    )


def _load(summary: Mapping[str, Any]) -> str | None:
    """Only where the work of others cannot be told: a load has this measurement in it."""
    load, cores = summary.get("load_1m"), summary.get("cores")
    if summary.get("others_cores") or not load or not cores or load[0] <= _BUSY * cores:
        return None
    return f"the load was {load[0]:.1f} on {cores} cores when this began: measure when the machine is quiet"


def _quota(summary: Mapping[str, Any]) -> str | None:
    cores, stopped, seconds = (summary.get(key) for key in ("quota_cores", "quota_stopped_s", "seconds"))
    held = stopped if stopped and stopped > _STOPPED * (seconds or 0) else None
    if cores is None or (cores >= 1 and held is None):
        return None
    # The kernel adds up the stops of every core, so that they may be longer than the run.
    lost = f", and its cores were stopped for {held:.1f} s in all, in a run of {seconds:.1f} s" if held else ""
    more = "at least one core" if cores < 1 else "more cores, or take fewer threads"
    return (
        f"this container may use {cores:g} cores{lost}: calls wait for the next period of the quota; give it {more} "
        "(docker run --cpus)"
    )


def _steal(summary: Mapping[str, Any]) -> str | None:
    share = summary.get("steal_share")
    if share is None or share < _STEAL:
        return None
    return (
        f"the host took {100 * share:.1f} % of the processor time for other virtual machines (steal): measure "
        "longer, at another time, or on a machine of your own"
    )


def _throttled(summary: Mapping[str, Any]) -> str | None:
    if not summary.get("throttled"):
        return None
    heat = summary.get("temperature_c")
    shown = f" at up to {heat[2]:.0f} degrees Celsius" if heat else ""
    return (
        f"the processor was throttled (heat or power supply){shown} while this was measured: cool it or give it a "
        "stronger supply, or hold its clock below the limit, and measure again"
    )


def _clock(summary: Mapping[str, Any]) -> str | None:
    clock, governor = summary.get("frequency_mhz"), summary.get("governor")
    chosen = f"; the governor is {governor}" if governor else ""
    remedy = "set the governor performance (sudo cpupower frequency-set -g performance)"
    if clock and clock[1] > _SWING * clock[0]:
        also = ", and switch turbo off" if governor == "performance" else f": {remedy}, and switch turbo off"
        return f"the clock moved between {clock[0]:.0f} and {clock[1]:.0f} MHz while this was measured{chosen}{also}"
    if governor == "powersave" and summary.get("clock_driver") not in _DYNAMIC:
        return f"the governor is powersave, which holds the clock at its lowest: {remedy}"
    return None


def _warmer(summary: Mapping[str, Any]) -> str | None:
    heat = summary.get("temperature_c")
    if not heat or heat[1] - heat[0] < _WARMER:
        return None
    return (
        f"the processor warmed from {heat[0]:.0f} to {heat[1]:.0f} degrees Celsius while this was measured: run it "
        "once before, so that it starts warm, and look at the drift"
    )
