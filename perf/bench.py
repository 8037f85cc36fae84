"""`make bench`: finds parts that got slower than at the last release, in a minute or two and without a server.

Each part is timed in turn with a reference that our changes cannot affect, so that a slow or busy machine slows both;
the ratio is stored and compared. The exit code is 1 when a part is slower by more than the noise.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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
from perf.report import table

BASELINE = Path(__file__).with_name("baseline.json")
ROUNDS = 9
LEAST_SLOWER = 1.15  # smaller changes are noise on a shared machine, however steady the rounds look
SUSPICIOUS = 1.07  # a part that looks slower than this is measured again, for longer
THREADS = "OMP_NUM_THREADS"
LONGER = 5  # times as many rounds: a busy moment of the machine does not last


@dataclass(frozen=True)
class Result:
    """Time of a part divided by that of its reference: median and interquartile range over the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A part now and at the last release (None when it is new)."""

    name: str
    now: Result
    before: Result | None

    @property
    def change(self) -> float:
        return 1.0 if self.before is None else self.now.median / self.before.median

    @property
    def slower(self) -> bool:
        """Slower than the general noise, and the ranges of then and now do not overlap."""
        return self.before is not None and self.change > LEAST_SLOWER and self.now.low > self.before.high


def result(ratios: Sequence[float]) -> Result:
    low, median, high = statistics.quantiles(ratios, n=4)
    return Result(median, low, high)


def markdown(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        now, before = verdict.now, verdict.before
        word = "new" if before is None else "SLOWER" if verdict.slower else "as before"
        rows.append(
            [
                verdict.name,
                f"{now.median:.3f} ({now.low:.3f}–{now.high:.3f})",
                "–" if before is None else f"{before.median:.3f} ({before.low:.3f}–{before.high:.3f})",
                f"{verdict.change:.2f}×",
                word,
            ]
        )
    return table(["part, in yardsticks", "now", "last release", "time", "verdict"], rows)


@dataclass(frozen=True)
class Part:
    name: str
    run: Callable[[], object]
    yardstick: Callable[[], object]


def measure(part: Part, rounds: int) -> Result:
    """Measure a part in `rounds` rounds after a warm-up."""
    ratios = [_seconds(part.run) / _seconds(part.yardstick) for _ in range(rounds + 1)]
    return result(ratios[1:])


def judge(part: Part, before: Result | None, rounds: int) -> Verdict:
    """Compare a part with the last release; one that looks slower is judged by a longer measurement."""
    verdict = Verdict(part.name, measure(part, rounds), before)
    if verdict.change > SUSPICIOUS:
        verdict = Verdict(part.name, measure(part, LONGER * rounds), before)
    return verdict


def planted(part: Part, factor: float) -> Part:
    """The same part with `factor` times its processor time."""

    def run() -> None:
        started = time.process_time()
        part.run()
        end = started + factor * (time.process_time() - started)
        while time.process_time() < end:
            pass

    return replace(part, run=run)


def parts(engines: Path) -> list[Part]:
    """The parts of a request's path, each on one thread."""
    manifest = Manifest.read(engines)
    preprocessor = Preprocessor.load(engines)
    encoder = AudioEncoder.load(engines / "audio_encoder", threads=1)
    decoder = Decoder(engines / "llm", 8, manifest.limits.max_sequence_tokens, threads=1)
    cache = CachedEncoder(encoder, "bench", 64 << 20)
    song, five, thirty = _song(), clip_windows(_pcm(5)), clip_windows(_pcm(30))
    prompt = np.random.default_rng(0).standard_normal((800, decoder.hidden_size)).astype(np.float32)
    cache.table(thirty)
    return [
        Part("decoding, 60 s stereo MP3", lambda: decoding.decode(song, "bench"), arithmetic),
        Part("preprocess beside its decoder process", lambda: _prepare(preprocessor, song), arithmetic),
        Part("encoder, 5 s", lambda: encoder.encode(five), arithmetic),
        Part("encoder, 30 s", lambda: encoder.encode(thirty), arithmetic),
        Part("embeddings of a clip heard before, 30 s", lambda: cache.table(thirty), arithmetic),
        Part("prefill, 800 tokens", lambda: decoder.prefill(0, prompt, 0), arithmetic),
        Part("decode, 1 stream, 64 tokens", lambda: _decode(decoder, 1), arithmetic),
        Part("decode, 8 streams, 64 tokens", lambda: _decode(decoder, 8), arithmetic),
        Part("postprocess, 2 000 tokens", lambda: _postprocess(engines), interpreter),
    ]


def arithmetic() -> float:
    """Reference for the engines' kind of work: numpy matrix products."""
    size = np.linspace(-1, 1, 384 * 384, dtype=np.float32).reshape(384, 384)
    made = size
    for _ in range(12):
        made = np.tanh(made @ size * 0.01)
    return float(made.sum())


def interpreter() -> int:
    """Reference for the work between the engines: plain Python."""
    counts: dict[int, int] = {}
    for number in range(60_000):
        counts[number % 997] = counts.get(number % 997, 0) + number
    return sum(counts.values())


def _seconds(run: Callable[[], object]) -> float:
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


def _prepare(preprocessor: Preprocessor, file: bytes) -> Mapping[str, Any]:
    return preprocessor.prepare("bench", {"max_tokens": 8}, [file], "What do you hear?", None)


def _decode(decoder: Decoder, rows: int) -> None:
    ids = np.arange(rows)
    for length in range(200, 264):
        ids = decoder.decode(ids, np.full(rows, length)).argmax(axis=1)


def _postprocess(engines: Path) -> None:
    """Push four interleaved answers; none ends before its last token."""
    postprocessor = Postprocessor.load(engines, lambda request_id: None, 60.0, 1e9)
    given = {"max_tokens": min(500, contract.MAX_NEW_TOKENS)}
    for _ in range(500):
        for name in "abcd":
            postprocessor.push(name, lambda: given, [40], lambda: False)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, default=Path("engines/cpu"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="default: %(default)s")
    parser.add_argument("--save", action="store_true", help="store the result as the new release's")
    parser.add_argument(
        "--plant",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="slow every part down, to see that it is noticed",
    )
    arguments = parser.parse_args()
    before = (
        {name: Result(**kept) for name, kept in json.loads(arguments.baseline.read_text())["parts"].items()}
        if arguments.baseline.is_file()
        else {}
    )
    verdicts = [
        judge(
            planted(part, arguments.plant) if arguments.plant > 1 else part,
            before.get(part.name),
            arguments.rounds,
        )
        for part in parts(arguments.engines)
    ]
    print(markdown(verdicts))
    slower = [verdict for verdict in verdicts if verdict.slower]
    print("\nslower: " + (", ".join(f"{one.name} ({one.change:.2f}×)" for one in slower) or "nothing"))
    if arguments.save:
        kept = {verdict.name: asdict(verdict.now) for verdict in verdicts}
        arguments.baseline.write_text(json.dumps({"parts": kept}, indent=1) + "\n")
        print(f"kept in {arguments.baseline}")
        return 0
    return 1 if slower else 0


def with_one_thread() -> None:
    """Start again with numpy on one thread: idle ones spin, and their time would count as the part's."""
    if os.environ.get(THREADS) != "1":
        os.execve(sys.executable, sys.orig_argv, os.environ | {THREADS: "1"})


if __name__ == "__main__":
    with_one_thread()
    sys.exit(main())
