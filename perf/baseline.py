"""Times Transformers' `generate()` as its documentation uses it: padded to 30 s, one by one or batched.

Runs in a process of its own: `python -m perf.baseline --checkpoint … --seconds 5 --batch 8` prints JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile

from perf import traffic


@dataclass(frozen=True)
class Baseline:
    """Seconds for `requests` answers of exactly `tokens` tokens, `batch` at a time.

    first_token_s: median, from the start of a batch; time in a queue does not count.
    """

    audio_s: float
    tokens: int
    batch: int
    requests: int
    requests_per_s: float
    first_token_s: float
    end_to_end_s: float


def measure(
    checkpoint: str, audio_s: float, tokens: int, batch: int, requests: int, threads: int
) -> Baseline:
    """Measure in a separate process, so that torch's memory and threads stay out of this one."""
    command = [sys.executable, "-m", "perf.baseline", "--checkpoint", checkpoint, "--threads", str(threads)]
    command += ["--seconds", str(audio_s), "--tokens", str(tokens), "--batch", str(batch)]
    done = subprocess.run(
        [*command, "--requests", str(requests)], capture_output=True, text=True, check=True, timeout=1800
    )
    return Baseline(**json.loads(done.stdout.splitlines()[-1]))


class _FirstToken:
    """A streamer that records when the first token came; `generate` passes it the prompt first."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


def _measure(arguments: argparse.Namespace) -> Baseline:
    import torch
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    torch.set_num_threads(arguments.threads)
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(
        arguments.checkpoint, dtype=arguments.dtype
    )
    model = model.to(arguments.device).eval()
    processor = AutoProcessor.from_pretrained(arguments.checkpoint)
    firsts, ends = [], []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        turns = [_turn(Path(folder), arguments.seconds, number) for number in range(arguments.requests)]
        batches = [turns[at : at + arguments.batch] for at in range(0, len(turns), arguments.batch)]
        for number, batch in enumerate([batches[0], *batches]):
            first_s, end_s = _answer(model, processor, batch, arguments)
            if number:  # the first round is the warm-up
                firsts.append(first_s)
                ends.append(end_s)
    return Baseline(
        arguments.seconds,
        arguments.tokens,
        arguments.batch,
        arguments.requests,
        requests_per_s=arguments.requests / sum(ends),
        first_token_s=statistics.median(firsts),
        end_to_end_s=statistics.median(ends),
    )


def _turn(folder: Path, seconds: float, number: int) -> list[dict[str, Any]]:
    pcm, rate = soundfile.read(io.BytesIO(traffic.clip(seconds, number)))
    path = folder / f"{number}.wav"
    soundfile.write(path, pcm, rate)
    question = {"type": "text", "text": "What do you hear?"}
    return [{"role": "user", "content": [question, {"type": "audio", "path": str(path)}]}]


def _answer(
    model: Any, processor: Any, batch: list[Any], arguments: argparse.Namespace
) -> tuple[float, float]:
    """Answer one batch from files to token ids; returns seconds to the first token and to the end."""
    started = time.perf_counter()
    inputs = processor.apply_chat_template(
        batch, tokenize=True, add_generation_prompt=True, return_dict=True
    ).to(model.device, model.dtype)
    streamer = _FirstToken() if len(batch) == 1 else None
    lengths = {"min_new_tokens": arguments.tokens, "max_new_tokens": arguments.tokens}
    if streamer is None:  # streamers take one sequence: time a batch's first token as a run of one token
        model.generate(**inputs, do_sample=False, max_new_tokens=1)
        first_s = time.perf_counter() - started
        started = time.perf_counter()
        inputs = processor.apply_chat_template(
            batch, tokenize=True, add_generation_prompt=True, return_dict=True
        ).to(model.device, model.dtype)
        model.generate(**inputs, do_sample=False, **lengths)
        return first_s, time.perf_counter() - started
    model.generate(**inputs, do_sample=False, streamer=streamer, **lengths)
    return streamer.times[1] - started, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="checkpoints/af3-tiny")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="requests at a time (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--dtype", default="float32", help="default: %(default)s")
    print(json.dumps(asdict(_measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
