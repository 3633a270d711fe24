"""The words of a law: names of its variables with units, numbers with their intervals, sentences of its answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from evaluate.core.text import clean, count, finite, ratio, size

# name -> words for an axis; others stand as they are named.
LABELS = {
    "params": "params",
    "nonzero": "nonzero params",
    "N": "N (params)",
    "D": "D (data: samples or tokens)",
    "N_nonzero": "nonzero params",
    "macs": "MACs",
    "bytes": "size of the file, bytes",
    "packed_bytes": "packed size, bytes",
    "bits": "bits per weight",
    "P": "P (bits)",
    "density": "density (retained params), %",
    "retained_bytes": "bytes kept of the dense file, %",
    "retained_macs": "MACs kept of the dense model, %",
    "samples": "training samples",
    "n": "training samples",
    "compute": "training compute, MACs",
    "train_macs": "training compute, MACs",
    "C": "C (compute)",
    "error": "error, %",
    "accuracy": "accuracy, %",
    "loss": "loss",
}
BYTES = ("bytes", "packed_bytes")
SHARES = (
    "error",
    "accuracy",
    "density",
    "retained_bytes",
    "retained_macs",
    "sparsity",
    "test_err",
    "train_err",
    "test_error",
)


def axis_label(name: str) -> str:
    """The label of an axis: the quantity and its unit."""
    return LABELS.get(name) or clean(name, 40) + (", %" if name in SHARES else "")


def named(name: str) -> str:
    """A quantity inside a sentence, without its unit."""
    return LABELS.get(name, clean(name, 40)).partition(",")[0].partition(" (")[0]


def quantity(name: str, value: Any) -> str:
    """A value of a variable or of the target in its unit: `23.4 k`, `1.09 MB`, `8.2 %`; loss as it is."""
    if not finite(value):
        return "no limit" if isinstance(value, float) and value > 0 else "-"
    if name in SHARES:
        return f"{100 * value:.3g} %"
    if name in BYTES:
        return size(value)
    return plain_figure(value)


def plain_figure(value: float) -> str:
    """Three digits or so, with k, M, G and T, and powers of ten beyond: `2.31`, `23.4 k`, `5.76e+23`."""
    if 999.5e9 <= abs(value) < 999.5e12:
        return count(value / 1000).replace(" G", " T")
    if 1000 <= abs(value) < 999.5e9:
        return count(value)
    return f"{value:.4g}" if 1 <= abs(value) < 1000 else f"{value:.3g}"


def interval_figure(name: str, value: Any, low: Any, high: Any) -> str:
    """`23.4 k (20.1 k to 29.0 k)`; an end that is not known is said, never left out."""
    if not finite(value):
        return "-"
    low, high = (_end(name, end) for end in (low, high))
    return f"{quantity(name, value)} ({low} to {high})"


def _end(name: str, end: Any) -> str:
    return quantity(name, end) if finite(end) else "no end"


def number(value: Any, low: Any = None, high: Any = None) -> str:
    """A parameter with as many digits as its interval resolves, one more at most; four without one."""
    if not finite(value):
        return "-"
    digits = 4
    if finite(low) and finite(high) and high > low and value:
        digits = min(6, max(3, 2 + math.ceil(-math.log10((high - low) / max(abs(value), high - low)))))
    return _short(value, digits)


def _short(value: float, digits: int) -> str:
    """`digits` significant digits: `2140`, `0.0213`; powers of ten only for what is very large or small."""
    if not value:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    if 1e-4 <= abs(rounded) < 1e6:
        return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"
    return re.sub(r"e([+-])0*(?=\d)", r"e\1", f"{rounded:.{digits - 1}e}")


def number_interval(low: Any, high: Any, value: Any = None) -> str:
    """`0.317 to 0.373`: the interval of a parameter; `not known` where there is none."""
    if not (finite(low) and finite(high)):
        return "not known"
    middle = value if finite(value) else (low + high) / 2
    digits = min(6, max(3, 2 + math.ceil(-math.log10(max((high - low) / max(abs(middle), high - low, 1e-300), 1e-6)))))
    return f"{_short(low, digits)} to {_short(high, digits)}"


def span_text(name: str, ends: Sequence[Any]) -> str:
    """`params 1.06 k to 82.1 k`: the range of the points in one variable."""
    return f"{named(name)} {quantity(name, ends[0])} to {quantity(name, ends[1])}"


def beyond_text(beyond: Any) -> str:
    """How far an answer lies outside of the points; empty inside of them."""
    if not finite(beyond) or beyond <= 1:
        return ""
    told = ratio(beyond).rstrip("x") if beyond < 999.5 else plain_figure(beyond)
    return f"{told} times beyond the points"


def answer_sentence(answer: Mapping[str, Any], target: str, doubts: bool = True) -> str:
    """One answer of `solve`: `params for error 8 %: 23.4 k (20.1 k to 29.0 k)`, or that it is out of reach, and why.

    doubts : whether what is doubtful about it is said too.
    """
    variable = str(answer.get("variable") or "x")
    wanted = answer.get("target", answer.get("y"))
    asked = f"{named(variable)} for {named(target)} {quantity(target, wanted)}" if finite(wanted) else named(variable)
    given = ", ".join(
        f"{named(k)} {clean(v, 24) if isinstance(v, str) else quantity(k, v)}"
        for k, v in (answer.get("given") or {}).items()
    )
    asked += f" at {given}" if given else ""
    if not answer.get("reachable", True) or not finite(answer.get("value")):
        return f"{asked}: out of reach" + (f", {clean(answer['reason'])}" if answer.get("reason") else "")
    text = f"{asked}: {interval_figure(variable, answer['value'], answer.get('low'), answer.get('high'))}"
    doubt = clean(answer.get("reason") or "") or beyond_text(answer.get("beyond"))
    return text + (f"; {doubt}" if doubt and doubts else "")
