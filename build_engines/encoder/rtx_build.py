"""Compiles the encoder's ONNX file with TensorRT for RTX, without a GPU or a container.

Its parser, networks and profiles are those of TensorRT; every network is strongly typed. An engine runs on all
supported GPUs (compute capability 7.5, 8.x and 12.x, not Hopper): kernels are chosen when it is loaded.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from af3.encoder.interface import TENSORRT_RTX_MODULE
from build_engines.encoder import tensorrt_build
from build_engines.encoder.tensorrt_build import Profile
from build_engines.stage import BuildError

PACKAGES = ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12-libs")
# TensorRT logs that the machine has no driver, and builds the engine anyway.
NO_DRIVER = ("cudaError 35", "CUDA initialization")

Shape = tuple[int, ...]
Bounds = Mapping[str, tuple[Shape, Shape, Shape]]  # input → least, best, most
TensorFacts = tuple[str, Shape]  # dtype, dims; -1 is dynamic


@dataclass(frozen=True)
class Layer:
    kind: str
    name: str
    dtype: str  # of its first output


@dataclass(frozen=True)
class Built:
    """An engine, and TensorRT's facts about it and its network. Sizes are bytes on the GPU, by profile."""

    inputs: dict[str, TensorFacts]
    outputs: dict[str, TensorFacts]
    layers: tuple[Layer, ...]
    activation_bytes: tuple[int, ...]
    weight_bytes: int
    engine_bytes: int
    warnings: tuple[str, ...]
    plan: memoryview | bytes = field(repr=False)


def bounds(profiles: Sequence[Profile], placed: bool = False) -> list[Bounds]:
    """Shapes of the encoder's inputs in each profile. placed: the graph has the input `window_index` (RoTE)."""
    scalars = ("pcm_lengths", "window_index") if placed else ("pcm_lengths",)
    return [
        {"pcm": (profile.least, profile.best, profile.most)}
        | dict.fromkeys(scalars, (profile.least[:1], profile.best[:1], profile.most[:1]))
        for profile in profiles
    ]


def write_engine(onnx: Path, plan: Path, windows: int, placed: bool) -> Built:
    """Compile the encoder in mixed precision for calls of up to `windows` windows. Raises BuildError."""
    built = compile_engine(onnx, bounds(tensorrt_build.profiles_up_to(windows), placed))
    plan.write_bytes(built.plan)
    return built


def compile_engine(onnx: Path, profiles: Sequence[Bounds]) -> Built:
    """Parse and build. Raises BuildError with TensorRT's message when it fails, or when it is not installed."""
    trt = _library()
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        said = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise BuildError(f"{onnx}: TensorRT for RTX cannot parse this graph: {said}")
    config = builder.create_builder_config()
    for profile in profiles:
        described = builder.create_optimization_profile()
        for name, shapes in profile.items():
            described.set_shape(name, *shapes)
        if config.add_optimization_profile(described) < 0:
            raise BuildError(f"{onnx}: TensorRT for RTX rejects the shapes {dict(profile)}")
    engine = builder.build_serialized_network(network, config)
    severity = trt.ILogger.Severity
    errors = [
        line
        for line in log.of(severity.ERROR, severity.INTERNAL_ERROR)
        if not any(words in line for words in NO_DRIVER)
    ]
    if engine is None or errors:
        raise BuildError(
            f"{onnx}: TensorRT for RTX could not build it: {'; '.join(errors) or 'no reason given'}"
        )
    said = "\n".join(log.of(severity.INFO))
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    return Built(
        inputs=_facts([network.get_input(number) for number in range(network.num_inputs)]),
        outputs=_facts([network.get_output(number) for number in range(network.num_outputs)]),
        layers=tuple(
            Layer(layer.type.name, layer.name, layer.get_output(0).dtype.name)
            for layer in layers
            if layer.num_outputs
        ),
        activation_bytes=tuple(map(int, re.findall(r"Total Activation Memory: (\d+) bytes", said))),
        weight_bytes=int(re.findall(r"Total Weights Memory: (\d+) bytes", said)[-1]),
        engine_bytes=engine.nbytes,
        warnings=tuple(log.of(severity.WARNING)),
        plan=memoryview(engine),
    )


def _library() -> Any:
    try:
        return importlib.import_module(TENSORRT_RTX_MODULE)
    except ImportError as error:
        raise BuildError(
            f"TensorRT for RTX is not installed here ({error}); `make setup-vllm GPU=rtx` installs it"
        ) from None


def _facts(tensors: Sequence[Any]) -> dict[str, TensorFacts]:
    return {tensor.name: (tensor.dtype.name, tuple(tensor.shape)) for tensor in tensors}


def _log(trt: Any) -> Any:
    """A logger that keeps messages: TensorRT reports errors and sizes only in its log."""

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[Any, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((severity, message))

        def of(self, *severities: Any) -> list[str]:
            return [message for severity, message in self.lines if severity in severities]

    return Log()
