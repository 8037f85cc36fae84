"""Compares our encoder and decoder with Transformers on the same checkpoint and machine, in one run.

Encoder and adaptor: one clip, which Transformers pads to 30 s. Decode: greedy tokens after a short text prompt, for
one request and for eight in flight, against one `generate()` per request and one for all eight. Each figure is the
median of interleaved repeats; the spread is the range of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.windows import clip_windows
from af3.llm.decoder import Decoder
from af3.llm.sampling import SamplingSettings
from af3.llm.scheduler import Scheduler
from af3.llm.sequence import Generation
from af3.manifest import Manifest
from perf import published

# Streams here and requests per `generate()` → name of the row, the same as in docs/performance.md.
DECODING = {
    (1, 1): "decode, 1 stream : `generate()`",
    (8, 1): "decode, 8 streams : one `generate()` each",
    (8, 8): "decode, 8 streams : one `generate()` on all eight",
}
PROMPT_TOKENS = 32
NEW_TOKENS = 128
STREAMS = 8


class _Waiter:
    """A listener that only waits for the end of an answer."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def tokens(self, ids: Sequence[int], final: bool) -> None:
        if final:
            self.ended.set()

    def failed(self, error: Exception) -> None:
        raise error

    def cancelled(self) -> bool:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/af3-tiny"))
    parser.add_argument("--engines", type=Path, default=Path("engines/cpu"), help="built from the checkpoint")
    parser.add_argument("--threads", type=int, default=2, help="of each side (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument(
        "--check", action="store_true", help="exit code 1 when docs/performance.md says otherwise"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(
        arguments.checkpoint, dtype=torch.float32
    ).eval()
    processor = AutoProcessor.from_pretrained(arguments.checkpoint)
    print(f"| what | Transformers | here | ratio | spread |\n|{'---|' * 5}")
    with torch.inference_mode():
        for seconds in (5, 30):
            _compare(
                f"encoder, {seconds} s clip, ms",
                *_encoders(model, processor, arguments, seconds),
                arguments.repeats,
            )
        found = {
            name: _compare_rates(model, arguments, name, streams, batch)
            for (streams, batch), name in DECODING.items()
        }
    wrong = published.differences(found, published.read()) if arguments.check else []
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


def _compare(what: str, theirs: Callable[[], object], ours: Callable[[], object], repeats: int) -> None:
    pairs = _interleaved(theirs, ours, repeats)
    _row(what, [1000 * a for a, _ in pairs], [1000 * b for _, b in pairs], [a / b for a, b in pairs])


def _compare_rates(
    model: AudioFlamingo3ForConditionalGeneration,
    arguments: argparse.Namespace,
    name: str,
    streams: int,
    batch: int,
) -> float:
    """Compare tokens/s: `streams` concurrent requests here, `generate()` on batches of `batch`."""
    manifest = Manifest.read(arguments.engines)
    decoder = Decoder(
        arguments.engines / "llm", STREAMS, manifest.limits.max_sequence_tokens, arguments.threads
    )
    scheduler = Scheduler(decoder, max_queue=STREAMS, prefill_tokens=256)
    prompts = np.random.default_rng(0).integers(0, 200, (streams, PROMPT_TOKENS)).astype(np.int32)

    def theirs() -> None:
        for first in range(0, streams, batch):
            model.generate(
                input_ids=torch.tensor(prompts[first : first + batch].astype(np.int64)),
                do_sample=False,
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
            )

    def ours() -> None:
        waiters = [_Waiter() for _ in prompts]
        for place, (prompt, waiter) in enumerate(zip(prompts, waiters, strict=True)):
            scheduler.submit(
                Generation(str(place), prompt, None, NEW_TOKENS, None, (), SamplingSettings()), waiter
            )
        for waiter in waiters:
            waiter.ended.wait()

    pairs = _interleaved(theirs, ours, arguments.repeats)
    scheduler.close()
    tokens = streams * NEW_TOKENS
    _row(
        f"{name}, tokens/s",
        [tokens / a for a, _ in pairs],
        [tokens / b for _, b in pairs],
        [a / b for a, b in pairs],
    )
    return statistics.median(a / b for a, b in pairs)


def _encoders(
    model: AudioFlamingo3ForConditionalGeneration,
    processor: object,
    arguments: argparse.Namespace,
    seconds: int,
) -> tuple[Callable[[], object], Callable[[], object]]:
    encoder = AudioEncoder.load(
        arguments.engines / "audio_encoder", "CPUExecutionProvider", arguments.threads
    )
    clip = np.random.default_rng(0).normal(0, 0.1, seconds * 16_000).astype(np.float32)

    def theirs() -> object:
        features = processor.feature_extractor(  # type: ignore[attr-defined]
            [clip],
            sampling_rate=16_000,
            return_tensors="pt",
            return_attention_mask=True,
            padding="max_length",
        )
        return model.get_audio_features(features["input_features"], features["attention_mask"])

    return theirs, lambda: encoder.encode(clip_windows(clip))


def _interleaved(
    theirs: Callable[[], object], ours: Callable[[], object], repeats: int
) -> list[tuple[float, float]]:
    """Time both in turn, so that a busy moment hits both; the first pair is the warm-up."""
    pairs = [(_seconds(theirs), _seconds(ours)) for _ in range(repeats + 1)]
    return pairs[1:]


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _row(what: str, theirs: Sequence[float], ours: Sequence[float], ratios: Sequence[float]) -> None:
    medians = (
        f"{statistics.median(theirs):.1f} | {statistics.median(ours):.1f} | {statistics.median(ratios):.1f}×"
    )
    print(f"| {what} | {medians} | {min(ratios):.1f}–{max(ratios):.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
