"""FP8 weights and activations for the LLM, by ModelOpt: python -m build_engines.llm.fp8 --model FOLDER …

Runs inside the pinned container on the GPU (ModelOpt 0.33, Transformers 4.53), and anywhere else where
ModelOpt is installed, on a CPU too. ModelOpt finds the ranges; `trtllm_checkpoint` writes them. Before it
writes anything, the quantised model is compared with the full one on samples that calibration has not
seen.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from build_engines.llm import trtllm_checkpoint
from build_engines.llm.trtllm_checkpoint import Range
from build_engines.stage import BuildError, Figures, require

HELD_OUT = 8  # every eighth sample is compared instead of calibrated on
COMPARED_POSITIONS = 64  # of each, counted from the end: where answers begin
# Of a model that is worth serving. A random one, with its near ties, may differ far more often.
DISAGREEMENT_BOUND = 0.15
FIGURES = "figures.json"

Sample = tuple[Tensor, Tensor]


def quantise(
    model_folder: Path, samples: Sequence[Sample], output: Path, max_positions: int, bound: float
) -> Figures:
    """Write the FP8 checkpoint and `figures.json` into `output`; raises BuildError past `bound`.

    samples: (input_ids [S], prompt_table [P, H]) each; `bound` on the share of positions whose likeliest
    token changes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model_folder, torch_dtype=torch.bfloat16)
    model.to(device).eval()  # type: ignore[arg-type]  # Transformers hides the signature of Module.to
    prompts = [embed(model, *sample) for sample in samples]
    held_out = prompts[::HELD_OUT]
    seen = [prompt for place, prompt in enumerate(prompts) if place % HELD_OUT] or held_out
    full = [last_logits(model, prompt) for prompt in held_out]
    ranges = calibrate(model, seen)
    figures = compare(full, [last_logits(model, prompt) for prompt in held_out])
    require("share of positions whose likeliest token FP8 changes", figures["disagreement"], bound)
    trtllm_checkpoint.write(model_folder, output, "fp8", max_positions, ranges)
    (output / FIGURES).write_text(json.dumps(figures) + "\n")
    return figures


def command(model: Path, samples: Path, output: Path, max_positions: int) -> list[str]:
    """This module as a command of the container's own Python."""
    options: dict[str, object] = {
        "model": model,
        "calibration": samples,
        "output": output,
        "max-positions": max_positions,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["python3", "-m", "build_engines.llm.fp8", *words]


def embed(model: PreTrainedModel, input_ids: Tensor, prompt_table: Tensor) -> Tensor:
    """inputs_embeds [1, S, H] of a prompt whose ids past the vocabulary are rows of `prompt_table`.

    Raises BuildError for a row that the table does not have.
    """
    table = cast(Tensor, model.get_input_embeddings().weight).detach()
    audio_rows = input_ids.long() - model.config.vocab_size
    is_audio = audio_rows >= 0
    if is_audio.any() and int(audio_rows.max()) >= len(prompt_table):
        raise BuildError(f"a calibration sample asks for row {int(audio_rows.max())} of {len(prompt_table)}")
    embeddings = table.new_empty(len(input_ids), table.shape[1])
    embeddings[~is_audio] = table[input_ids[~is_audio].long()]
    embeddings[is_audio] = prompt_table.to(table)[audio_rows[is_audio]]
    return embeddings[None]


@torch.inference_mode()
def last_logits(model: PreTrainedModel, prompt: Tensor) -> Tensor:
    """float32 [at most COMPARED_POSITIONS, V]"""
    return model(inputs_embeds=prompt, use_cache=False).logits[0, -COMPARED_POSITIONS:].float().cpu()


def calibrate(model: PreTrainedModel, prompts: Sequence[Tensor]) -> dict[str, Range]:
    """Quantise `model` in place (simulated) and return what every linear layer of its blocks ranges over.

    lm_head stays as it is, and so do keys and values: Qwen2.5 answers wrongly with an FP8 KV cache.
    """
    import modelopt.torch.quantization as mtq

    def run(quantised: PreTrainedModel) -> None:
        with torch.inference_mode():
            for prompt in prompts:
                quantised(inputs_embeds=prompt, use_cache=False)

    mtq.quantize(model, mtq.FP8_DEFAULT_CFG, forward_loop=run)
    return {
        path: Range(float(module.input_quantizer.amax), float(module.weight_quantizer.amax))
        for path, module in model.named_modules()
        if path.endswith("_proj")
    }


def compare(full: Sequence[Tensor], quantised: Sequence[Tensor]) -> dict[str, float]:
    """How often the likeliest token differs, and the mean KL divergence in nats."""
    before, after = torch.cat(list(full)), torch.cat(list(quantised))
    divergence = nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    changed = before.argmax(-1) != after.argmax(-1)
    return {"disagreement": float(changed.float().mean()), "kl_nats": float(divergence)}


def read_samples(path: Path) -> list[Sample]:
    """What `build_engines.llm.calibration` wrote (which cannot be imported here: it needs the server's
    packages).
    """
    with safe_open(path, framework="pt") as file:
        return [
            (file.get_tensor(f"{number}.input_ids"), file.get_tensor(f"{number}.prompt_table"))
            for number in range(len(file.keys()) // 2)
        ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m build_engines.llm.fp8", description=__doc__.split(":")[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the split LLM")
    parser.add_argument("--calibration", type=Path, required=True, help="calibration.safetensors")
    parser.add_argument("--output", type=Path, required=True, help="existing folder for the checkpoint")
    parser.add_argument("--max-positions", type=int, required=True, help="longest sequence of the engine")
    parser.add_argument("--bound", type=float, default=DISAGREEMENT_BOUND, help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        samples = read_samples(arguments.calibration)
        quantise(arguments.model, samples, arguments.output, arguments.max_positions, arguments.bound)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
