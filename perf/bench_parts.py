"""Times one part of a request's path beside a yardstick, in a process of its own, for `perf.bench`.

A process can be slow as a whole, by a fifth, from the pages that it was given: a part that looks slower must be timed
again in another one. It keeps to one core, so that what the part shares with its decoder process stays in the core's
cache. A yardstick must suffer from neighbours as its part does: one that fills the shared cache slows decoding by
half and the encoder not at all. Work is timed in bits, in turns with its yardstick, and the quickest of each count:
others on the core empty its cache in between.

`python -m perf.bench_parts PART --engines FOLDER` prints the ratios as JSON.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from af3 import contract
from af3.encoder.embedding_cache import CachedEncoder
from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.windows import clip_windows
from af3.inputs import audio, decoding
from af3.inputs.prepare import Preprocessor
from af3.llm.decoder import Decoder
from af3.manifest import Manifest
from af3.outputs.postprocessor import Postprocessor
from perf import traffic

# Idle threads of numpy spin, and their time would count as the part's.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TIMEOUT_S = 600.0  # a part of 27 rounds takes 8 s on a quiet core

Work = Callable[[], object]


def in_new_process(name: str, engines: Path, rounds: int, plant: float) -> list[float]:
    """Times of the part `name` divided by its yardstick's, one a round, from a process of their own.

    Raises subprocess.CalledProcessError when it fails; what it wrote is on standard error then.
    """
    command = [sys.executable, "-m", "perf.bench_parts", name, "--engines", str(engines)]
    command += ["--rounds", str(rounds), "--plant", str(plant)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S, env=os.environ | ONE_THREAD
    )
    ratios: list[float] = json.loads(done.stdout.splitlines()[-1])
    return ratios


def ratios(work: Work, yardstick: Work, rounds: int, bits: int = 1) -> list[float]:
    """Measure in turns, after one round of warm-up; of the `bits` runs of a round the quickest counts."""
    return [_ratio(work, yardstick, bits) for _ in range(rounds + 1)][1:]


def planted(work: Work, factor: float) -> Work:
    """The same work with `factor` times its processor time."""

    def run() -> None:
        started = time.process_time()
        work()
        end = started + factor * (time.process_time() - started)
        while time.process_time() < end:
            pass

    return run


def arithmetic() -> float:
    """Reference for the engines' kind of work: numpy matrix products."""
    size = np.linspace(-1, 1, 384 * 384, dtype=np.float32).reshape(384, 384)
    made = size
    for _ in range(12):
        made = np.tanh(made @ size * 0.01)
    return float(made.sum())


@functools.cache
def _large() -> tuple[np.ndarray, np.ndarray]:
    """16 MiB of weights, more than a core has cache of its own, and eight columns."""
    return np.ones((4096, 1024), np.float32), np.ones((1024, 8), np.float32)


def reading(times: int = 1) -> None:
    """Reference for decoding: weights that come from the cache that cores share, for a few rows at a time."""
    weights, columns = _large()
    for _ in range(times):
        weights @ columns


def arithmetic_and_reading() -> None:
    """Reference for preprocess: three quarters arithmetic, and samples that another process wrote."""
    arithmetic()
    reading(2)


def interpreter() -> int:
    """Reference for the work between the engines: plain Python."""
    counts: dict[int, int] = {}
    for number in range(60_000):
        counts[number % 997] = counts.get(number % 997, 0) + number
    return sum(counts.values())


def _decoding(engines: Path) -> Work:
    song = _song()
    return lambda: decoding.decode(song, "bench")


def _preprocess(engines: Path) -> Work:
    song, preprocessor = _song(), Preprocessor.load(engines)
    return lambda: preprocessor.prepare("bench", {"max_tokens": 8}, [song], "What do you hear?", None)


def _encode(seconds: int) -> Callable[[Path], Work]:
    def part(engines: Path) -> Work:
        encoder, windows = _encoder(engines), clip_windows(_pcm(seconds))
        return lambda: encoder.encode(windows)

    return part


def _heard_before(engines: Path) -> Work:
    cache, windows = CachedEncoder(_encoder(engines), "bench", 64 << 20), clip_windows(_pcm(30))
    cache.table(windows)
    return lambda: cache.table(windows)


def _prefill(engines: Path) -> Work:
    decoder = _decoder(engines)
    prompt = np.random.default_rng(0).standard_normal((800, decoder.hidden_size)).astype(np.float32)
    return lambda: decoder.prefill(0, prompt, 0)


def _decode(rows: int, tokens: int) -> Callable[[Path], Work]:
    def part(engines: Path) -> Work:
        decoder = _decoder(engines)

        def run() -> None:
            ids = np.arange(rows)
            for length in range(230, 230 + tokens):
                ids = decoder.decode(ids, np.full(rows, length)).argmax(axis=1)

        return run

    return part


def _postprocess(engines: Path) -> Work:
    """Push four interleaved answers; none ends before its last token."""

    def run() -> None:
        postprocessor = Postprocessor.load(engines, lambda request_id: None, 60.0, 1e9)
        given = {"max_tokens": min(500, contract.MAX_NEW_TOKENS)}
        for _ in range(500):
            for name in "abcd":
                postprocessor.push(name, lambda: given, [40], lambda: False)

    return run


@dataclass(frozen=True)
class Part:
    """bits: runs in a round, of which the quickest counts; more where others' turns on the core disturb more."""

    make: Callable[[Path], Work]  # from a folder of engines
    yardstick: Work
    bits: int = 3


PARTS = {
    "decoding, 60 s stereo MP3": Part(_decoding, arithmetic),
    "preprocess beside its decoder process": Part(_preprocess, arithmetic_and_reading),
    "encoder, 5 s": Part(_encode(5), arithmetic),
    "encoder, 30 s": Part(_encode(30), arithmetic, bits=1),
    "embeddings of a clip heard before, 30 s": Part(_heard_before, arithmetic),
    "prefill, 800 tokens": Part(_prefill, arithmetic),
    "decode, 1 stream, 8 tokens": Part(_decode(1, 8), reading, bits=24),
    "decode, 8 streams, 2 tokens": Part(_decode(8, 2), reading, bits=24),
    "postprocess, 2 000 tokens": Part(_postprocess, interpreter),
}


def _ratio(work: Work, yardstick: Work, bits: int) -> float:
    pairs = [(_seconds(work), _seconds(yardstick)) for _ in range(bits)]
    return min(seconds for seconds, _ in pairs) / min(seconds for _, seconds in pairs)


def _seconds(run: Work) -> float:
    """Measure processor time, which leaves out waiting for a core."""
    started = time.process_time()
    run()
    return time.process_time() - started


def _song() -> bytes:
    mono = np.resize(traffic.samples(), 60 * 44_100)
    file = io.BytesIO()
    soundfile.write(file, np.stack([mono, -mono], 1), 44_100, format="MP3", bitrate_mode="CONSTANT")
    return file.getvalue()


def _pcm(seconds: int) -> np.ndarray:
    return np.resize(traffic.samples(), seconds * audio.SAMPLE_RATE)


def _encoder(engines: Path) -> AudioEncoder:
    return AudioEncoder.load(engines / "audio_encoder", threads=1)


def _decoder(engines: Path) -> Decoder:
    return Decoder(engines / "llm", 8, Manifest.read(engines).limits.max_sequence_tokens, threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS, metavar="PART", help="one of: " + "; ".join(PARTS))
    parser.add_argument("--engines", type=Path, default=Path("engines/cpu"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--plant", type=float, default=1.0, metavar="FACTOR", help="slow the part down")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    part = PARTS[arguments.part]
    work = part.make(arguments.engines)
    if arguments.plant > 1:
        work = planted(work, arguments.plant)
    print(json.dumps(ratios(work, part.yardstick, arguments.rounds, part.bits)))


if __name__ == "__main__":
    main()
