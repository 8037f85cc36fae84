"""Measures how soon and how steadily a server speaks: `python -m perf.speech`, while `make serve` runs.

First audio counts from the moment the client has the text of the first segment: the delay that the voice adds to the
language model, including the wait for the end of the phrase. An underrun is a block that arrives after a listener who
plays at once has run out of audio, whether the text or the voice was late.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from af3 import contract
from clients.client import AudioFlamingo
from clients.errors import AudioFlamingoError
from clients.request import DEFAULT_URL, Parameters
from clients.sound.playback import Playhead
from perf import barge_in


@dataclass(frozen=True)
class Measured:
    """One answer. Seconds."""

    first_text_s: float
    first_audio_s: float | None  # from the request
    voice_s: float | None  # from the text of the first segment to the first audio
    speech_s: float
    underruns: int
    dry_s: float  # total time that the listener was out of audio
    real_time_factor: float | None


def measure(flamingo: AudioFlamingo, clip: Path, prompt: str, parameters: Parameters) -> Measured:
    """Ask once and measure."""
    sent_s = time.monotonic()
    first_text_s = first_audio_s = segment_s = None
    last_s = sent_s
    playhead = Playhead()
    text_at_s: list[tuple[int, float]] = []  # (characters so far, time)
    for delta in flamingo.ask(clip, prompt, **parameters):
        now = time.monotonic()
        if delta.text and first_text_s is None:
            first_text_s = now
        if delta.text:
            text_at_s.append(((text_at_s[-1][0] if text_at_s else 0) + len(delta.text), now))
        if segment_s is None and delta.speech_text:
            spoken_here = len(delta.speech_text.rstrip())
            segment_s = next((at_s for length, at_s in text_at_s if length >= spoken_here), None)
        if delta.speech is not None and delta.sample_rate is not None:
            first_audio_s = first_audio_s or now
            last_s = now
            playhead.add(len(delta.speech) / delta.sample_rate)
    spoken = first_audio_s is not None and segment_s is not None
    return Measured(
        first_text_s=(first_text_s or last_s) - sent_s,
        first_audio_s=first_audio_s - sent_s if first_audio_s else None,
        voice_s=first_audio_s - segment_s if spoken and first_audio_s and segment_s else None,
        speech_s=playhead.total_s,
        underruns=playhead.underruns,
        dry_s=playhead.waited_s,
        real_time_factor=(last_s - first_audio_s) / playhead.total_s if first_audio_s else None,
    )


def sweep(arguments: argparse.Namespace, streams: int) -> list[Measured]:
    """Measure `answers` answers for each of `streams` concurrent callers, after a warm-up."""

    def caller(number: int) -> list[Measured]:
        with AudioFlamingo(arguments.url, contract.AUDIO_FLAMINGO_SPEECH.name) as flamingo:
            found = []
            for turn in range(arguments.answers):
                parameters = _parameters(arguments, seed=1000 * number + turn)
                found.append(measure(flamingo, arguments.clip, arguments.prompt, parameters))
            return found

    caller(streams)
    with ThreadPoolExecutor(streams) as pool:
        return [measured for own in pool.map(caller, range(streams)) for measured in own]


def _parameters(arguments: argparse.Namespace, seed: int) -> Parameters:
    parameters: Parameters = {"max_tokens": arguments.max_tokens, "seed": seed}
    if arguments.temperature:
        parameters["temperature"] = arguments.temperature
    if arguments.voice:
        parameters["voice"] = arguments.voice
    return parameters


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=DEFAULT_URL, help="gRPC address (default: %(default)s)")
    parser.add_argument("--clip", type=Path, default=Path("checkpoints/samples/digits.wav"))
    parser.add_argument("--prompt", default="Transcribe the input speech.")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--answers", type=int, default=10, help="per stream (default: %(default)s)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--barge-ins", type=int, default=10, help="interruptions (default: %(default)s)")
    parser.add_argument("--voice", help="one of the server's voices (default: its first)")
    parser.add_argument("--out", type=Path, help="write the figures of every answer as JSON")
    try:
        _report(parser.parse_args())
    except AudioFlamingoError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _report(arguments: argparse.Namespace) -> None:
    print(
        "| streams | answers | first text, ms | voice to first audio, ms: P50 | P90 | P99 |"
        f" speech, s | RTF | underruns | dry, s |\n|{'---|' * 10}"
    )
    figures = {}
    for streams in arguments.streams:
        found = sweep(arguments, streams)
        figures[streams] = [asdict(measured) for measured in found]
        print(_row(streams, found), flush=True)
    parameters = [_parameters(arguments, seed) for seed in range(arguments.barge_ins)]
    interrupted = barge_in.measure_all(arguments.url, arguments.clip, arguments.prompt, parameters)
    print(f"\n{barge_in.summary(interrupted)}")
    if arguments.out:
        measured = {"streams": figures, "barge_ins": [asdict(one) for one in interrupted]}
        machine = {"machine": platform.platform(), "python": platform.python_version()}
        arguments.out.write_text(json.dumps(machine | measured, indent=1) + "\n")


def _row(streams: int, found: list[Measured]) -> str:
    voice_ms = [1000 * measured.voice_s for measured in found if measured.voice_s is not None]
    factors = [measured.real_time_factor for measured in found if measured.real_time_factor is not None]
    cells = [
        f"{streams}",
        f"{len(found)}",
        f"{1000 * np.median([measured.first_text_s for measured in found]):.0f}",
        *(f"{np.percentile(voice_ms, percent):.0f}" if voice_ms else "-" for percent in (50, 90, 99)),
        f"{sum(measured.speech_s for measured in found):.0f}",
        f"{np.median(factors):.3f}" if factors else "-",
        f"{sum(measured.underruns for measured in found)}",
        f"{sum(measured.dry_s for measured in found):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
