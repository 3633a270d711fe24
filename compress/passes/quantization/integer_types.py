"""Which integer types are fast and do not saturate depends on the CPU the file will run on.

| target         | activations, weights     | because |
|----------------|--------------------------|---------|
| vnni           | uint8, int8              | one instruction multiplies u8 by s8, adds into 32 bits: exact |
| avx2, avx512   | uint8, int8 in 7 bits    | pairs of products add in 16 bits and saturate with 8-bit weights |
| arm            | int8, int8               | signed kernels are the native ones |
"""

from __future__ import annotations

from dataclasses import dataclass

from evaluate.hardware.environment import int8_path


@dataclass(frozen=True)
class Scheme:
    """The integer types of a target: activations unsigned or not, weights in 7 bits or 8, and why."""

    target: str
    unsigned_activations: bool
    reduce_range: bool
    reason: str

    @property
    def most(self) -> int:
        """The largest step of a weight."""
        return 63 if self.reduce_range else 127

    @property
    def largest(self) -> int:
        """The largest step of a weight that onnxruntime's quantizer writes: one more, where two such sums still fit."""
        return 64 if self.reduce_range else 127

    @property
    def weight_bits(self) -> int:
        """The bits that steps of weights take."""
        return 7 if self.reduce_range else 8


_SCHEMES = {
    "vnni": Scheme("vnni", True, False, "u8 x s8 accumulates in 32 bits"),
    "avx512": Scheme("avx512", True, True, "without VNNI, u8 x s8 pairs saturate at 16 bits: weights keep 7 bits"),
    "avx2": Scheme("avx2", True, True, "without VNNI, u8 x s8 pairs saturate at 16 bits: weights keep 7 bits"),
    "arm": Scheme("arm", False, False, "signed int8 kernels are native"),
}


def scheme_for(target: str) -> Scheme:
    """The integer types for a target; `auto` asks the machine this runs on."""
    if target != "auto":
        return _SCHEMES[target]
    path = int8_path()
    return _SCHEMES["arm" if path.startswith("neon") else path if path in _SCHEMES else "avx2"]
