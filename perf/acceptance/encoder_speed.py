"""Times the encoder's TensorRT engine in ms per 30 s window; run it inside the container, on the GPU."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np

from af3.encoder.choose import load_encoder
from af3.encoder.interface import TENSORRT, Encoder
from af3.inputs.audio import SAMPLE_RATE

FLOP_PER_WINDOW = 2.3e12  # full size: 32 layers, 1 500 frames
WINDOWS = (1, 20)
REPEATS = 20


def measure(encoder: Encoder, windows: int, repeats: int = REPEATS) -> dict[str, float]:
    """Time `repeats` calls with `windows` full windows, after two that capture the graph; returns the median."""
    draw = np.random.default_rng(0)
    pcm = [draw.standard_normal(30 * SAMPLE_RATE).astype(np.float32) * 0.1 for _ in range(windows)]
    for _ in range(2):
        encoder.encode(pcm)
    seconds = []
    for _ in range(repeats):
        started = time.monotonic()
        encoder.encode(pcm)
        seconds.append(time.monotonic() - started)
    per_window = median(seconds) / windows
    return {
        "windows": windows,
        "ms_per_window": 1000 * per_window,
        "tflop_per_s": FLOP_PER_WINDOW / per_window / 1e12,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.acceptance.encoder_speed", description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="engines/TARGET")
    parser.add_argument("--provider", default=TENSORRT, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.engines / "audio_encoder", arguments.provider, 0)
    rows = [measure(encoder, windows, arguments.repeats) for windows in WINDOWS]
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
