"""Makes the calibration set of FP8: real clips through the encoder, in Audio Flamingo 3's own prompts.

FP8 uses one scale per layer. Audio embeddings have another range than text embeddings, so calibrating on text, as
NVIDIA does by default, picks scales that clip most of this model's input. A sample is stored as the server sends it:
token ids in which audio token `vocab_size + k` stands for row k of the prompt table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.windows import clip_windows
from af3.errors import RequestError
from af3.inputs import chat_messages
from af3.inputs.decoding import decode
from af3.inputs.prompt import PromptBuilder
from af3.manifest import Limits, ModelFacts
from af3.tokenizer import Tokenizer
from build_engines.stage import BuildError, Figures
from serving.machine.finding import Finding

FILE = "calibration.safetensors"
DEFAULT_CLIPS = Path("checkpoints/samples")
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
CLIPS_WANTED = 32
# A small model may have fewer, with a warning. The full-size one needs them: an eighth of the clips is held out to
# compare answers, and values beyond the calibrated range are clipped in every later answer.
FULL_SIZE_WEIGHTS = 1_000_000_000
MOST_WINDOWS = 4  # of one clip: two minutes calibrate as well as ten, in a fifth of the time
MOST_SAMPLES = 256

# Clips take these prompts in turn: captions, transcription, choices, reasoning, and the bare clip of voice chat.
PROMPTS = (
    "Transcribe the input speech.",
    "Describe this audio in detail.",
    "What is the mood of this music, and which instruments are played?",
    "What happens in this recording, and in which order?",
    "What is heard?\nChoose the correct option from the following options:\n(A) speech\n(B) music\n(C) rain",
    "How does the speaker feel? Explain how you know." + chat_messages.THINK_SUFFIX,
    "",
)
SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer briefly.", "You are a music teacher.", "Say why.")
TEXT_PROMPTS = ("What is the difference between pitch and loudness?", "Name three string instruments.")


@dataclass(frozen=True)
class Sample:
    """input_ids: int32 [S]; prompt_table: [P, H] in the encoder's dtype, P = 0 for text only."""

    input_ids: np.ndarray
    prompt_table: np.ndarray


def build(
    clips: Sequence[Path], encoder: Path, tokenizer: Path, model: ModelFacts, limits: Limits, folder: Path
) -> Figures:
    """Write `calibration.safetensors` into `folder`."""
    builder = PromptBuilder(Tokenizer.load(tokenizer), model, limits, engine_identity="")
    made = list(samples(clips, AudioEncoder.load(encoder), builder))
    stored = {}
    for number, sample in enumerate(made):
        stored[f"{number}.input_ids"] = torch.from_numpy(sample.input_ids)
        stored[f"{number}.prompt_table"] = torch.from_numpy(sample.prompt_table).to(torch.bfloat16)
    save_file(stored, folder / FILE)
    return {
        "samples": len(made),
        "audio_tokens": sum(len(sample.prompt_table) for sample in made),
        "text_tokens": sum(len(sample.input_ids) - len(sample.prompt_table) for sample in made),
    }


def build_texts(folder: Path) -> Figures:
    """Write the prompts to `train.jsonl` in `folder`, in the format of NVIDIA's quantize.py (INT4 AWQ)."""
    texts = [
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        for system in SYSTEM_PROMPTS
        for prompt in (*PROMPTS, *TEXT_PROMPTS)
    ]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"texts": len(texts)}


def find_clips(folder: Path) -> list[Path]:
    """List the audio files under a folder, sorted by name. Raises BuildError when there are none."""
    clips = _clips_in(folder)
    if not clips:
        raise BuildError(
            f"{folder}: no WAV, FLAC, MP3 or OGG files to calibrate FP8 with; set CALIBRATION to a folder "
            f"with {CLIPS_WANTED} or more clips like those that will be asked about, or build PRECISION=bf16"
        )
    if len(clips) < CLIPS_WANTED:
        print(
            f"warning: {len(clips)} clips in {folder}; FP8 is better calibrated with {CLIPS_WANTED} or more"
        )
    return clips


def require_enough(clips: Sequence[Path], weights: int) -> None:
    """Raise BuildError when FP8 of an LLM with `weights` weights needs more clips."""
    if weights >= FULL_SIZE_WEIGHTS and len(clips) < CLIPS_WANTED:
        raise BuildError(
            f"CALIBRATION: {len(clips)} clips in {clips[0].parent}, and FP8 of a full-size LLM needs {CLIPS_WANTED} or"
            " more; set CALIBRATION to a folder with clips like those that will be asked about, or build"
            " PRECISION=bf16, int8 or int4"
        )


def missing_clips(folder: Path, weights: int) -> list[Finding]:
    """Findings of a dry run about the clips; empty when there are enough."""
    found = len(_clips_in(folder))
    if weights < FULL_SIZE_WEIGHTS or found >= CLIPS_WANTED:
        return []
    remedy = f"CALIBRATION=folder with {CLIPS_WANTED} or more clips like those that will be asked about"
    return [Finding("calibration clips", "missing", f"{found} in {folder}", remedy)]


def _clips_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def samples(clips: Sequence[Path], encoder: AudioEncoder, builder: PromptBuilder) -> Iterator[Sample]:
    """Yield one sample per clip, with the prompts in turn, then the prompts without audio.

    Raises BuildError with the file's name when one cannot be decoded.
    """
    progress = tqdm(clips[:MOST_SAMPLES], desc="calibration clips", delay=2, leave=False)
    for number, path in enumerate(progress):
        try:
            clip = decode(path.read_bytes(), path.name)
        except RequestError as error:
            raise BuildError(f"{path}: {error.message}") from None
        windows = clip_windows(clip)[:MOST_WINDOWS]
        conversation = chat_messages.from_prompt(PROMPTS[number % len(PROMPTS)], clips=1)
        heard = np.concatenate([window.samples for window in windows])
        ids = builder.build(conversation, [heard], max_tokens=1, think=False).input_ids
        yield Sample(ids, np.concatenate(encoder.encode(windows)))
    for prompt in TEXT_PROMPTS:
        ids = builder.build(
            chat_messages.from_prompt(prompt, clips=0), [], max_tokens=1, think=False
        ).input_ids
        yield Sample(ids, np.zeros((0, encoder.hidden_size), np.float32))
