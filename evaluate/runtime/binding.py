"""Calls without arguments on inputs that lie where they are needed: what `Session.bind` gives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[[], object]


def host_call(native: Any, outputs: Sequence[str], arrays: Mapping[str, Array]) -> Call:
    """numpy in, new numpy arrays out.

    Not by a binding to host memory: that would copy the inputs to a GPU once, when they are bound, and never in the
    call (onnxruntime#5857).
    """
    return functools.partial(native.run, list(outputs), dict(arrays))


def bound_call(
    runtime: Any, native: Any, outputs: Sequence[str], arrays: Mapping[str, Array], device: str, *, transfers: bool
) -> tuple[Call, Any]:
    """The call, and its binding; nothing is run yet.

    transfers : copy the inputs to the device and the outputs from it in every call, with both memories fixed, as CUDA
                graphs need it. Otherwise inputs are copied here, once, and outputs stay.
    """
    values = {name: runtime.OrtValue.ortvalue_from_numpy(array, device, 0) for name, array in arrays.items()}
    binding = native.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in outputs:  # the runtime allocates at the first run, and writes to the same memory ever after
        binding.bind_output(name, device)
    if device == "cpu":
        return _plain(native, binding, (arrays, values)), binding
    binding.synchronize_inputs()
    if transfers:
        return _transferring(native, binding, [(values[name], array) for name, array in arrays.items()]), binding
    return _synchronized(native, binding, values), binding


def output_addresses(binding: Any) -> list[int]:
    """Where the outputs of the last run lie."""
    return [value.data_ptr() for value in binding.get_outputs()]


def _plain(native: Any, binding: Any, kept: object) -> Call:
    """Nearly as cheap as calling the runtime by hand; a function, as Python calls those faster than a `partial`."""
    run = native.run_with_iobinding

    def call(_kept: object = kept) -> None:  # the binding points into these arrays, and older runtimes do not hold them
        run(binding)

    return call


def _synchronized(native: Any, binding: Any, kept: object) -> Call:
    """A run waits for its stream by default; asked for here as well, so that no version returns early."""
    run, wait = native.run_with_iobinding, binding.synchronize_outputs

    def call(_kept: object = kept) -> None:
        run(binding)
        wait()

    return call


def _transferring(native: Any, binding: Any, pairs: Sequence[tuple[Any, Array]]) -> Call:
    run = native.run_with_iobinding

    def call() -> object:
        for value, array in pairs:
            value.update_inplace(array)
        binding.synchronize_inputs()  # the copy and the graph are on different streams
        run(binding)
        return binding.copy_outputs_to_cpu()

    return call
