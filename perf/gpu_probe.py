"""Measures a GPU with PyTorch alone in under ten minutes: python -m perf.gpu_probe --out probe.json

Long because the measurements are short and read side by side.

Needs torch with CUDA and Transformers, but no TensorRT, container or weights: AF-Whisper and adaptor have AF3's full
size and random weights. Measures one window and twenty, of 30 s and of 5 s, padded and not; the matrix products of
Qwen2.5-7B in BF16 and FP8; and ONNX Runtime's CUDA provider and TensorRT for RTX where they are installed. Prints a
table and writes JSON. `--tiny --device cpu` runs everything but CUDA in seconds, for the tests.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AudioFlamingo3Config, WhisperFeatureExtractor
from transformers.models.audioflamingo3 import modeling_audioflamingo3 as af3_model

from build_engines.encoder.export_encoder import RaggedEncoder, export
from perf.report import table

LIMIT_S = 540.0  # time for everything; a measurement that no longer fits is left out and listed as such
SAMPLE_RATE = 16_000
FP8_MAX = 448.0


@dataclass(frozen=True)
class Sizes:
    """Layers of AF-Whisper; windows per call; tokens (rows) of a matrix product and its input and output sizes."""

    layers: int
    audio: dict[str, int]
    windows: tuple[int, ...]
    seconds: tuple[int, ...]
    tokens: tuple[int, ...]
    matrices: dict[str, tuple[int, int]]
    repeats: int


FULL = Sizes(
    layers=32,
    audio={},
    windows=(1, 20),
    seconds=(5, 30),
    tokens=(1, 64, 4096),
    # The matrices of one layer of Qwen2.5-7B: inputs, outputs.
    matrices={"qkv": (3584, 4608), "out": (3584, 3584), "gate and up": (3584, 37888), "down": (18944, 3584)},
    repeats=20,
)
TINY = Sizes(
    layers=1,
    audio={"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128},
    windows=(1, 2),
    seconds=(1, 2),
    tokens=(1, 16),
    matrices={"qkv": (64, 96)},
    repeats=2,
)


@dataclass(frozen=True)
class Row:
    """One measurement: median milliseconds, ms per window or TFLOP/s, or a note why it is missing."""

    what: str
    ms: float | None = None
    ms_per_window: float | None = None
    tflop_per_s: float | None = None
    note: str = ""


def encoder_module(sizes: Sizes, hidden: int = 3584) -> RaggedEncoder:
    """Build log-mel, AF-Whisper and adaptor in float32 with random weights."""
    text = {"model_type": "qwen2", "hidden_size": hidden if not sizes.audio else 64}
    config = AudioFlamingo3Config(
        audio_config={"num_hidden_layers": sizes.layers, **sizes.audio}, text_config=text
    )
    torch.manual_seed(0)
    tower = af3_model.AudioFlamingo3Encoder._from_config(config.audio_config)
    projector = af3_model.AudioFlamingo3MultiModalProjector(config)
    filters = WhisperFeatureExtractor(feature_size=128).mel_filters
    return RaggedEncoder(tower.eval(), projector.eval(), filters)


class HalfEncoder(torch.nn.Module):
    """Log-mel in float32, the rest in BF16 with torch's fused attention, as a GPU server would run it."""

    def __init__(self, source: RaggedEncoder) -> None:
        super().__init__()
        self.log_mel = source.log_mel.float()
        self.tower = source.tower.bfloat16()
        self.projector = source.projector.bfloat16()

    def forward(self, pcm: torch.Tensor) -> torch.Tensor:
        tower = self.tower
        gelu = torch.nn.functional.gelu
        hidden = gelu(tower.conv2(gelu(tower.conv1(self.log_mel(pcm).bfloat16())))).permute(0, 2, 1)
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        for layer in tower.layers:
            hidden = hidden + self._attention(layer, layer.self_attn_layer_norm(hidden))
            hidden = hidden + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(hidden))))
        pairs = hidden[:, : hidden.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(2)
        return self.projector(tower.layer_norm(pairs))

    def _attention(self, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        source = layer.self_attn
        heads = (source.num_heads, source.head_dim)
        query, key, value = (
            project(hidden).unflatten(-1, heads).transpose(1, 2)
            for project in (source.q_proj, source.k_proj, source.v_proj)
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return source.out_proj(mixed.transpose(1, 2).flatten(2))


class Probe:
    """Runs the measurements that fit into the time limit and keeps their rows."""

    def __init__(self, sizes: Sizes, device: str, limit_s: float = LIMIT_S):
        self.sizes = sizes
        self.device = torch.device(device)
        self.rows: list[Row] = []
        self._end_s = time.monotonic() + limit_s

    def add(self, what: str, measure: Callable[[], Row]) -> None:
        """Run a measurement; one that fails, or has no time left, becomes a row with a note."""
        if time.monotonic() > self._end_s:
            row = Row(what, note="left out: no time left")
        else:
            try:
                row = measure()
            except Exception as error:  # the other measurements still run
                row = Row(
                    what,
                    note=f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}",
                )
        self.rows.append(row)
        print(f"{row.what}: {'-' if row.ms is None else f'{row.ms:.2f} ms'} {row.note}", flush=True)

    def ms(self, call: Callable[[], object]) -> float:
        """Median time of synchronised calls, after two that compile and allocate."""
        found = []
        for number in range(self.sizes.repeats + 2):
            self._wait()
            began = time.perf_counter()
            call()
            self._wait()
            if number >= 2:
                found.append(1000 * (time.perf_counter() - began))
        return median(found)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def encoder(self) -> None:
        """Time AF-Whisper in BF16 on PyTorch, with padded and unpadded windows."""
        module = HalfEncoder(encoder_module(self.sizes)).to(self.device)
        for windows in self.sizes.windows:
            for seconds in self.sizes.seconds:
                for padded in (True, False):
                    fed = max(self.sizes.seconds) if padded else seconds
                    if padded and fed == seconds:
                        continue  # the longest window needs no padding
                    what = f"encoder, PyTorch BF16, {windows} × {seconds} s" + (
                        f" padded to {fed} s" if padded else ""
                    )
                    self.add(what, lambda w=windows, f=fed, what=what: self._encoded(what, module, w, f))

    def _encoded(self, what: str, module: HalfEncoder, windows: int, seconds: int) -> Row:
        pcm = torch.randn(windows, seconds * SAMPLE_RATE, device=self.device) * 0.1
        with torch.inference_mode():
            ms = self.ms(lambda: module(pcm))
        flop = encoder_flop(module, seconds) * windows
        return Row(what, ms, ms / windows, flop / ms / 1e9)

    def matrices(self) -> None:
        """Time the matrix products of one LLM layer in BF16 and FP8 by number of tokens."""
        for name, (inputs, outputs) in self.sizes.matrices.items():
            for tokens in self.sizes.tokens:
                for kind, make in (("BF16", bf16_product), ("FP8", fp8_product)):
                    what = f"{name} [{tokens} × {inputs}] · [{inputs} × {outputs}], {kind}"
                    flop = 2 * tokens * inputs * outputs
                    self.add(
                        what,
                        lambda make=make, n=tokens, i=inputs, o=outputs, flop=flop, what=what: _rated(
                            what, self.ms(make(n, i, o, self.device)), flop
                        ),
                    )

    def exported(self) -> None:
        """Time the served graph on ONNX Runtime's CUDA provider and on TensorRT for RTX."""
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            export(encoder_module(self.sizes), folder)
            for windows in self.sizes.windows:
                what = f"encoder, ONNX Runtime, {windows} × {max(self.sizes.seconds)} s"
                self.add(what, lambda w=windows, what=what: self._onnx_runtime(what, folder, w))
            what = "encoder, TensorRT for RTX"
            self.add(what, lambda: self._tensorrt_rtx(what, folder))

    def _onnx_runtime(self, what: str, folder: Path, windows: int) -> Row:
        runtime = importlib.import_module("onnxruntime")
        provider = "CUDAExecutionProvider" if self.device.type == "cuda" else "CPUExecutionProvider"
        if provider not in runtime.get_available_providers():
            return Row(what, note=f"ONNX Runtime has no {provider} here: pip install onnxruntime-gpu")
        session = runtime.InferenceSession(folder / "model.onnx", providers=[provider])
        feed = self._feed(windows)
        ms = self.ms(lambda: session.run(None, feed))
        return Row(what, ms, ms / windows, note=f"{provider}, FP32, from host memory")

    def _tensorrt_rtx(self, what: str, folder: Path) -> Row:
        from build_engines.encoder import rtx_build, tensorrt_build

        tensorrt_build.write_mixed_precision(folder / "model.onnx", folder / "half.onnx")
        began = time.monotonic()
        most = max(self.sizes.windows)
        rtx_build.write_engine(folder / "half.onnx", folder / "model.plan", most, placed=False)
        built = f"built in {time.monotonic() - began:.0f} s"
        if self.device.type != "cuda":
            return Row(what, note=f"{built}; runs on a GPU only")
        from af3.encoder.interface import TENSORRT_RTX_MODULE, Window
        from af3.encoder.tensorrt_encoder import TensorRTEncoder

        encoder = TensorRTEncoder.load(folder, TENSORRT_RTX_MODULE)
        rows = self._feed(most)["pcm"]
        ms = self.ms(lambda: encoder.encode([Window(row, 0) for row in rows]))
        return Row(f"{what}, {most} windows", ms, ms / most, note=built)

    def _feed(self, windows: int) -> dict[str, np.ndarray]:
        samples = max(self.sizes.seconds) * SAMPLE_RATE
        pcm = np.random.default_rng(0).standard_normal((windows, samples)).astype(np.float32) * 0.1
        return {"pcm": pcm, "pcm_lengths": np.full(windows, samples, np.int64)}


def encoder_flop(module: HalfEncoder, seconds: int) -> float:
    """FLOP of one window: matrix products and attention; a multiply-add counts as two."""
    frames = 50 * seconds
    layers = list(module.tower.layers)
    width, inner = layers[0].fc1.in_features, layers[0].fc1.out_features
    return float(len(layers) * 2 * frames * (4 * width**2 + 2 * width * inner + 2 * frames * width))


def bf16_product(tokens: int, inputs: int, outputs: int, device: torch.device) -> Callable[[], torch.Tensor]:
    left = torch.randn(tokens, inputs, device=device).bfloat16()
    right = torch.randn(outputs, inputs, device=device).bfloat16().t()
    return lambda: left @ right


def fp8_product(tokens: int, inputs: int, outputs: int, device: torch.device) -> Callable[[], torch.Tensor]:
    """An FP8 product like TensorRT-LLM's and vLLM's: one scale per tensor; rows are a multiple of 16 for the kernel."""
    rows = -(-tokens // 16) * 16
    one = torch.ones((), device=device)

    def quantised(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)

    left, right = quantised(rows, inputs), quantised(outputs, inputs).t()
    return lambda: torch._scaled_mm(left, right, one, one, out_dtype=torch.bfloat16)


def _rated(what: str, ms: float, flop: float) -> Row:
    return Row(what, ms, tflop_per_s=flop / ms / 1e9)


def machine(device: str) -> dict[str, str]:
    """Describe the machine that was measured."""
    found = {"torch": torch.__version__, "python": platform.python_version(), "cpus": str(os.cpu_count())}
    if device != "cuda":
        return found | {"device": device}
    properties = torch.cuda.get_device_properties(0)
    return found | {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gib": f"{properties.total_memory / 2**30:.1f}",
        "cuda": str(torch.version.cuda),
    }


def markdown(rows: Sequence[Row]) -> str:
    cells = [
        [row.what, _cell(row.ms), _cell(row.ms_per_window), _cell(row.tflop_per_s), row.note] for row in rows
    ]
    return table(["what", "ms", "ms a window", "TFLOP/s", ""], cells)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.gpu_probe", description=__doc__.split(":")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="default: %(default)s")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds in all; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA device; --tiny --device cpu shows what would be measured")
        return 1
    probe = Probe(TINY if arguments.tiny else FULL, arguments.device, arguments.limit)
    for part in (probe.encoder, probe.matrices, probe.exported):
        part()
    found = {"machine": machine(arguments.device), "rows": [asdict(row) for row in probe.rows]}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(markdown(probe.rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
