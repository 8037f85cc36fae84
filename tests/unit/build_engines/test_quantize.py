"""int4 weights are the nearest there are, in the layout that ONNX Runtime reads."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from build_engines.llm.quantize import BLOCK, dequantize_int4, quantize_int4


def matrix(outputs: int, inputs: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((outputs, inputs)).astype(np.float32)


def test_a_weight_moves_by_at_most_a_step() -> None:
    weights = matrix(5000, 96)  # more rows than are quantised at once
    quants, scales = quantize_int4(weights)
    step = np.abs(scales.reshape(5000, -1)).repeat(BLOCK, axis=1)
    error = np.abs(dequantize_int4(quants, scales, 96) - weights)
    assert (error <= step + 1e-6).all()  # half a step, a whole one at the shorter end of the range
    assert (error <= step / 2 + 1e-6).mean() > 0.95


def test_the_largest_weight_of_a_block_is_kept() -> None:
    weights = matrix(64, BLOCK)
    largest = np.abs(weights).argmax(1)[:, None]
    restored = dequantize_int4(*quantize_int4(weights), BLOCK)
    np.testing.assert_allclose(
        np.take_along_axis(restored, largest, 1), np.take_along_axis(weights, largest, 1), rtol=1e-6
    )


def test_a_block_of_zeros_stays_zero() -> None:
    quants, scales = quantize_int4(np.zeros((2, BLOCK), np.float32))
    assert not dequantize_int4(quants, scales, BLOCK).any()


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
