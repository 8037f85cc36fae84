"""Answers the questions of checkpoints/samples with Transformers on this machine, and times it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor

from build_engines.source.checkpoint import open_checkpoint
from perf.acceptance.compare_answers import MOST_TOKENS, SAMPLES


def answers(
    checkpoint: str, device: str, dtype: torch.dtype
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Answer greedily; returns answers as `compare_answers.ask` does, and their total seconds and tokens."""
    source = open_checkpoint(checkpoint)
    processor = AutoProcessor.from_pretrained(source.folder)
    model = _class(source.config.model_type).from_pretrained(source.folder, dtype=dtype).to(device).eval()
    ends = model.generation_config.eos_token_id
    ends = {ends} if isinstance(ends, int) else set(ends or ())
    found, spent_s, made = [], 0.0, 0
    for sample in json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")):
        content = [
            {"type": "text", "text": sample["question"]},
            {"type": "audio", "path": str(SAMPLES / sample["file"])},
        ]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
        ).to(device)
        for name, value in inputs.items():
            if torch.is_floating_point(value):
                inputs[name] = value.to(dtype)
        began = time.monotonic()
        with torch.inference_mode():
            whole = model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False)[0]
        spent_s += time.monotonic() - began
        ids = [token for token in whole[inputs["input_ids"].shape[1] :].tolist() if token not in ends]
        made += len(ids)
        found.append(
            {
                "file": sample["file"],
                "question": sample["question"],
                "answer": processor.decode(ids, skip_special_tokens=True),
                "token_ids": ids,
            }
        )
    return found, {"seconds": spent_s, "tokens": made, "tokens_per_s": made / spent_s}


def _class(model_type: str) -> Any:
    import transformers

    name = "AudioFlamingo3" if model_type == "audioflamingo3" else "MusicFlamingo"
    return getattr(transformers, f"{name}ForConditionalGeneration")


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m perf.acceptance.transformers_answers", description=__doc__
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--speed", type=Path, required=True)
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    arguments = parser.parse_args(given)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA device; the torch in .venv is a CPU build unless you installed another")
        return 1
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    found, speed = answers(arguments.checkpoint, arguments.device, dtype)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    arguments.speed.write_text(json.dumps(speed, indent=1) + "\n")
    print(json.dumps(speed, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
