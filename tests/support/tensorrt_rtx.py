"""Real TensorRT on a CPU: TensorRT for RTX parses ONNX files and builds engines without a GPU (it runs them on one).

Its parser, network and profiles are TensorRT's own, and every network is strongly typed. It knows compute capability
7.5, 8.x and 12.x, so not the H100's kernels: what it proves is the graph, its types and shapes, not the speed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from build_engines.encoder import tensorrt_build
from build_engines.targets.target import Target

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]  # input → least, best, most
TensorFacts = tuple[str, Shape]  # dtype, dims; -1 is dynamic


@dataclass(frozen=True)
class Layer:
    kind: str
    name: str
    dtype: str  # of its first output


@dataclass(frozen=True)
class Built:
    """What TensorRT says of a network and of the engine that it made. Bytes on the GPU, by profile."""

    inputs: dict[str, TensorFacts]
    outputs: dict[str, TensorFacts]
    layers: tuple[Layer, ...]
    activation_bytes: tuple[int, ...]
    weight_bytes: int
    engine_bytes: int
    warnings: tuple[str, ...]


def build(onnx: Path, profiles: Sequence[Profile]) -> Built:
    """Parse and build. Raises AssertionError with TensorRT's own words when it cannot."""
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[Any, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((severity, message))

        def of(self, *severities: Any) -> list[str]:
            return [message for severity, message in self.lines if severity in severities]

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse_from_file(str(onnx))
    assert parsed, [str(parser.get_error(number)) for number in range(parser.num_errors)]
    config = builder.create_builder_config()
    for profile in profiles:
        described = builder.create_optimization_profile()
        for name, shapes in profile.items():
            described.set_shape(name, *shapes)
        assert config.add_optimization_profile(described) >= 0, profile
    engine = builder.build_serialized_network(network, config)
    errors = log.of(trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)
    # A machine without a driver is said to be one, and the engine is built all the same.
    errors = [line for line in errors if "cudaError 35" not in line and "CUDA initialization" not in line]
    assert engine is not None, log.of(trt.ILogger.Severity.ERROR)
    assert not errors, errors
    said = "\n".join(log.of(trt.ILogger.Severity.INFO))

    def facts(tensors: Sequence[Any]) -> dict[str, TensorFacts]:
        return {tensor.name: (tensor.dtype.name, tuple(tensor.shape)) for tensor in tensors}

    layers = [network.get_layer(number) for number in range(network.num_layers)]
    return Built(
        inputs=facts([network.get_input(number) for number in range(network.num_inputs)]),
        outputs=facts([network.get_output(number) for number in range(network.num_outputs)]),
        layers=tuple(
            Layer(layer.type.name, layer.name, layer.get_output(0).dtype.name)
            for layer in layers
            if layer.num_outputs
        ),
        activation_bytes=tuple(map(int, re.findall(r"Total Activation Memory: (\d+) bytes", said))),
        weight_bytes=int(re.findall(r"Total Weights Memory: (\d+) bytes", said)[-1]),
        engine_bytes=engine.nbytes,
        warnings=tuple(log.of(trt.ILogger.Severity.WARNING)),
    )


def encoder_profiles(target: Target, placed: bool = False) -> list[Profile]:
    """The profiles that Polygraphy is given for a target; `placed`: of a class whose windows have their index."""
    counts = ("pcm_lengths", "window_index") if placed else ("pcm_lengths",)
    return [
        {"pcm": (profile.least, profile.best, profile.most)}
        | dict.fromkeys(counts, (profile.least[:1], profile.best[:1], profile.most[:1]))
        for profile in tensorrt_build.profiles(target)
    ]


def voice_profile(bounds: Sequence[str]) -> Profile:
    """Shapes as Polygraphy reads them, `name:[1,2]` at least, best and most."""
    name = bounds[0].partition(":")[0]
    least, best, most = (tuple(map(int, re.findall(r"\d+", bound.partition(":")[2]))) for bound in bounds)
    return {name: (least, best, most)}
