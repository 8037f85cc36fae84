"""Implements `af3.encoder.device.Device` with TensorRT and CUDA.

Imported only where CUDA's Python bindings are installed: with TensorRT 10.11 in the pinned container, or with TensorRT
for RTX. It has never run, for want of a GPU. `tests/unit/af3/test_encoder_tensorrt.py` tests its caller with a
stand-in, and that TensorRT for RTX has every name used here; `tests/contract/test_recorded_names.py` holds the names to
lists of TensorRT 10.11 and of CUDA's bindings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart

from af3.encoder.device import Profile
from af3.encoder.device_array import CUDA
from af3.errors import RequestError
from af3.manifest import ManifestError

DTYPE_NAMES = {"BF16": "bfloat16", "HALF": "float16", "FLOAT": "float32"}
# By default TensorRT for RTX compiles kernels for new shapes in the background; a graph captured before they are ready
# would keep the slower ones.
SPECIALIZATION = "DynamicShapesKernelSpecializationStrategy"


class CudaMemory:
    """A block from cudaMalloc, which CUDA can share with the server process (blocks of memory pools it cannot)."""

    def __init__(self, nbytes: int):
        error, self.address = cudart.cudaMalloc(nbytes)
        if error == cudart.cudaError_t.cudaErrorMemoryAllocation:
            raise RequestError(
                "UNAVAILABLE",
                f"audio: the GPU has no {nbytes} bytes left for its embeddings; try again later",
            )
        check(error)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            cudart.cudaFree(self.address)


@dataclass(frozen=True)
class Graph:
    """A captured graph and its execution context, which must live as long."""

    handle: Any
    stream: Any
    context: Any = field(repr=False)

    def __call__(self) -> None:
        check(*cudart.cudaGraphLaunch(self.handle, self.stream))

    def __del__(self) -> None:
        cudart.cudaGraphExecDestroy(self.handle)


class TensorRTDevice:
    """One engine with one stream on the current CUDA device."""

    dlpack_device = (CUDA, 0)

    def __init__(self, plan: Path, tensorrt: Any):
        """tensorrt: the Python module of TensorRT or of TensorRT for RTX."""
        self._tensorrt = tensorrt
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self._engine = load_engine(self._runtime, plan, tensorrt.__version__)
        self._names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._stream = value(cudart.cudaStreamCreate())
        # Contexts run one at a time, so they share one block of activations.
        self._activations = CudaMemory(self._engine.device_memory_size_v2)
        self.dtype = DTYPE_NAMES[self._engine.get_tensor_dtype("audio_embeddings").name]
        self.hidden_size = self._engine.get_tensor_shape("audio_embeddings")[-1]
        self.profiles: Sequence[Profile] = [
            self._profile(index) for index in range(self._engine.num_optimization_profiles)
        ]

    def allocate(self, nbytes: int) -> CudaMemory:
        return CudaMemory(nbytes)

    def upload(self, values: np.ndarray, address: int) -> None:
        # `values` is pageable memory, so CUDA has copied it when the call returns.
        self._copy(values.ctypes.data, address, values.nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, address: int, nbytes: int) -> np.ndarray:
        values = np.empty(nbytes, np.uint8)
        self._copy(address, values.ctypes.data, nbytes, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost)
        self.synchronize()
        return values

    def copy(self, source: int, destination: int, nbytes: int) -> None:
        self._copy(source, destination, nbytes, cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def capture(
        self, profile: int, shape: tuple[int, int], addresses: Mapping[str, int]
    ) -> Callable[[], None]:
        """Capture with a new execution context: TensorRT forbids changing one that was captured before."""
        context = self._context()
        context.device_memory = self._activations.address
        context.set_optimization_profile_async(profile, int(self._stream))
        for name in self._names:
            if self._engine.get_tensor_mode(name) == self._tensorrt.TensorIOMode.INPUT:
                context.set_input_shape(name, shape if name == "pcm" else shape[:1])
            context.set_tensor_address(name, addresses[name])
        # The first run of a shape allocates and chooses kernels, which must not happen during the capture.
        self._enqueue(context, shape)
        self.synchronize()
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check(*cudart.cudaStreamBeginCapture(self._stream, mode))
        self._enqueue(context, shape)
        graph = value(cudart.cudaStreamEndCapture(self._stream))
        handle = value(cudart.cudaGraphInstantiate(graph, 0))
        check(*cudart.cudaGraphDestroy(graph))
        return Graph(handle, self._stream, context)

    def synchronize(self) -> None:
        check(*cudart.cudaStreamSynchronize(self._stream))

    def _context(self) -> Any:
        """Create an execution context that uses our activation memory."""
        strategy = self._tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
        specialization = getattr(self._tensorrt, SPECIALIZATION, None)
        if specialization is None:
            return self._engine.create_execution_context(strategy)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = specialization.EAGER
        return self._engine.create_execution_context(config)

    def _profile(self, index: int) -> Profile:
        least, _, most = self._engine.get_tensor_profile_shape("pcm", index)
        return Profile(tuple(least), tuple(most))

    def _enqueue(self, context: Any, shape: tuple[int, int]) -> None:
        if not context.execute_async_v3(int(self._stream)):
            raise RuntimeError(f"TensorRT could not run the encoder for {shape} windows and samples")

    def _copy(self, source: int, destination: int, nbytes: int, kind: Any) -> None:
        check(*cudart.cudaMemcpyAsync(destination, source, nbytes, kind, self._stream))


def load_engine(runtime: Any, plan: Path, version: str) -> Any:
    """Load an engine file. Raises ManifestError when it was built by another TensorRT or for another GPU."""
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise ManifestError(
            f"{plan}: TensorRT {version} cannot load this engine on this GPU; "
            "build it again with `make engines`"
        )
    return engine


def value(result: tuple[Any, Any]) -> Any:
    """Check a CUDA call's status and return its value."""
    check(result[0])
    return result[1]


def check(error: Any) -> None:
    """Raise RuntimeError with CUDA's message unless the call succeeded."""
    if error != cudart.cudaError_t.cudaSuccess:
        raise RuntimeError(f"CUDA: {cudart.cudaGetErrorString(error)[1].decode()}")
