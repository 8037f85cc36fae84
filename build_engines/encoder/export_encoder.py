"""Exports the encoder as one ONNX file: log-mel, AF-Whisper, pooling and adaptor, from waveform to embeddings.

Inputs: pcm float32 [W, S] (zero-padded, S a multiple of 320), pcm_lengths int64 [W] (valid samples) and, for models
with RoTE, window_index int64 [W] (the window's index in its clip). Output: audio_embeddings float32 [W, S // 640, H];
the caller keeps the first `audio_token_count(length)` of each row.

A window is padded to just past its end instead of to 30 s: the same embeddings (see af3/encoder/onnx_encoder.py) for a
fraction of the work. There are two forms, both checked against Transformers:

- `RaggedEncoder`, for TensorRT: plain operators of opset 20 (the newest that TensorRT 10 reads), no convolution of 400
  samples in FP32 (TensorRT may lack a kernel), and a mask, so that windows of different lengths can share a call.
- `AlignedEncoder`, for ONNX Runtime: its fused attention, which stores no score matrix, and no mask; all windows of
  a call have the same length.
"""

import logging
import math
import warnings
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import MusicFlamingoConfig
from transformers.models.audioflamingo3 import modeling_audioflamingo3 as af3_model
from transformers.models.musicflamingo.modeling_musicflamingo import MusicFlamingoRotaryEmbedding

from af3.encoder.onnx_encoder import AudioEncoder
from af3.inputs.audio import HOP
from build_engines.encoder.quantize_encoder import quantize
from build_engines.encoder.time_rotation import TabulatedRotation, TimeRotation
from build_engines.encoder.verify_encoder import verify
from build_engines.source.checkpoint import Checkpoint
from build_engines.source.family import AudioModel
from build_engines.stage import Figures
from build_engines.weight_block import EncoderPrecision

# The graph computes RoTE's angles or looks them up in a table (for TensorRT in half precision).
Rotation = Literal["formula", "table"]

OPSET = 20
FFT_SAMPLES = 400
FRAME_HOPS = 3  # that hold one frame
DYNAMIC = torch.export.Dim.DYNAMIC
MASKED = -1e9  # added to the attention score of a key past the end of its window


class LogMel(nn.Module):
    """Whisper's log-mel features, float32 [W, S] → [W, mels, S / 160]; the DFT is a convolution.

    Equals `WhisperFeatureExtractor`: periodic Hann window, centred frames with reflected ends, last frame dropped,
    slaney mels, log10 clamped to 8 below the loudest value of the window, (x + 4) / 4.
    """

    dft: Tensor
    mel: Tensor  # [mels, 201]

    def __init__(self, mel_filters: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("dft", self.shaped(windowed_dft()))
        self.register_buffer("mel", torch.from_numpy(mel_filters.T.copy()).float())

    def shaped(self, dft: Tensor) -> Tensor:
        """The weights of `spectrum`, [402, 1, 400]."""
        return dft[:, None]

    def spectrum(self, padded: Tensor) -> Tensor:
        """Samples with 200 more at each end, [W, S + 400] → real and imaginary parts, [W, 402, S / 160]."""
        return functional.conv1d(padded[:, None], self.dft, stride=HOP)[:, :, :-1]

    def forward(self, pcm: Tensor) -> Tensor:
        half = FFT_SAMPLES // 2
        padded = functional.pad(pcm[:, None], (half, half), mode="reflect")[:, 0]
        real, imaginary = self.spectrum(padded).split(FFT_SAMPLES // 2 + 1, dim=1)
        power = self.mel @ (real * real + imaginary * imaginary)
        loudness = power.clamp(min=1e-10).log10()
        floor = loudness.amax(dim=(1, 2), keepdim=True) - 8.0
        return (torch.maximum(loudness, floor) + 4.0) / 4.0


class LogMelByProducts(LogMel):
    """The same with the DFT as one product of matrices.

    A frame is the next three hops (the last 80 of their 480 samples count nothing), so no sample is gathered.
    """

    def shaped(self, dft: Tensor) -> Tensor:
        """[480, 402]"""
        return functional.pad(dft, (0, FRAME_HOPS * HOP - FFT_SAMPLES)).T.contiguous()

    def spectrum(self, padded: Tensor) -> Tensor:
        windows, frames = padded.shape[0], padded.shape[1] // HOP - (FRAME_HOPS - 1)
        hops = padded[:, : (frames + FRAME_HOPS - 1) * HOP].reshape(windows, frames + FRAME_HOPS - 1, HOP)
        rows = torch.cat([hops[:, first : first + frames] for first in range(FRAME_HOPS)], dim=2)
        return (rows @ self.dft).transpose(1, 2)


def windowed_dft() -> Tensor:
    """Cosines, then sines, under a periodic Hann window: float32 [402, 400]."""
    time = torch.arange(FFT_SAMPLES, dtype=torch.float64)
    angle = 2 * math.pi / FFT_SAMPLES * torch.arange(FFT_SAMPLES // 2 + 1)[:, None] * time
    window = torch.hann_window(FFT_SAMPLES, dtype=torch.float64)
    return (torch.cat([angle.cos(), -angle.sin()]) * window).float()


class MaskedAttention(nn.Module):
    """Self-attention of one AF-Whisper layer with an additive key mask, around Transformers' own weights."""

    def __init__(self, source: af3_model.AudioFlamingo3Attention) -> None:
        super().__init__()
        self.source = source

    def forward(self, hidden: Tensor, key_bias: Tensor) -> Tensor:
        source = self.source
        windows, frames, width = hidden.shape
        split = (windows, frames, source.num_heads, source.head_dim)
        query = (source.q_proj(hidden) * source.scaling).reshape(split).transpose(1, 2)
        key = source.k_proj(hidden).reshape(split).permute(0, 2, 3, 1)
        value = source.v_proj(hidden).reshape(split).transpose(1, 2)
        weights = torch.softmax(query @ key + key_bias, dim=-1)
        return source.out_proj((weights @ value).transpose(1, 2).reshape(windows, frames, width))


class FusedAttention(nn.Module):
    """Self-attention without a mask, as one fused operator of ONNX Runtime."""

    def __init__(self, source: af3_model.AudioFlamingo3Attention) -> None:
        super().__init__()
        self.source = source

    def forward(self, hidden: Tensor) -> Tensor:
        source = self.source
        mixed = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (source.q_proj(hidden), source.k_proj(hidden), source.v_proj(hidden)),
            {"num_heads": source.num_heads, "scale": float(source.scaling)},
            dtype=hidden.dtype,
            shape=hidden.shape,
            version=1,
        )
        return source.out_proj(mixed)


class Layer(nn.Module):
    """One AF-Whisper layer around Transformers' own weights."""

    def __init__(self, source: af3_model.AudioFlamingo3EncoderLayer, attention: nn.Module) -> None:
        super().__init__()
        self.source = source
        self.attention = attention

    def forward(self, hidden: Tensor, *key_bias: Tensor) -> Tensor:
        source = self.source
        hidden = hidden + self.attention(source.self_attn_layer_norm(hidden), *key_bias)
        return hidden + source.fc2(source.activation_fn(source.fc1(source.final_layer_norm(hidden))))


class WaveformEncoder(nn.Module):
    """The shared part of both forms: log-mel, then Transformers' tower and projector, for windows of any length.

    Differs from `AudioFlamingo3Encoder.forward` in three ways, none of which changes a valid position: it slices the
    position table to the input's length, derives a window's end from its sample count, and pools by a mean of pairs.
    """

    log_mel_by: type[LogMel]
    attention: type[nn.Module]
    rotation_by: Rotation
    mixes_lengths: bool  # windows of different lengths may share a call

    def __init__(
        self,
        tower: af3_model.AudioFlamingo3Encoder,
        projector: nn.Module,
        mel_filters: np.ndarray,
        rotation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.rotation = rotation
        self.log_mel = self.log_mel_by(mel_filters)
        self.tower = tower
        self.projector = projector
        layers = cast(list[af3_model.AudioFlamingo3EncoderLayer], tower.layers)
        self.layers = nn.ModuleList([Layer(layer, self.attention(layer.self_attn)) for layer in layers])

    def convolved(self, pcm: Tensor) -> Tensor:
        """Encoder frames before the first layer, [W, S / 320, width]."""
        hidden = functional.gelu(self.tower.conv1(self.log_mel(pcm)))
        return functional.gelu(self.tower.conv2(hidden)).permute(0, 2, 1)

    def pooled(self, hidden: Tensor, window_index: Tensor | None) -> Tensor:
        """Encoder frames after the last layer → audio embeddings."""
        windows, frames, width = hidden.shape
        pairs = hidden[:, : frames // 2 * 2].reshape(windows, frames // 2, 2, width)
        pooled = self.tower.layer_norm(pairs.mean(2))
        if self.rotation is not None:
            pooled = self.rotation(pooled, window_index)
        return self.projector(pooled)


def heard(frames: int, pcm_lengths: Tensor) -> Tensor:
    """Mark the encoder frames with audio, [..., frames]: frame j when 320 j < length, i.e. j < ceil(length / 320)."""
    return torch.arange(frames) * (2 * HOP) < pcm_lengths[..., None]


class RaggedEncoder(WaveformEncoder):
    """For TensorRT: windows of any lengths in one call; frames past the end of a window are masked."""

    log_mel_by = LogMelByProducts
    attention = MaskedAttention
    rotation_by = "table"
    mixes_lengths = True

    def forward(self, pcm: Tensor, pcm_lengths: Tensor, window_index: Tensor | None = None) -> Tensor:
        hidden = self.convolved(pcm)
        frames = hidden.shape[1]
        hidden = hidden + self.tower.embed_positions.weight[:frames]
        key_bias = torch.where(heard(frames, pcm_lengths), 0.0, MASKED)[:, None, None]
        for layer in self.layers:
            hidden = layer(hidden, key_bias)
        return self.pooled(hidden, window_index)


class AlignedEncoder(WaveformEncoder):
    """For ONNX Runtime: all windows of a call have one length; frames past it are cut before the first layer."""

    log_mel_by = LogMel
    attention = FusedAttention
    rotation_by = "formula"
    mixes_lengths = False

    def forward(self, pcm: Tensor, pcm_lengths: Tensor, window_index: Tensor | None = None) -> Tensor:
        hidden = self.convolved(pcm)
        kept = heard(hidden.shape[1], pcm_lengths.max()).nonzero()[:, 0]
        hidden = hidden[:, kept]
        hidden = hidden + self.tower.embed_positions.weight[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        return self.pooled(hidden, window_index)


def build(
    checkpoint: Checkpoint, form: type[WaveformEncoder], folder: Path, precision: EncoderPrecision = "fp32"
) -> Figures:
    """Export `model.onnx` (+ `model.onnx.data`) into `folder` and verify it against Transformers."""
    model = load_audio_model(checkpoint)
    extractor = checkpoint.processor.feature_extractor
    print("  exporting (a minute at full size)")
    windows = checkpoint.windows_per_clip
    turn = _rotation(checkpoint, form.rotation_by, windows)
    export(form(model.audio_tower, model.multi_modal_projector, extractor.mel_filters, turn), folder)
    if precision == "int8":
        quantize(folder / "model.onnx", checkpoint.audio_config.hidden_size)
    return verify(AudioEncoder.load(folder), model, extractor, windows, form.mixes_lengths, precision)


def _rotation(checkpoint: Checkpoint, rotation: Rotation, windows: int) -> nn.Module | None:
    if not isinstance(checkpoint.config, MusicFlamingoConfig):
        return None
    constants = MusicFlamingoRotaryEmbedding(checkpoint.config)
    return TimeRotation(constants) if rotation == "formula" else TabulatedRotation(constants, windows)


def load_audio_model(checkpoint: Checkpoint) -> AudioModel:
    """Load Transformers' model in fp32 with the weights of tower and projector only; the LLM stays empty."""
    with torch.device("meta"):  # allocates neither 30 GB of LLM nor a second copy of the tower's 2.6 GB
        model = checkpoint.family.model(checkpoint.config)
    for name in ("audio_tower", "multi_modal_projector"):
        model.get_submodule(name).load_state_dict(checkpoint.module_state(f"{name}."), assign=True)
    if isinstance(checkpoint.config, MusicFlamingoConfig):
        model.pos_emb = MusicFlamingoRotaryEmbedding(checkpoint.config)  # constants, not in the checkpoint
    return model.eval()


@torch.no_grad()
def export(module: WaveformEncoder, folder: Path) -> None:
    """Write `folder/model.onnx` and, beside it, its weights in one `model.onnx.data`."""
    # The exporter warns about torchvision, which is not needed here, and about its own use of torch.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    example = [torch.zeros(2, 304 * HOP), torch.tensor([300 * HOP, 250 * HOP])]
    shapes: list[dict[int, Any]] = [{0: DYNAMIC, 1: DYNAMIC}, {0: DYNAMIC}]
    names = ["pcm", "pcm_lengths"]
    if module.rotation is not None:
        example.append(torch.tensor([0, 1]))
        shapes.append({0: DYNAMIC})
        names.append("window_index")
    torch.onnx.export(
        module.eval(),
        tuple(example),
        folder / "model.onnx",
        input_names=names,
        output_names=["audio_embeddings"],
        dynamic_shapes=dict(zip(names, shapes, strict=True)),
        opset_version=OPSET,
        dynamo=True,
        external_data=True,
        verbose=False,
    )
