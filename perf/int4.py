"""Compares int4 decoding with llama.cpp's Q4_0: `python -m perf.int4 FOLDER`, after `make setup-peers`.

FOLDER is what `python -m tests.full_size FOLDER --decoder-layers 4` left: a random checkpoint in Qwen2.5-7B's own
sizes and its int4 engines. llama.cpp's own program converts the checkpoint once, into FOLDER. Both sides read the same
prompts and write as many tokens, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import numpy as np

from af3.llm.decoder import Decoder
from perf.peers.environments import PeerError
from perf.peers.gguf_files import q4_gguf
from perf.peers.servers import language_model
from perf.report import table

PROMPT_TOKENS, WRITTEN_TOKENS, WARM_TOKENS = 512, 24, 8
PART_TOKENS = 256  # of a prompt that are read at once, as the scheduler does
IDS = 300  # of the checkpoint's small tokenizer
SEED = 0


class Ours:
    """The decoder of this server, alone."""

    def __init__(self, engines: Path, threads: int) -> None:
        self._decoder = Decoder(engines / "llm", 1, 2 * PROMPT_TOKENS, threads)

    def rates(self, prompt: np.ndarray) -> tuple[float, float]:
        """Tokens/s of the prompt, and of what is written after it."""
        began = time.perf_counter()
        embedded = self._decoder.embed(prompt, None)
        for start in range(0, len(prompt), PART_TOKENS):
            self._decoder.prefill(0, embedded[start : start + PART_TOKENS], start)
        read = time.perf_counter()
        for written in range(WRITTEN_TOKENS):
            self._decoder.decode(np.ones(1, np.int64), np.full(1, len(prompt) + written))
        return len(prompt) / (read - began), WRITTEN_TOKENS / (time.perf_counter() - read)


def theirs(url: str, prompt: np.ndarray) -> tuple[float, float]:
    """As `Ours.rates`, by llama.cpp's own clock."""
    body = {
        "prompt": prompt.tolist(),
        "n_predict": WRITTEN_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
    }
    answer = httpx2.post(f"{url}/completion", json=body, timeout=600, trust_env=False)
    answer.raise_for_status()
    timings = answer.json()["timings"]
    return timings["prompt_per_second"], timings["predicted_per_second"]


def middle(values: Sequence[float]) -> str:
    """Median, and in brackets the least and the greatest."""
    digits = 2 if max(values) < 10 else 1
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def compare(folder: Path, rounds: int, threads: int) -> str:
    """Render a table: tokens/s of both sides, and their ratio by round. Raises PeerError."""
    draw = np.random.default_rng(SEED)
    ours = Ours(folder / "engines", threads)
    model = folder / "llm-q4_0.gguf"
    q4_gguf(folder / "checkpoint", model)
    found: list[tuple[tuple[float, float], tuple[float, float]]] = []
    with language_model(model, threads) as url:
        for number in range(rounds + 1):
            prompt = draw.integers(0, IDS, PROMPT_TOKENS if number else WARM_TOKENS)
            pair = (ours.rates(prompt), theirs(url, prompt))
            if number:  # the first one warms up
                found.append(pair)
    rows = []
    for name, of in ((f"a prompt of {PROMPT_TOKENS} tokens", 0), (f"{WRITTEN_TOKENS} tokens after it", 1)):
        mine, others = ([pair[side][of] for pair in found] for side in (0, 1))
        ratio = middle([one / other for one, other in zip(mine, others, strict=True)])
        rows.append([name, middle(mine), middle(others), ratio])
    return table(["", "here, tokens/s", "llama.cpp Q4_0, tokens/s", "ratio"], rows)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of tests.full_size: checkpoint/ and engines/")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: all cores")
    arguments = parser.parse_args(given)
    for part in ("checkpoint", "engines"):
        if not (arguments.folder / part).is_dir():
            print(
                f"{arguments.folder / part} is missing: python -m tests.full_size {arguments.folder} "
                "--decoder-layers 4",
                file=sys.stderr,
            )
            return 1
    try:
        print(compare(arguments.folder, arguments.rounds, arguments.threads))
    except PeerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
