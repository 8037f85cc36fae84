"""Writes the Qwen2 decoder of an AF3 checkpoint as `decoder.onnx`, streaming its weights tensor by tensor.

Inputs: inputs_embeds float32 [B, S, H], seqlens_k int32 [B] (tokens of each row including the new ones, minus 1),
total_sequence_length int32 [] (the largest of them plus 1), past_key.{i}, past_value.{i} float32 [B, kv, S_max, D].
Outputs: logits float32 [B, V] of the last position, present_key.{i}, present_value.{i}.

The caller binds the same buffer as past and present, so new keys and values are written in place; the buffer's size
sets S_max. Two kinds of call are exact (ONNX Runtime's GroupQueryAttention supports no others): a prefill chunk with
B = 1 and any S, and a decode step with S = 1 for rows of different lengths.

We do not use onnxruntime-genai's builder because it holds all weights in memory: 30 GB for 7 B weights in fp32.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from tqdm import tqdm
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from af3.llm.decoder import EMBEDDINGS_FILE, MODEL_FILE, WEIGHTS_FILE
from build_engines.llm.quantize import quantize_int4
from build_engines.source.checkpoint import Checkpoint
from build_engines.weight_block import block_size

Precision = Literal["fp32", "int4"]
OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
ALIGN_BYTES = 4096  # so that ONNX Runtime can map weights from the file instead of copying them
EMBEDDING_ROWS = 4096  # read and written at a time


@dataclass(frozen=True)
class Shape:
    """Sizes of the decoder, from the checkpoint's text_config."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    positions: int

    @classmethod
    def of(cls, config: Qwen2Config) -> "Shape":
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads or config.num_attention_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            ffn=config.intermediate_size,
            vocabulary=config.vocab_size,
            positions=config.max_position_embeddings,
        )


class GraphWriter:
    """Collects nodes; writes each weight to the data file immediately and keeps only its offset."""

    def __init__(self, data: Path) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._data = data
        self._end = 0

    def weight(self, name: str, values: np.ndarray) -> str:
        """Append a weight to the data file; returns its name as a node input."""
        start = -(-self._end // ALIGN_BYTES) * ALIGN_BYTES
        with self._data.open("ab") as file:
            file.write(b"\0" * (start - self._end))
            file.write(np.ascontiguousarray(values).data)
        self._end = start + values.nbytes
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            dims=values.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", self._data.name), ("offset", start), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    def node(
        self, operator: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> str:
        """Append a node named after its first output; returns that output."""
        self.nodes.append(
            helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        )
        return outputs[0]


class DecoderWriter:
    """Writes the checkpoint's decoder in one pass, layer by layer."""

    def __init__(self, checkpoint: Checkpoint, precision: Precision, data: Path) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.text_config
        self.shape = Shape.of(self.config)
        self.precision = precision
        self.graph = GraphWriter(data)

    def write(self, model: Path) -> None:
        """Write the graph to `model`; the weights go to the data file."""
        shape = self.shape
        self._rotary_caches()
        residual, hidden = "inputs_embeds", self._first_norm()
        for layer in tqdm(range(shape.layers), desc="decoder layers"):
            residual, hidden = self._layer(layer, residual, hidden)
        self._linear("logits", hidden, [head_weight(self.checkpoint)])
        graph = helper.make_graph(
            self.graph.nodes, "decoder", self._inputs(), self._outputs(), self.graph.initializers
        )
        onnx.save(helper.make_model(graph, opset_imports=OPSETS, ir_version=10), model)

    def _layer(self, index: int, residual: str, hidden: str) -> tuple[str, str]:
        """Write attention and feed-forward of one layer: (residual, normed input) → those of the next layer."""
        prefix = f"language_model.layers.{index}"
        last = index == self.shape.layers - 1
        attended = self._attention(index, prefix, hidden)
        if last:  # only the last position is needed from here on
            attended = self._last_position(f"{prefix}.attended_last", attended)
            residual = self._last_position(f"{prefix}.residual_last", residual)
        projected = self._linear(f"{prefix}.o", attended, [f"{prefix}.self_attn.o_proj.weight"])
        residual, hidden = self._add_norm(
            f"{prefix}.post_attention", residual, projected, f"{prefix}.post_attention_layernorm.weight"
        )
        projected = self._feed_forward(prefix, hidden)
        following = "norm" if last else f"layers.{index + 1}.input_layernorm"
        return self._add_norm(f"{prefix}.out", residual, projected, f"language_model.{following}.weight")

    def _attention(self, index: int, prefix: str, hidden: str) -> str:
        names = [f"{prefix}.self_attn.{part}_proj" for part in "qkv"]
        packed = self._linear(f"{prefix}.qkv", hidden, [f"{name}.weight" for name in names])
        bias = torch.cat([self.checkpoint.tensor(f"{name}.bias") for name in names])
        biased = self._weight(f"{prefix}.qkv.bias", bias)
        query = self.graph.node("Add", [packed, biased], [f"{prefix}.qkv_biased"])
        caches = [f"past_key.{index}", f"past_value.{index}"]
        presents = [f"present_key.{index}", f"present_value.{index}"]
        return self.graph.node(
            "GroupQueryAttention",
            [query, "", "", *caches, "seqlens_k", "total_sequence_length", "rotary.cos", "rotary.sin"],
            [f"{prefix}.attended", *presents],
            domain="com.microsoft",
            num_heads=self.shape.heads,
            kv_num_heads=self.shape.kv_heads,
            scale=1 / math.sqrt(self.shape.head_dim),
            do_rotary=1,
            rotary_interleaved=0,
        )

    def _feed_forward(self, prefix: str, hidden: str) -> str:
        """SwiGLU: down(silu(gate(x)) * up(x)), with gate and up in one product."""
        weights = [f"{prefix}.mlp.{part}_proj.weight" for part in ("gate", "up")]
        both = self._linear(f"{prefix}.gate_up", hidden, weights)
        gate, up = f"{prefix}.gate", f"{prefix}.up"
        self.graph.node("Split", [both], [gate, up], axis=-1, num_outputs=2)
        sigmoid = self.graph.node("Sigmoid", [gate], [f"{prefix}.sigmoid"])
        silu = self.graph.node("Mul", [gate, sigmoid], [f"{prefix}.silu"])
        product = self.graph.node("Mul", [silu, up], [f"{prefix}.swiglu"])
        return self._linear(f"{prefix}.down", product, [f"{prefix}.mlp.down_proj.weight"])

    def _linear(self, name: str, hidden: str, weights: list[str]) -> str:
        """hidden @ concat(weights).T; the checkpoint stores weights as [outputs, inputs]."""
        matrix = torch.cat([self.checkpoint.tensor(weight) for weight in weights]).float().numpy()
        if self.precision == "fp32":
            return self.graph.node("MatMul", [hidden, self._weight(f"{name}.weight", matrix.T)], [name])
        outputs, inputs = matrix.shape
        quants, scales = quantize_int4(matrix)
        return self.graph.node(
            "MatMulNBits",
            [
                hidden,
                self.graph.weight(f"{name}.quants", quants),
                self.graph.weight(f"{name}.scales", scales),
            ],
            [name],
            domain="com.microsoft",
            K=inputs,
            N=outputs,
            bits=4,
            block_size=block_size(inputs),
            accuracy_level=4,  # int8 activations: several times faster on a CPU than fp32 ones
        )

    def _first_norm(self) -> str:
        weight = "language_model.layers.0.input_layernorm.weight"
        return self.graph.node(
            "SimplifiedLayerNormalization",
            ["inputs_embeds", self._weight(weight, self.checkpoint.tensor(weight))],
            ["hidden.0"],
            axis=-1,
            epsilon=self.config.rms_norm_eps,
            stash_type=1,
        )

    def _add_norm(self, name: str, residual: str, addend: str, weight: str) -> tuple[str, str]:
        """(sum, RMS norm of the sum)."""
        hidden = self.graph.node(
            "SkipSimplifiedLayerNormalization",
            [residual, addend, self._weight(weight, self.checkpoint.tensor(weight))],
            [f"{name}.normed", "", "", f"{name}.sum"],
            domain="com.microsoft",
            epsilon=self.config.rms_norm_eps,
        )
        return f"{name}.sum", hidden

    def _last_position(self, name: str, hidden: str) -> str:
        if not any(tensor.name == "minus_one" for tensor in self.graph.initializers):
            self.graph.initializers.append(helper.make_tensor("minus_one", TensorProto.INT64, [], [-1]))
        return self.graph.node("Gather", [hidden, "minus_one"], [name], axis=1)

    def _rotary_caches(self) -> None:
        """Write cos and sin, float32 [positions, D / 2], computed by Transformers.

        Its angles are fp32 products, off by up to 5e-4 rad at position 15 000; ours must have the same error.
        """
        positions = torch.arange(self.shape.positions)[None]
        cos, sin = Qwen2RotaryEmbedding(self.config)(torch.zeros(1), positions)
        half = self.shape.head_dim // 2  # the other half repeats it
        self._weight("rotary.cos", cos[0, :, :half])
        self._weight("rotary.sin", sin[0, :, :half])

    def _weight(self, name: str, values: torch.Tensor | np.ndarray) -> str:
        array = values if isinstance(values, np.ndarray) else values.float().numpy()
        return self.graph.weight(name, array)

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        hidden = helper.make_tensor_value_info(
            "inputs_embeds", TensorProto.FLOAT, ["batch", "new_tokens", self.shape.hidden]
        )
        lengths = helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"])
        total = helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, [])
        return [hidden, lengths, total, *self._caches("past")]

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", self.shape.vocabulary])
        return [logits, *self._caches("present")]

    def _caches(self, when: str) -> Iterator[onnx.ValueInfoProto]:
        dims: list[str | int] = ["batch", self.shape.kv_heads, "slot_rows", self.shape.head_dim]
        for layer in range(self.shape.layers):
            for part in ("key", "value"):
                yield helper.make_tensor_value_info(f"{when}_{part}.{layer}", TensorProto.FLOAT, dims)


def head_weight(checkpoint: Checkpoint) -> str:
    """Canonical name of the output layer's matrix, [V, H]; a tied one may be stored only as the embeddings."""
    tied = checkpoint.text_config.tie_word_embeddings and not checkpoint.has("lm_head.weight")
    return "language_model.embed_tokens.weight" if tied else "lm_head.weight"


def write_decoder(checkpoint: Checkpoint, precision: Precision, folder: Path) -> None:
    """Write `decoder.onnx` and `decoder.onnx.data`; memory holds one weight matrix at a time."""
    DecoderWriter(checkpoint, precision, folder / WEIGHTS_FILE).write(folder / MODEL_FILE)


def write_embeddings(checkpoint: Checkpoint, folder: Path) -> None:
    """Write `embeddings.npy`, float32 [V, H], for `np.load(mmap_mode="r")`."""
    shape = Shape.of(checkpoint.text_config)
    table = np.lib.format.open_memmap(
        folder / EMBEDDINGS_FILE, "w+", np.float32, (shape.vocabulary, shape.hidden)
    )
    start = 0
    for block in checkpoint.rows("language_model.embed_tokens.weight", EMBEDDING_ROWS):
        table[start : start + len(block)] = block.float().numpy()
        start += len(block)
    table.flush()
