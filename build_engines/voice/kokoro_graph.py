"""Rewrites Kokoro's published ONNX graph to compute the same integers in half the time.

ONNX Runtime uses the processor's VNNI instructions only for unsigned × signed bytes, but its integer convolution always
multiplies unsigned × unsigned. Here each convolution becomes a gather of its inputs and a matrix product with signed
weights, packed once. The sums are the same integers, so the waveform is bit-identical. Squares by `Pow` become
products, which are equal too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

SHIFT = 128  # from unsigned to signed bytes, for the weights and their zero point


def faster(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite `model` in place; the function stays the same. A graph without integer convolutions stays unchanged."""
    graph = model.graph
    rewriting = _Rewriting({tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer})
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            rewriting.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    for node in graph.node:
        rewriting.take(node)
    used = {name for node in rewriting.nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    made = [numpy_helper.from_array(value, name) for name, value in rewriting.made.items()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(rewriting.nodes)
    graph.initializer.extend(kept + made)
    return model


@dataclass
class _Rewriting:
    constants: dict[str, NDArray[Any]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    made: dict[str, NDArray[Any]] = field(default_factory=dict)
    rows_first: dict[str, str] = field(default_factory=dict)  # tensor [1, C, T] → its transpose [1, T, C]

    def take(self, node: onnx.NodeProto) -> None:
        if node.op_type == "ConvInteger" and _is_plain(node, self.constants):
            self._convolution(node)
        elif node.op_type == "Pow" and _is_two(self.constants.get(node.input[1])):
            self._add("Mul", [node.input[0], node.input[0]], node.output[0])
        else:
            self.nodes.append(node)

    def _convolution(self, node: onnx.NodeProto) -> None:
        """[1, C, T] bytes * [N, C, k] → [1, N, T'] int32."""
        source, weight, zero, weight_zero = node.input
        name = node.output[0]
        attributes = _attributes(node)
        weights = self.constants[weight]
        signed, signed_zero = _signed(weights), _signed(self.constants[weight_zero]).reshape(())
        kernel = weights.shape[2]
        rows = self._transposed(source)
        rows = self._padded(rows, zero, attributes.get("pads", [0, 0]), name)
        if kernel > 1 or attributes.get("strides", [1])[0] > 1:
            dilation, stride = attributes.get("dilations", [1])[0], attributes.get("strides", [1])[0]
            rows = self._gathered(rows, weights.shape[1:], dilation, stride, name)
        matrix = self._constant(f"{name}_rows", signed.transpose(2, 1, 0).reshape(-1, signed.shape[0]))
        point = self._constant(f"{name}_zero", signed_zero)
        product = self._add("MatMulInteger", [rows, matrix, zero, point], f"{name}_product")
        self._add("Transpose", [product], name, perm=[0, 2, 1])

    def _transposed(self, source: str) -> str:
        if source not in self.rows_first:
            self.rows_first[source] = self._add("Transpose", [source], f"{source}_rows", perm=[0, 2, 1])
        return self.rows_first[source]

    def _padded(self, rows: str, zero: str, pads: list[int], name: str) -> str:
        if not any(pads):
            return rows
        amounts = self._constant(f"{name}_pads", np.array([0, pads[0], 0, 0, pads[1], 0], np.int64))
        return self._add("Pad", [rows, amounts, zero], f"{name}_padded")

    def _gathered(self, rows: str, shape: tuple[int, ...], dilation: int, stride: int, name: str) -> str:
        """[1, T, C] → [1, T', k * C]: the inputs of each output in one row."""
        channels, kernel = shape
        reach = dilation * (kernel - 1)
        length = self._add("Shape", [rows], f"{name}_length", start=1, end=2)
        length = self._add("Squeeze", [length], f"{name}_scalar")
        end = self._add("Sub", [length, self._number(reach)], f"{name}_end")
        starts = self._add("Range", [self._number(0), end, self._number(stride)], f"{name}_starts")
        axis = self._constant("fast_axis_1", np.array([1], np.int64))
        starts = self._add("Unsqueeze", [starts, axis], f"{name}_column")
        taps = self._constant(f"fast_taps_{kernel}_{dilation}", np.arange(kernel)[None] * dilation)
        places = self._add("Add", [starts, taps], f"{name}_places")
        seen = self._add("Gather", [rows, places], f"{name}_seen", axis=1)
        flat = self._constant(
            f"fast_flat_{kernel * channels}", np.array([1, -1, kernel * channels], np.int64)
        )
        return self._add("Reshape", [seen, flat], f"{name}_flat")

    def _number(self, value: int) -> str:
        return self._constant(f"fast_number_{value}", np.int64(value))

    def _constant(self, name: str, value: Any) -> str:
        self.made[name] = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def _is_plain(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> bool:
    """One group, one dimension, known weights, all zero points given."""
    return (
        len(node.input) == 4
        and node.input[1] in constants
        and node.input[3] in constants
        and constants[node.input[1]].ndim == 3
        and constants[node.input[3]].size == 1
        and _attributes(node).get("group", 1) == 1
    )


def _is_two(exponent: NDArray[Any] | None) -> bool:
    return exponent is not None and exponent.size == 1 and exponent.item() == 2.0


def _signed(values: NDArray[Any]) -> NDArray[np.int8]:
    if values.dtype == np.int8:
        return values
    return (values.astype(np.int16) - SHIFT).astype(np.int8)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
