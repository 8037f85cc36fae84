"""Measures the natural voice alone: `python -m perf.natural_voice`, after `make engines VOICE=kokoro`.

For segments of several lengths: processor and wall seconds per second of speech, and the time from text to speech.
Phonemes, graph and level adjustment all count. `perf.speech` measures the voice inside the server.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from af3.speech.built_voice import VOICE_FOLDER
from af3.speech.engines.kokoro import KokoroSynthesizer
from af3.speech.pcm import shape

SEGMENTS = (
    "I can hear a siren",
    "wailing in the distance while a dog barks twice.",
    "It is quiet afterwards, and nothing else happens for the rest of the clip, which lasts eleven seconds.",
)


@dataclass(frozen=True)
class Cost:
    """One segment. Seconds."""

    audio_s: float
    processor_s: float
    wall_s: float


def speak_once(voices: KokoroSynthesizer, name: str, text: str) -> Cost:
    voice = voices.voice(name, 1.0)
    wall, processor = time.perf_counter(), time.process_time()
    samples = sum(map(len, shape(voice.speak(voice.speakable(text)), voice.sample_rate, 0.0)))
    return Cost(samples / voice.sample_rate, time.process_time() - processor, time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, default=Path("engines/cpu"))
    parser.add_argument("--voice", default="af_heart")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    print("| threads | words | speech, s | processor s per s | wall s per s | text to speech, ms: P50 |")
    print(f"|{'---|' * 6}")
    for threads in arguments.threads:
        voices = KokoroSynthesizer.load(arguments.engines / VOICE_FOLDER, threads=threads)
        for text in SEGMENTS:
            speak_once(voices, arguments.voice, text)
            costs = [speak_once(voices, arguments.voice, text) for _ in range(arguments.times)]
            audio_s = costs[0].audio_s
            processor_s = statistics.median(cost.processor_s for cost in costs)
            wall_s = statistics.median(cost.wall_s for cost in costs)
            cells = (
                threads,
                len(text.split()),
                f"{audio_s:.1f}",
                f"{processor_s / audio_s:.2f}",
                f"{wall_s / audio_s:.2f}",
                f"{1000 * wall_s:.0f}",
            )
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        voices.close()


if __name__ == "__main__":
    main()
