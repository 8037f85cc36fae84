"""The graph that TensorRT gets: operators, types, and the numbers it computes in half precision."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from af3.inputs.audio import SAMPLE_RATE
from build_engines.encoder import encoder_probe
from build_engines.encoder.tensorrt_build import FP32_OPS, to_mixed_precision, write_mixed_precision
from build_engines.stage import BuildError
from tests.support.engines import build_ragged_encoder

SUPPORTED = json.loads((Path(__file__).parents[2] / "contract" / "tensorrt_operators.json").read_text())
RECORDED_NAMES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}


@pytest.fixture(scope="module")
def encoder() -> Path:
    return build_ragged_encoder() / "model.onnx"


@pytest.fixture(scope="module")
def bf16(encoder: Path) -> onnx.ModelProto:
    return to_mixed_precision(onnx.load(encoder, load_external_data=False), encoder.parent)


@pytest.fixture(scope="module")
def table() -> Path:
    """The encoder of Audio Flamingo Next's class as TensorRT gets it, its rotation from a table."""
    return build_ragged_encoder(family="next") / "model.onnx"


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    # Not strict: ONNX lists BF16 for Conv and Gelu only after opset 20, TensorRT's own list has it for
    # all opsets.
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {weight.name: weight.data_type for weight in graph.initializer}


@pytest.mark.parametrize("half", [False, True])
def test_every_operator_is_one_that_tensorrt_takes_in_its_types(encoder, bf16, half):
    model = bf16 if half else onnx.load(encoder)
    types = types_of(model)
    for node in model.graph.node:
        assert node.op_type in SUPPORTED["operators"], node.op_type
        data = node.input[1 if node.op_type == "Where" else 0]
        assert RECORDED_NAMES[types[data]] in SUPPORTED["operators"][node.op_type], node.op_type
    assert SUPPORTED["opsets"][0] <= model.opset_import[0].version <= SUPPORTED["opsets"][1]


def test_only_windows_and_samples_are_dynamic(encoder):
    inputs = {value.name: value.type.tensor_type.shape.dim for value in onnx.load(encoder).graph.input}
    assert set(inputs) == {"pcm", "pcm_lengths"}
    assert [len(shape) for shape in inputs.values()] == [2, 1]
    assert inputs["pcm"][0].dim_param == inputs["pcm_lengths"][0].dim_param


def test_the_rotation_by_time_is_looked_up_with_operators_that_tensorrt_takes(table):
    model = to_mixed_precision(onnx.load(table, load_external_data=False), table.parent)
    types = types_of(model)
    assert {value.name for value in model.graph.input} == {"pcm", "pcm_lengths", "window_index"}
    for node in model.graph.node:
        assert node.op_type in SUPPORTED["operators"], node.op_type
        assert node.op_type not in ("Cos", "Sin")
        data = node.input[1 if node.op_type == "Where" else 0]
        assert RECORDED_NAMES[types[data]] in SUPPORTED["operators"][node.op_type], node.op_type


def test_the_rotation_by_time_survives_half_precision_to_the_last_window(table, tmp_path):
    write_mixed_precision(table, tmp_path / "half.onnx", TensorProto.FLOAT16)
    full = onnxruntime.InferenceSession(table)
    half = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    for feed in (*encoder_probe.short_placed(), *encoder_probe.many_placed()):
        last = feed | {"window_index": np.full(len(feed["window_index"]), 59)}
        for places in (feed, last):
            expected, found = full.run(None, places)[0], half.run(None, places)[0]
            assert encoder_probe.relative_error(found.astype(np.float32), expected) < 2e-3
        assert encoder_probe.relative_error(full.run(None, last)[0], full.run(None, feed)[0]) > 0.1


def test_the_types_of_the_graph_agree_everywhere(bf16):
    types = types_of(bf16)
    for node in bf16.graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if node.op_type not in ("Cast", "Shape")}
        assert len(kinds & {TensorProto.FLOAT, TensorProto.BFLOAT16}) <= 1, node.name
    assert types["audio_embeddings"] == TensorProto.BFLOAT16
    assert types["pcm"] == TensorProto.FLOAT


LOG_MEL = {"log_mel.dft", "log_mel.mel"}


def test_log_mel_softmax_and_layer_norm_stay_fp32_and_the_matrices_do_not(bf16):
    types = types_of(bf16)
    for node in bf16.graph.node:
        if node.op_type in FP32_OPS or node.op_type in ("Log", "ReduceMax", "Pad"):
            assert types[node.output[0]] == TensorProto.FLOAT, node.op_type
        if node.op_type == "Gelu" or (node.op_type == "MatMul" and not LOG_MEL & set(node.input)):
            assert types[node.output[0]] == TensorProto.BFLOAT16, node.name


def test_every_weight_of_the_tower_is_stored_once_and_in_bf16(encoder, bf16):
    before = sum(len(weight.raw_data) for weight in onnx.load(encoder).graph.initializer)
    after = sum(len(weight.raw_data) for weight in bf16.graph.initializer)
    log_mel = sum(len(w.raw_data) for w in bf16.graph.initializer if w.name.startswith("log_mel"))
    assert after - log_mel < 0.52 * (before - log_mel)
    names = [weight.name for weight in bf16.graph.initializer]
    assert len(names) == len(set(names))


def test_the_rewritten_graph_computes_the_same_in_half_precision(encoder, tmp_path):
    # ONNX Runtime has no BF16 kernels on a CPU; the same rewriting with FP16 it can run.
    write_mixed_precision(encoder, tmp_path / "half.onnx", TensorProto.FLOAT16)
    full = onnxruntime.InferenceSession(encoder)
    half = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    for feed in (*encoder_probe.short(), *encoder_probe.many()):
        expected, found = full.run(None, feed)[0], half.run(None, feed)[0]
        assert found.dtype == np.float16
        assert encoder_probe.relative_error(found.astype(np.float32), expected) < 2e-3


def test_a_masked_frame_is_masked_in_half_precision_too(encoder, tmp_path):
    write_mixed_precision(encoder, tmp_path / "half.onnx", TensorProto.FLOAT16)
    half = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    pcm = np.zeros((2, 6 * SAMPLE_RATE), np.float32)
    pcm[:, :SAMPLE_RATE] = np.sin(np.arange(SAMPLE_RATE) * 0.1)
    pcm[1, 4 * SAMPLE_RATE :] = 0.5 * np.sin(np.arange(2 * SAMPLE_RATE) * 0.3)  # past the end of its window
    lengths = np.array([SAMPLE_RATE, SAMPLE_RATE], np.int64)
    rows = half.run(None, {"pcm": pcm, "pcm_lengths": lengths})[0].astype(np.float32)
    assert np.allclose(rows[0, :24], rows[1, :24], atol=5e-3)


def test_a_graph_without_the_tower_is_refused():
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "other", values[:1], values[1:])
    with pytest.raises(BuildError, match=r"no tower.conv1.weight"):
        to_mixed_precision(onnx.helper.make_model(graph), Path())


def test_the_comparison_fails_past_its_bound_and_on_nan():
    reference = {"audio_embeddings": np.ones((1, 2, 3))}
    assert encoder_probe.compare_outputs(reference, reference) == {"audio_embeddings": True}
    for other in (np.full((1, 2, 3), 1.06), np.full((1, 2, 3), np.nan)):
        assert encoder_probe.compare_outputs({"audio_embeddings": other}, reference) == {
            "audio_embeddings": False
        }


def test_the_probe_is_the_same_in_every_process_and_covers_every_profile():
    shapes = [
        next(load())["pcm"].shape for load in (encoder_probe.short, encoder_probe.full, encoder_probe.many)
    ]
    assert shapes == [(1, 6 * SAMPLE_RATE), (1, 30 * SAMPLE_RATE), (2, 30 * SAMPLE_RATE)]
    first, second = next(encoder_probe.many()), next(encoder_probe.many_torch())
    assert np.array_equal(first["pcm"], second["pcm"].numpy())
