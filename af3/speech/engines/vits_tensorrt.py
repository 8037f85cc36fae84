"""Runs the graphs of a VITS voice on TensorRT, from `<name>.plan`.

Imported only in the pinned container (TensorRT 10.11). Like `af3.encoder.tensorrt_engine`, it has never run, for want
of a GPU.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt
from cuda.bindings import runtime as cudart
from numpy.typing import NDArray

from af3.encoder.tensorrt_engine import CudaMemory, check, load_engine, value
from af3.speech.engines.vits_interface import GRAPHS


class TensorRTGraphs:
    """One execution context per graph, used one at a time: segments are short, and all work shares one stream."""

    def __init__(self, folder: Path):
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self._engines = {
            name: load_engine(runtime, folder / f"{name}.plan", tensorrt.__version__) for name in GRAPHS
        }
        self._contexts = {name: engine.create_execution_context() for name, engine in self._engines.items()}
        self._stream = value(cudart.cudaStreamCreate())
        self._lock = threading.Lock()

    def run(self, name: str, values: NDArray[Any]) -> list[NDArray[np.float32]]:
        engine, context = self._engines[name], self._contexts[name]
        input_name, *output_names = (engine.get_tensor_name(place) for place in range(engine.num_io_tensors))
        given = np.ascontiguousarray(values)
        with self._lock:
            context.set_input_shape(input_name, given.shape)
            outputs = [np.empty(context.get_tensor_shape(output), np.float32) for output in output_names]
            memory = [CudaMemory(array.nbytes) for array in (given, *outputs)]
            for tensor, block in zip((input_name, *output_names), memory, strict=True):
                context.set_tensor_address(tensor, block.address)
            self._copy(given.ctypes.data, memory[0].address, given.nbytes, "HostToDevice")
            if not context.execute_async_v3(int(self._stream)):
                raise RuntimeError(f"TensorRT could not run the voice's {name} for the shape {given.shape}")
            for array, block in zip(outputs, memory[1:], strict=True):
                self._copy(block.address, array.ctypes.data, array.nbytes, "DeviceToHost")
            check(*cudart.cudaStreamSynchronize(self._stream))
        return outputs

    def _copy(self, source: int, destination: int, nbytes: int, direction: str) -> None:
        kind = getattr(cudart.cudaMemcpyKind, f"cudaMemcpy{direction}")
        check(*cudart.cudaMemcpyAsync(destination, source, nbytes, kind, self._stream))
