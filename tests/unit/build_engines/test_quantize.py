"""int4 weights are the nearest there are, in the layout that ONNX Runtime reads."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from build_engines.llm.quantize import SHRINKS, dequantize_int4, quantize_int4
from build_engines.weight_block import SIZES, block_size

BLOCK = SIZES[0]


def matrix(outputs: int, inputs: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((outputs, inputs)).astype(np.float32)


def test_a_weight_moves_by_at_most_two_steps() -> None:
    weights = matrix(5000, 96)  # more rows than are quantised at once
    quants, scales = quantize_int4(weights)
    step = np.abs(scales.reshape(5000, -1)).repeat(block_size(96), axis=1)
    error = np.abs(dequantize_int4(quants, scales, 96) - weights)
    # Half a step; at the ends of the range, where large weights are clipped, more.
    assert (error <= 2 * step).all()
    assert (error <= step / 2 + 1e-6).mean() > 0.95


def test_every_block_has_the_scale_with_the_least_error() -> None:
    weights = matrix(64, BLOCK)
    restored = dequantize_int4(*quantize_int4(weights), BLOCK)
    error = np.square(restored - weights).sum(1)
    largest = np.take_along_axis(weights, np.abs(weights).argmax(1)[:, None], 1)
    for shrink in SHRINKS:
        scale = largest / -8 * shrink
        other = np.clip(np.rint(weights / scale), -8, 7) * scale
        assert (error <= np.square(other - weights).sum(1) * 1.0001).all()
    assert np.linalg.norm(restored - weights) < 0.1 * np.linalg.norm(weights)


def test_a_block_that_the_steps_hit_is_kept() -> None:
    weights = (np.arange(BLOCK, dtype=np.float32) % 16 - 8)[None] * 0.25
    np.testing.assert_array_equal(dequantize_int4(*quantize_int4(weights), BLOCK), weights)


def test_a_block_of_zeros_stays_zero() -> None:
    quants, scales = quantize_int4(np.zeros((2, BLOCK), np.float32))
    assert not dequantize_int4(quants, scales, BLOCK).any()


def test_blocks_are_as_large_as_the_inputs_allow() -> None:
    assert [block_size(inputs) for inputs in (3584, 192, 96, 200)] == [128, 64, 32, 32]
    assert quantize_int4(matrix(3, 192))[0].shape == (3, 3, 32)


def test_inputs_that_do_not_fill_a_block_are_kept() -> None:
    weights = matrix(8, BLOCK + 8)
    restored = dequantize_int4(*quantize_int4(weights), BLOCK + 8)
    assert restored.shape == weights.shape
    assert np.linalg.norm(restored - weights) < 0.15 * np.linalg.norm(weights)


def test_onnx_runtime_reads_the_same_weights() -> None:
    weights = matrix(48, 3 * BLOCK)
    quants, scales = quantize_int4(weights)
    node = helper.make_node(
        "MatMulNBits",
        ["hidden", "quants", "scales"],
        ["result"],
        domain="com.microsoft",
        K=3 * BLOCK,
        N=48,
        bits=4,
        block_size=BLOCK,
        accuracy_level=1,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [None, 3 * BLOCK]),
            helper.make_tensor_value_info("quants", TensorProto.UINT8, quants.shape),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, scales.shape),
        ],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, [None, 48])],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    hidden = matrix(7, 3 * BLOCK)
    result = session.run(None, {"hidden": hidden, "quants": quants, "scales": scales})[0]
    np.testing.assert_allclose(
        result, hidden @ dequantize_int4(quants, scales, 3 * BLOCK).T, rtol=1e-4, atol=1e-4
    )
