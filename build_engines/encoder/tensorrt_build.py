"""Prepares the encoder's ONNX file for TensorRT: writes mixed precision into the graph, then runs Polygraphy.

TensorRT builds the network strongly typed: every tensor has the type that the graph gives it. So the graph is rewritten
here, on the CPU, where tests can run it: BF16 everywhere except log-mel, softmax and layer norm, which stay FP32. The
pinned container builds and compares the engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from af3.encoder.tensorrt_encoder import SHAPE_STEP_SAMPLES
from af3.inputs.audio import HOP, SAMPLE_RATE, WINDOW_FRAMES
from build_engines.stage import BuildError
from build_engines.targets.target import Target

FP32_OPS = frozenset({"Softmax", "LayerNormalization", "ReduceMean"})
FIRST_OF_TOWER = "tower.conv1.weight"  # log-mel ends where this convolution begins
NUMPY_OF: dict[int, type] = {TensorProto.BFLOAT16: ml_dtypes.bfloat16, TensorProto.FLOAT16: np.float16}

WINDOW_SAMPLES = HOP * WINDOW_FRAMES
SHORT_SAMPLES = 10 * SAMPLE_RATE
COMPARE_SCRIPT = Path(__file__).with_name("encoder_probe.py")


@dataclass(frozen=True)
class Profile:
    """One optimisation profile: minimum, optimum and maximum (windows, samples)."""

    name: str
    least: tuple[int, int]
    best: tuple[int, int]
    most: tuple[int, int]


def profiles(target: Target) -> tuple[Profile, ...]:
    """The profiles of a target, up to its limit of windows."""
    return profiles_up_to(target.encoder_windows)


def profiles_up_to(most: int) -> tuple[Profile, ...]:
    """Profiles for one short window, one full window, and several windows (at most `most`).

    Samples are multiples of SHAPE_STEP_SAMPLES, to which the runner pads.
    """
    step, full = SHAPE_STEP_SAMPLES, WINDOW_SAMPLES
    return (
        Profile("short", (1, step), (1, 6 * step), (1, SHORT_SAMPLES)),
        Profile("full", (1, SHORT_SAMPLES), (1, full), (1, full)),
        Profile("many", (2, step), (min(4, most), full), (most, full)),
    )


def convert_command(
    model: Path, plan: Path, target: Target, timing_cache: Path, placed: bool = False
) -> list[str]:
    """`polygraphy convert`: mixed-precision ONNX → engine, one set of shapes per profile.

    placed: the graph reads `window_index` (RoTE).
    """
    command = ["polygraphy", "convert", str(model), "--model-type", "onnx", "--convert-to", "trt"]
    command += ["--strongly-typed", "--builder-optimization-level", "4"]
    for profile in profiles(target):
        for bound, shape in (("min", profile.least), ("opt", profile.best), ("max", profile.most)):
            command += [f"--trt-{bound}-shapes", *_shapes(*shape, placed)]
    command += ["--load-timing-cache", str(timing_cache), "--save-timing-cache", str(timing_cache)]
    return [*command, "--output", str(plan)]


def reference_command(model: Path, profile: Profile, results: Path, placed: bool = False) -> list[str]:
    """`polygraphy run` of the FP32 graph on ONNX Runtime, which saves the reference answers."""
    command = ["polygraphy", "run", str(model), "--model-type", "onnx", "--onnxrt"]
    command += ["--data-loader-script", f"{COMPARE_SCRIPT}:{profile.name}{'_placed' * placed}"]
    return [*command, "--save-outputs", str(results)]


def compare_command(
    plan: Path, index: int, profile: Profile, results: Path, placed: bool = False
) -> list[str]:
    """`polygraphy run` of the engine; fails when it differs too much from the saved answers."""
    command = ["polygraphy", "run", str(plan), "--model-type", "engine", "--trt"]
    command += ["--optimization-profile", str(index)]
    # Use torch tensors: Polygraphy returns BF16 outputs only to callers that pass torch tensors.
    command += ["--data-loader-script", f"{COMPARE_SCRIPT}:{profile.name}{'_placed' * placed}_torch"]
    command += ["--load-outputs", str(results)]
    return [*command, "--validate", "--compare-func-script", f"{COMPARE_SCRIPT}:compare_outputs"]


def write_mixed_precision(source: Path, destination: Path, dtype: int = TensorProto.BFLOAT16) -> None:
    """Write `source` in mixed precision, with its weights in one `.data` file beside it."""
    # Read weights one by one: a protobuf with 2.6 GB of them can be neither copied nor serialised.
    model = to_mixed_precision(onnx.load(source, load_external_data=False), source.parent, dtype)
    onnx.save(
        model,
        destination,
        save_as_external_data=True,
        location=f"{destination.name}.data",
        size_threshold=1024,
    )


def to_mixed_precision(
    model: onnx.ModelProto, folder: Path, dtype: int = TensorProto.BFLOAT16
) -> onnx.ModelProto:
    """Rewrite an FP32 graph with casts at the borders of its half-precision part; inputs keep their types.

    `model` may keep its weights in files in `folder`. `dtype`: BFLOAT16, or FLOAT16, which ONNX Runtime runs on a CPU
    for the tests. The output has that type, as the LLM's prompt table requires. Raises BuildError for a graph without
    the tower.
    """
    rewriter = _Rewriter(model.graph, _element_types(model), dtype)
    nodes = list(rewriter.nodes(_log_mel_outputs(model.graph)))
    initializers = list(rewriter.initializers(folder))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    for tensor in initializers:
        model.graph.initializer.append(tensor)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.elem_type = dtype
    return model


class _Rewriter:
    """Gives every node one float type and casts inputs of another type."""

    def __init__(self, graph: onnx.GraphProto, types: dict[str, int], dtype: int) -> None:
        self.graph = graph
        self.dtype = dtype
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self.type_of: dict[str, int] = dict.fromkeys(
            self.floats, TensorProto.FLOAT
        )  # value → type when produced
        self.converted: dict[str, str] = {}  # weight → its name in half precision
        self.kept: set[str] = set()  # weights read in their own type
        self.casts: dict[tuple[str, int], str] = {}

    def nodes(self, log_mel: set[str]) -> Iterator[onnx.NodeProto]:
        for node in self.graph.node:
            full = node.op_type in FP32_OPS or not log_mel.isdisjoint(node.output)
            wanted = TensorProto.FLOAT if full else self.dtype
            for position, name in enumerate(node.input):
                if name in self.weights:
                    node.input[position] = self._weight(name, wanted)
                elif name in self.floats and self.type_of[name] != wanted:
                    if (name, wanted) not in self.casts:
                        yield self._cast(name, wanted)
                    node.input[position] = self.casts[name, wanted]
            for name in node.output:
                if name in self.floats:
                    self.type_of[name] = wanted
            yield node

    def initializers(self, folder: Path) -> Iterator[onnx.TensorProto]:
        for name, tensor in self.weights.items():
            if uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(folder))
                tensor.data_location = TensorProto.DEFAULT
                del tensor.external_data[:]
            if name in self.converted:
                yield _half(tensor, self.converted[name], self.dtype)
            if name in self.kept:
                yield tensor
            else:
                tensor.ClearField("raw_data")  # free the original's memory

    def _weight(self, name: str, wanted: int) -> str:
        if name not in self.floats or wanted == TensorProto.FLOAT:
            self.kept.add(name)
            return name
        return self.converted.setdefault(name, f"{name}.half")

    def _cast(self, name: str, wanted: int) -> onnx.NodeProto:
        result = f"{name}.{TensorProto.DataType.Name(wanted).lower()}"
        self.casts[name, wanted] = result
        return helper.make_node("Cast", [name], [result], name=f"cast.{result}", to=wanted)


def _half(tensor: onnx.TensorProto, name: str, dtype: int) -> onnx.TensorProto:
    """Round a weight to half precision; in FP16 the mask's -1e9 becomes the most negative number."""
    kind = NUMPY_OF[dtype]
    largest = float(ml_dtypes.finfo(kind).max)
    values: np.ndarray = np.clip(numpy_helper.to_array(tensor), -largest, largest).astype(kind)
    return numpy_helper.from_array(values, name)


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Infer the element type of every value; weights have their declared type."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def _log_mel_outputs(graph: onnx.GraphProto) -> set[str]:
    """Names of all values computed before the tower's first convolution."""
    makers = {output: node for node in graph.node for output in node.output}
    first = next((node for node in graph.node if FIRST_OF_TOWER in node.input), None)
    if first is None:
        raise BuildError(
            f"the encoder's ONNX file has no {FIRST_OF_TOWER}; build it again with `make engines`"
        )
    pending, found = [first.input[0]], set[str]()
    while pending:
        name = pending.pop()
        if name in makers and name not in found:
            found.add(name)
            pending += makers[name].input
    return found


def _shapes(windows: int, samples: int, placed: bool) -> list[str]:
    places = [f"window_index:[{windows}]"] if placed else []
    return [f"pcm:[{windows},{samples}]", f"pcm_lengths:[{windows}]", *places]
