"""Do engines of the full-size model build within memory? python -m tests.full_size FOLDER [--decoder-layers 28]

python -m tests.full_size --tensorrt builds, with TensorRT for RTX, every graph that TensorRT gets, and nothing
else: six minutes, 8.5 GiB of memory.

Writes a random checkpoint in AF3's own sizes (8.3 B parameters in bf16, 16.6 GB, layer by layer), builds its CPU
engines with `python -m build_engines`, and prints time, peak memory and the figures of the verification. Takes tens
of minutes and up to 30 GB of disk, so it is no part of `make test`. FOLDER is left there to be looked at.
"""

import argparse
import json
import math
import re
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration, GenerationConfig

from af3.manifest import Manifest
from build_engines.targets import TARGETS
from tests import full_size_tensorrt
from training.random_model import TURN_END, random_processor, sinusoids

MEMORY_BOUND_GIB = 24
SEED = 0


def config(decoder_layers: int) -> AudioFlamingo3Config:
    """AF-Whisper and Qwen2.5-7B as in nvidia/audio-flamingo-3-hf, with a tokenizer of 400 tokens."""
    return AudioFlamingo3Config(
        architectures=[AudioFlamingo3ForConditionalGeneration.__name__],  # llama.cpp's converter asks for it
        audio_token_id=random_processor().audio_token_id,
        text_config={
            "model_type": "qwen2",
            "vocab_size": 151_672,
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": decoder_layers,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32_768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "eos_token_id": stop_id(),
            "pad_token_id": stop_id(),
        },
    )


def stop_id() -> int:
    return random_processor().tokenizer.convert_tokens_to_ids(TURN_END)


def write_checkpoint(folder: Path, decoder_layers: int) -> None:
    """Random bf16 weights, a shard for each layer, so that memory holds one shard at a time."""
    folder.mkdir(parents=True)
    sizes = config(decoder_layers)
    sizes.save_pretrained(folder)
    random_processor().save_pretrained(folder)
    GenerationConfig(eos_token_id=stop_id()).save_pretrained(folder)
    with torch.device("meta"):
        model = AudioFlamingo3ForConditionalGeneration(sizes)
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    shards: dict[str, list[str]] = defaultdict(list)
    for name in shapes:
        shards[re.sub(r"(\.layers\.\d+)\..*", r"\1", name)].append(name)
    torch.manual_seed(SEED)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(tqdm(shards.values(), desc="writing a random checkpoint"), start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({name: draw(name, shapes[name]) for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def draw(name: str, shape: torch.Size) -> torch.Tensor:
    """Weights under which activations neither vanish nor grow: variance 1 / inputs."""
    if name.endswith("embed_positions.weight"):
        return sinusoids(*shape).bfloat16()
    if len(shape) > 1:
        return (torch.randn(shape) / math.sqrt(math.prod(shape[1:]))).bfloat16()
    return torch.zeros(shape).bfloat16() if name.endswith("bias") else torch.ones(shape).bfloat16()


def build(checkpoint: Path, precision: str, output: Path) -> None:
    """Build, and print what it took. Exits with the status of a build that failed."""
    started = time.monotonic()
    command = [
        "--target",
        "cpu",
        "--checkpoint",
        str(checkpoint),
        "--precision",
        precision,
        "--output",
        str(output),
    ]
    subprocess.run([sys.executable, "-m", "build_engines", *command], check=True)
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"built in {(time.monotonic() - started) / 60:.1f} min, peak memory {peak_gib:.1f} GiB")
    print(json.dumps(Manifest.read(output).verification, indent=2))
    if peak_gib > MEMORY_BOUND_GIB:
        sys.exit(f"peak memory is above {MEMORY_BOUND_GIB} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.full_size", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="left there to be looked at")
    parser.add_argument("--tensorrt", action="store_true", help="encoder and voice, with TensorRT for RTX")
    parser.add_argument(
        "--target", choices=TARGETS, default="h100", help="whose profiles (default: %(default)s)"
    )
    parser.add_argument("--decoder-layers", type=int, default=28, help="of Qwen2.5-7B (default: all 28)")
    parser.add_argument("--precision", choices=["fp32", "int4"], default="int4")
    arguments = parser.parse_args()
    if arguments.tensorrt:
        sys.exit(full_size_tensorrt.check(TARGETS[arguments.target]))
    if arguments.folder is None:
        parser.error("name a folder")
    checkpoint = arguments.folder / "checkpoint"
    if not checkpoint.exists():
        write_checkpoint(checkpoint, arguments.decoder_layers)
    build(checkpoint, arguments.precision, arguments.folder / "engines")


if __name__ == "__main__":
    main()
