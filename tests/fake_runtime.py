"""A stand-in for an onnxruntime with a GPU: it keeps a diary of what was asked of it, and computes on the CPU."""

from __future__ import annotations

import types

import numpy as np
import onnxruntime

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


class Value:
    """An OrtValue on the device."""

    def __init__(self, diary, array):
        self.diary, self.array = diary, np.array(array)

    def update_inplace(self, array):
        self.diary.append("to device")
        self.array[...] = array

    def data_ptr(self):
        return id(self.array)


class Binding:
    def __init__(self, native):
        self.native, self.inputs, self.outputs = native, {}, {}

    def bind_ortvalue_input(self, name, value):
        self.inputs[name] = value

    def bind_output(self, name, device):
        self.outputs[name] = device

    def synchronize_inputs(self):
        self.native.diary.append("sync inputs")

    def synchronize_outputs(self):
        self.native.diary.append("sync outputs")

    def copy_outputs_to_cpu(self):
        self.native.diary.append("to host")
        return [np.array(value.array) for value in self.results]

    def get_outputs(self):
        return self.results


class Native:
    """A session: on the providers of the fake, computing with a real one."""

    def __init__(self, gpu, source, options, providers, enable_fallback):
        assert not enable_fallback
        self.gpu, self.diary = gpu, gpu.diary
        self.real = onnxruntime.InferenceSession(source, options, providers=[CPU])
        self.providers = gpu.runs_on or [name for name, _ in providers] + [CPU]
        gpu.asked = providers
        if gpu.fails_to_load:
            raise gpu.fails_to_load
        if gpu.placed is not None:
            self.get_provider_graph_assignment_info = lambda: [part(*p) for p in gpu.placed]

    def get_inputs(self):
        return self.real.get_inputs()

    def get_outputs(self):
        return self.real.get_outputs()

    def get_providers(self):
        return self.providers

    def io_binding(self):
        return Binding(self)

    def run(self, names, feeds):
        self.diary.append("run from host")
        return self.real.run(names, feeds)

    def run_with_iobinding(self, binding):
        self.diary.append("run")
        if self.gpu.fails_to_run:
            raise self.gpu.fails_to_run
        out = self.real.run(None, {name: value.array for name, value in binding.inputs.items()})
        if not hasattr(binding, "results") or self.gpu.moves:
            binding.results = [Value(self.diary, array) for array in out]
            self.gpu.allocated.extend(binding.results)  # never freed, so that no address comes twice
        for value, array in zip(binding.results, out, strict=True):
            value.array[...] = array


def part(where, *operators):
    nodes = [types.SimpleNamespace(op_type=operator) for operator in operators]
    return types.SimpleNamespace(ep_name=where, get_nodes=lambda: nodes)


class FakeGpu:
    """`runtime` is the module; the other attributes say how it behaves, and what was asked of it."""

    def __init__(self):
        self.diary, self.asked = [], None
        self.runs_on = self.placed = self.fails_to_load = self.fails_to_run = None
        self.moves, self.says, self.allocated = False, "", []
        runtime = types.SimpleNamespace(**vars(onnxruntime))
        runtime.get_available_providers = lambda: [TENSORRT, CUDA, CPU]
        runtime.preload_dlls = lambda: print(self.says)
        runtime.OrtValue = types.SimpleNamespace(ortvalue_from_numpy=self.to_device)
        runtime.InferenceSession = self.session
        self.runtime = runtime

    def to_device(self, array, device, index):
        assert (device, index) == ("cuda", 0)
        self.diary.append("to device")
        return Value(self.diary, array)

    def session(self, source, options, *, providers, enable_fallback=1):
        if providers == [CPU]:
            return onnxruntime.InferenceSession(source, options, providers=providers)
        return Native(self, source, options, providers, enable_fallback)
