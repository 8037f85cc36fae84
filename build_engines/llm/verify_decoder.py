"""Verifies that `decoder.onnx` is the checkpoint's decoder: compares greedy answers with Transformers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model, Qwen2RMSNorm

from af3.llm.decoder import Decoder
from build_engines.llm.decoder_graph import Precision, head_weight
from build_engines.llm.quantize import dequantize_int4, quantize_int4
from build_engines.source.checkpoint import Checkpoint
from build_engines.stage import Figures, require

# Ragged rows of one batch: one shorter than a chunk, one of several chunks.
PROMPT_TOKENS = (7, 40, 90)
CHUNK = 32
STEPS = 8
ROW_TOKENS = 128  # reserved per row
SEED = 1

ERROR_BOUND = {
    "fp32": 1e-4,
    # The graph rounds activations to int8; the reference does not.
    "int4": 0.2,
}

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Answer:
    """The greedy answer of one row: its input embeddings float32 [S + STEPS - 1, H], and logits float32 [STEPS, V]."""

    embeddings: np.ndarray
    logits: np.ndarray


def verify(checkpoint: Checkpoint, precision: Precision, folder: Path) -> Figures:
    """Compare with torch on the same weights (int4: dequantised). Raises BuildError past the bound.

    The figures of int4 include how far quantisation itself moved the logits.
    """
    answers = greedy_answers(Decoder(folder, len(PROMPT_TOKENS), ROW_TOKENS, threads=0))
    transforms = [dequantised, unchanged] if precision == "int4" else [unchanged]
    same_weights, *original = reference_logits(checkpoint, answers, transforms)
    figures = compare(answers, same_weights)
    for logits in original:
        moved = compare(answers, logits)
        figures |= {f"{name}_to_checkpoint": value for name, value in moved.items()}
        print(f"  relative error of logits to the unquantised checkpoint: {moved['relative_error']:.3g}")
    require("relative error of logits", figures["relative_error"], ERROR_BOUND[precision])
    if precision == "fp32":
        require("greedy tokens that differ", figures["tokens_differing"], 0)
    return figures


def greedy_answers(decoder: Decoder) -> list[Answer]:
    """Prefill prompts in chunks, one row each, then decode them together: the two ways the graph is called."""
    draw = np.random.default_rng(SEED)
    prompts = [draw.integers(0, decoder.vocab_size, tokens) for tokens in PROMPT_TOKENS]
    logits = np.empty((len(prompts), STEPS, decoder.vocab_size), np.float32)
    for row, prompt in enumerate(prompts):
        for start in range(0, len(prompt), CHUNK):
            chunk = decoder.embed(prompt[start : start + CHUNK], None)
            logits[row, 0] = decoder.prefill(row, chunk, start)
    for step in range(1, STEPS):
        logits[:, step] = decoder.decode(logits[:, step - 1].argmax(-1), np.array(PROMPT_TOKENS) + step - 1)
    said = logits[:, :-1].argmax(-1)
    read = [
        decoder.embed(np.concatenate([prompt, row]), None) for prompt, row in zip(prompts, said, strict=True)
    ]
    return [Answer(embeddings, row) for embeddings, row in zip(read, logits, strict=True)]


@torch.no_grad()
def reference_logits(
    checkpoint: Checkpoint, answers: Sequence[Answer], transforms: Sequence[Transform]
) -> list[list[np.ndarray]]:
    """Compute Transformers' logits for every answer, with the weights changed by each transform.

    Returns float32 [STEPS, V] by transform and answer. Reads each layer once.
    """
    config = checkpoint.text_config
    one_layer = Qwen2Config.from_dict(config.to_dict() | {"num_hidden_layers": 1, "layer_types": None})
    with torch.device("meta"):
        block = Qwen2Model(one_layer).eval()
        norm = Qwen2RMSNorm(config.hidden_size, config.rms_norm_eps)
    block.norm = nn.Identity()  # applied only after the last layer
    block.rotary_emb = type(block.rotary_emb)(one_layer)
    read = [torch.from_numpy(answer.embeddings)[None] for answer in answers]
    rows = [read for _ in transforms]
    for layer in tqdm(range(config.num_hidden_layers), desc="verifying layers"):
        state = checkpoint.module_state(f"language_model.layers.{layer}.")
        for way, transform in enumerate(transforms):
            weights = {name: transform(value) if value.ndim == 2 else value for name, value in state.items()}
            block.layers[0].load_state_dict(weights, assign=True)
            rows[way] = [block(inputs_embeds=row, use_cache=False).last_hidden_state for row in rows[way]]
    norm.load_state_dict(checkpoint.module_state("language_model.norm."), assign=True)
    head = checkpoint.tensor(head_weight(checkpoint)).float()
    logits = []
    for transform, found in zip(transforms, rows, strict=True):
        output = transform(head).T
        logits.append([(norm(row[0, -STEPS:]) @ output).numpy() for row in found])
    return logits


def compare(answers: Sequence[Answer], reference: Sequence[np.ndarray]) -> dict[str, float]:
    """Largest relative error ‖d‖/‖ref‖ of a row, largest difference, and number of differing tokens."""
    pairs = [(answer.logits, row) for answer, row in zip(answers, reference, strict=True)]
    return {
        "relative_error": max(float(np.linalg.norm(ours - row) / np.linalg.norm(row)) for ours, row in pairs),
        "largest_difference": max(float(np.abs(ours - row).max()) for ours, row in pairs),
        "tokens_differing": float(sum((ours.argmax(-1) != row.argmax(-1)).sum() for ours, row in pairs)),
        "tokens_compared": float(len(pairs) * STEPS),
    }


def unchanged(matrix: Tensor) -> Tensor:
    return matrix


def dequantised(matrix: Tensor) -> Tensor:
    """Round a matrix to int4 and back."""
    return torch.from_numpy(dequantize_int4(*quantize_int4(matrix.numpy()), matrix.shape[1]))
