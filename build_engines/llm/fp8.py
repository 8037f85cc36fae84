"""Quantises the LLM's weights and activations to FP8: python -m build_engines.llm.fp8 --model FOLDER …

Runs in the pinned container on the GPU (Transformers 4.53), and also on a CPU. Forward hooks record each layer's
largest magnitudes. ModelOpt finds the same ranges, but its release in the container compiles a CUDA extension first,
and the container may lack a compiler. The model answers every prompt in BF16 and is calibrated on the answers too.
Before anything is written, the quantised model is compared with the full one on held-out answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from build_engines.llm import trtllm_checkpoint
from build_engines.llm.trtllm_checkpoint import FP8_MAX, Range
from build_engines.stage import BuildError, Figures, require

HELD_OUT = 8  # every eighth sample is held out for the comparison
ANSWER_TOKENS = 64  # most tokens of each answer; held-out answers are compared over them
# For a model worth serving. A random one, with its near ties, may differ far more often.
DISAGREEMENT_BOUND = 0.15
FIGURES = "figures.json"

Sample = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Answered:
    """A prompt with the model's own answer: inputs_embeds [1, S, H], the last `answer_tokens` - 1 of them from the
    answer (without its last token, after which nothing is predicted).
    """

    embeddings: Tensor
    answer_tokens: int


def quantise(
    model_folder: Path, samples: Sequence[Sample], output: Path, max_positions: int, bound: float
) -> Figures:
    """Write the FP8 checkpoint and `figures.json` into `output`. Raises BuildError past `bound`.

    samples: (input_ids [S], prompt_table [P, H]) each. bound: largest share of positions whose likeliest token changes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model_folder, torch_dtype=torch.bfloat16)
    model.to(device).eval()  # type: ignore[arg-type]  # Transformers hides the signature of Module.to
    prompts = [answered(model, embed(model, *sample)) for sample in samples]
    held_out = prompts[::HELD_OUT]
    seen = [prompt for place, prompt in enumerate(prompts) if place % HELD_OUT] or held_out
    full = [answer_logits(model, prompt) for prompt in held_out]
    ranges = find_ranges(model, seen)
    simulate(model, ranges)
    figures = compare(full, [answer_logits(model, prompt) for prompt in held_out])
    require("share of positions whose likeliest token FP8 changes", figures["disagreement"], bound)
    trtllm_checkpoint.write(model_folder, output, "fp8", max_positions, ranges)
    (output / FIGURES).write_text(json.dumps(figures) + "\n")
    return figures


def command(model: Path, samples: Path, output: Path, max_positions: int) -> list[str]:
    """The command that runs this module with the container's Python."""
    options: dict[str, object] = {
        "model": model,
        "calibration": samples,
        "output": output,
        "max-positions": max_positions,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["python3", "-m", "build_engines.llm.fp8", *words]


def embed(model: PreTrainedModel, input_ids: Tensor, prompt_table: Tensor) -> Tensor:
    """Embed a prompt as inputs_embeds [1, S, H]; ids past the vocabulary are rows of `prompt_table`.

    Raises BuildError for a row that the table lacks.
    """
    table = cast(Tensor, model.get_input_embeddings().weight).detach()
    audio_rows = input_ids.long() - model.config.vocab_size
    is_audio = audio_rows >= 0
    if is_audio.any() and int(audio_rows.max()) >= len(prompt_table):
        raise BuildError(f"a calibration sample needs row {int(audio_rows.max())} of {len(prompt_table)}")
    embeddings = table.new_empty(len(input_ids), table.shape[1])
    embeddings[~is_audio] = table[input_ids[~is_audio].long()]
    embeddings[is_audio] = prompt_table.to(table)[audio_rows[is_audio]]
    return embeddings[None]


@torch.inference_mode()
def answered(model: PreTrainedModel, prompt: Tensor) -> Answered:
    """Append the model's greedy answer to a prompt [1, S, H]."""
    mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)
    ids = model.generate(  # type: ignore[operator]  # Transformers hides the signature
        inputs_embeds=prompt,
        attention_mask=mask,
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        pad_token_id=0,
    )[0]
    tokens = model.get_input_embeddings()(ids[:-1])
    return Answered(torch.cat([prompt, tokens[None]], dim=1), len(ids))


@torch.inference_mode()
def answer_logits(model: PreTrainedModel, prompt: Answered) -> Tensor:
    """Logits of every position that predicts a token of the answer, float32 [answer_tokens, V]."""
    logits = model(inputs_embeds=prompt.embeddings, use_cache=False).logits
    return logits[0, -prompt.answer_tokens :].float().cpu()


@torch.inference_mode()
def find_ranges(model: PreTrainedModel, prompts: Sequence[Answered]) -> dict[str, Range]:
    """Find the largest magnitudes of the inputs and weights of every linear layer in the blocks.

    lm_head, keys and values stay unquantised: Qwen2.5 answers wrongly with an FP8 KV cache.
    """
    largest: dict[str, Tensor] = {}

    def watch(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen = inputs[0].abs().amax().float()
            largest[path] = torch.maximum(largest.get(path, seen), seen)

        return hook

    layers = quantised_layers(model)
    hooks = [layer.register_forward_pre_hook(watch(path)) for path, layer in layers.items()]
    for prompt in prompts:
        model(inputs_embeds=prompt.embeddings, use_cache=False)
    for hook in hooks:
        hook.remove()
    ranges = {
        path: Range(float(largest[path]), float(layer.weight.abs().amax())) for path, layer in layers.items()
    }
    for path, found in ranges.items():
        if not all(0 < size < float("inf") for size in (found.activation, found.weight)):
            raise BuildError(
                f"{path}: calibration met inputs up to {found.activation:g} and weights up to {found.weight:g}; "
                "FP8 needs numbers above 0 and finite ones: use other clips, or PRECISION=bf16"
            )
    return ranges


@torch.no_grad()
def simulate(model: PreTrainedModel, ranges: Mapping[str, Range]) -> None:
    """Change `model` to compute as in FP8: rounds the weights and inputs of its linear layers."""

    def rounding(largest: float) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        return lambda _, inputs: (rounded(inputs[0], largest), *inputs[1:])

    for path, layer in quantised_layers(model).items():
        layer.weight.copy_(rounded(layer.weight, ranges[path].weight))
        layer.register_forward_pre_hook(rounding(ranges[path].activation))


def rounded(values: Tensor, largest: float) -> Tensor:
    """Round to FP8 scaled so that `largest` is its largest number; keeps the dtype of `values`.

    Multiplies by the inverse of the scale, as kernels and ModelOpt do.
    """
    scale = FP8_MAX / torch.tensor(largest, device=values.device)
    near = (values.float() * scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
    return (near.float() * (1 / scale)).to(values)


def quantised_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The linear layers of the blocks by path."""
    return {
        path: module
        for path, module in model.named_modules()
        if path.endswith("_proj") and isinstance(module, nn.Linear)
    }


def compare(full: Sequence[Tensor], quantised: Sequence[Tensor]) -> dict[str, float]:
    """Share of positions whose likeliest token differs, and the mean KL divergence in nats."""
    before, after = torch.cat(list(full)), torch.cat(list(quantised))
    divergence = nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    changed = before.argmax(-1) != after.argmax(-1)
    return {"disagreement": float(changed.float().mean()), "kl_nats": float(divergence)}


def read_samples(path: Path) -> list[Sample]:
    """Read the file of `build_engines.llm.calibration` (which cannot be imported here: it needs more packages)."""
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
