"""Compares encoder and adaptor at AF3's full size (random weights) with Transformers: `python -m perf.full_size`.

650 M parameters; ours and Transformers' take 2.6 GB each. The export goes to `.cache/perf/` once (a minute).
Transformers pads every clip to 30 s. `--precision int8` measures the encoder that stands beside an int4 LLM, and its
error. `--windows 20` measures instead the time and memory of twenty windows at once.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AudioFlamingo3Config, WhisperFeatureExtractor
from transformers.models.audioflamingo3 import modeling_audioflamingo3 as af3_model

from af3.encoder.onnx_encoder import AudioEncoder
from af3.encoder.windows import clip_windows
from af3.inputs.audio import SAMPLE_RATE
from build_engines.encoder.export_encoder import AlignedEncoder, export
from build_engines.encoder.quantize_encoder import quantize
from build_engines.encoder.verify_encoder import relative_error
from perf.report import table

CACHE = Path(".cache/perf")
SECONDS = (5, 10, 30)
SEED = 0
LLM_WIDTH = 3584  # of the embeddings; the config's own default is 4096


def modules(
    layers: int,
) -> tuple[af3_model.AudioFlamingo3Encoder, af3_model.AudioFlamingo3MultiModalProjector]:
    """Build AF-Whisper and adaptor as in nvidia/audio-flamingo-3-hf, with `layers` layers and random weights."""
    config = AudioFlamingo3Config(
        audio_config={"num_hidden_layers": layers},
        text_config={"model_type": "qwen2", "hidden_size": LLM_WIDTH},
    )
    torch.manual_seed(SEED)
    tower = af3_model.AudioFlamingo3Encoder._from_config(config.audio_config)
    return tower.eval(), af3_model.AudioFlamingo3MultiModalProjector(config).eval()


def engine(layers: int, precision: str) -> Path:
    """Export the encoder at the first call; return its folder."""
    folder = CACHE / f"encoder-{layers}-layers-{precision}-{LLM_WIDTH}"
    if not (folder / "done").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        extractor = WhisperFeatureExtractor(feature_size=128)
        tower, projector = modules(layers)
        export(AlignedEncoder(tower, projector, extractor.mel_filters), folder)
        if precision == "int8":
            quantize(folder / "model.onnx", tower.config.hidden_size)
        (folder / "done").touch()
    return folder


def ratios(layers: int, precision: str, threads: int, repeats: int, lengths: Sequence[int]) -> str:
    """Render a Markdown table: seconds of both by clip length, the speed-up per round, and ‖d‖/‖ref‖."""
    encoder = AudioEncoder.load(engine(layers, precision), threads=threads)
    tower, projector = modules(layers)
    extractor = WhisperFeatureExtractor(feature_size=128)
    rows = []
    for seconds in lengths:
        clip = _sound(seconds)

        def theirs(clip: np.ndarray = clip) -> torch.Tensor:
            padded = extractor(
                [clip],
                sampling_rate=SAMPLE_RATE,
                return_tensors="pt",
                return_attention_mask=True,
                padding="max_length",
            )
            heard = tower(padded["input_features"], input_features_mask=padded["attention_mask"])
            return projector(heard.last_hidden_state)

        def ours(clip: np.ndarray = clip) -> list[np.ndarray]:
            return encoder.encode(clip_windows(clip))

        pairs = [(_time(theirs), _time(ours)) for _ in range(repeats)]
        found = [reference / own for reference, own in pairs]
        rows.append(
            [
                f"{seconds} s",
                f"{statistics.median(pair[0] for pair in pairs):.1f}",
                f"{statistics.median(pair[1] for pair in pairs):.1f}",
                f"{statistics.median(found):.1f}×",
                f"{min(found):.1f}–{max(found):.1f}",
                f"{_error(encoder.join(ours())[0], theirs()[0].numpy()):.1e}",
            ]
        )
        print(rows[-1], flush=True)
    return table(["clip", "Transformers, s", "here, s", "ratio", "spread", "error"], rows)


def many_windows(layers: int, precision: str, threads: int, windows: int) -> str:
    """Render processor seconds of a full window alone and among many, and the memory that the many add."""
    encoder = AudioEncoder.load(engine(layers, precision), threads=threads)
    clips = [window for _ in range(windows) for window in clip_windows(_sound(30))]
    encoder.encode(clips[:1])
    alone = min(_processor(lambda: encoder.encode(clips[:1])) for _ in range(3))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    among = _processor(lambda: encoder.encode(clips)) / windows
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    head = ["windows", "processor s a window alone", f"among {windows}", "ratio", "peak memory added, MiB"]
    return table(
        head, [[str(windows), f"{alone:.2f}", f"{among:.2f}", f"{among / alone:.2f}", f"{grown:.0f}"]]
    )


def _sound(seconds: int) -> np.ndarray:
    return np.random.default_rng(SEED).normal(0, 0.1, seconds * SAMPLE_RATE).astype(np.float32)


def _error(found: np.ndarray, padded: np.ndarray) -> float:
    """‖d‖/‖ref‖ of a clip's embeddings; Transformers' go on to 30 s."""
    return relative_error(found, padded[: len(found)])


def _time(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _processor(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=32, help="of the encoder (default: AF3's %(default)s)")
    parser.add_argument("--precision", choices=["fp32", "int8"], default="fp32", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of each side (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=int, nargs="+", default=SECONDS, help="of the clips (default: 5 10 30)"
    )
    parser.add_argument("--windows", type=int, help="so many full windows at once, instead of the ratios")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        if arguments.windows is None:
            print(
                ratios(
                    arguments.layers,
                    arguments.precision,
                    arguments.threads,
                    arguments.repeats,
                    arguments.seconds,
                )
            )
        else:
            print(many_windows(arguments.layers, arguments.precision, arguments.threads, arguments.windows))


if __name__ == "__main__":
    main()
