"""Verifies that `model.onnx` is the checkpoint's encoder: compares it with Transformers' `get_audio_features`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import MusicFlamingoModel, WhisperFeatureExtractor

from af3.encoder.interface import Window
from af3.encoder.onnx_encoder import AudioEncoder
from af3.inputs.audio import SAMPLE_RATE, audio_token_count
from build_engines.source.family import AudioModel
from build_engines.stage import Figures, require

ERROR_BOUND = {"fp32": 1e-4, "int8": 5e-2}  # ‖d‖/‖ref‖ of a clip
# The shortest clip with a token, odd numbers of frames, and a window that is nearly full.
PROBE_SECONDS = (0.025, 1.003, 7.005, 29.97)
SEED = 2


def verify(
    encoder: AudioEncoder,
    model: AudioModel,
    extractor: WhisperFeatureExtractor,
    windows_per_clip: int,
    mixes_lengths: bool,
    precision: str,
) -> Figures:
    """Compare every probe alone and all together, in one call where possible. Raises BuildError past the bound.

    The probes stand at several places of a clip, including the last possible one.
    """
    places = (0, 0, 1, windows_per_clip - 1)
    windows = [Window(probe(seconds), place) for seconds, place in zip(PROBE_SECONDS, places, strict=True)]
    reference = [reference_embeddings(window, model, extractor) for window in tqdm(windows, desc="verifying")]
    alone = [encoder.encode([window])[0] for window in windows]
    twice = windows * 2
    together = encoder.encode_batch(twice) if mixes_lengths else encoder.encode(twice)
    pairs = list(zip(alone + together, reference * 3, strict=True))
    figures = {
        "relative_error": max(relative_error(ours, row) for ours, row in pairs),
        "largest_difference": max(float(np.abs(ours - row).max()) for ours, row in pairs),
    }
    print(f"  largest difference of an embedding: {figures['largest_difference']:.3g}")
    require("relative error of embeddings", figures["relative_error"], ERROR_BOUND[precision])
    return figures


@torch.no_grad()
def reference_embeddings(window: Window, model: AudioModel, extractor: WhisperFeatureExtractor) -> np.ndarray:
    """Transformers' embeddings of one window, padded to 30 s: float32 [tokens, H].

    The clip repeats the window up to its index; the tower encodes it only once.
    """
    features = extractor(
        [window.samples], sampling_rate=SAMPLE_RATE, return_attention_mask=True, return_tensors="pt"
    )
    times = window.place + 1
    tower, model.audio_tower = model.audio_tower, _HearsOneWindow(model.audio_tower)
    try:
        mask = features.attention_mask.expand(times, -1)
        found = audio_features(model, features.input_features.expand(times, -1, -1), mask)
    finally:
        model.audio_tower = tower
    tokens = audio_token_count(len(window.samples))
    assert len(found) == times * tokens
    return found[-tokens:].numpy()


class _HearsOneWindow(nn.Module):
    """A tower for clips of equal windows that encodes only one: at full size a window takes seconds."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower: Any = tower

    def forward(self, input_features: Tensor, input_features_mask: Tensor, **options: Any) -> Any:
        heard = self.tower(input_features[:1], input_features_mask=input_features_mask[:1], **options)
        heard.last_hidden_state = heard.last_hidden_state.expand(len(input_features), -1, -1)
        return heard

    def _get_feat_extract_output_lengths(self, lengths: Tensor) -> Any:
        return self.tower._get_feat_extract_output_lengths(lengths)


def audio_features(model: AudioModel, features: Tensor, mask: Tensor) -> Tensor:
    """Run `model.get_audio_features` on the windows of one clip, [W, mels, 3000] → [tokens, H].

    Music Flamingo's also takes the prompt, because it counts the clip's tokens there.
    """
    if not isinstance(model, MusicFlamingoModel):
        return model.get_audio_features(features, mask).pooler_output
    tokens = int(model.audio_tower._get_feat_extract_output_lengths(mask.sum(-1))[1].sum())
    prompt = torch.full((1, tokens), model.config.audio_token_id)
    return model.get_audio_features(features, mask, input_ids=prompt).pooler_output


def relative_error(values: np.ndarray, reference: np.ndarray) -> float:
    """‖values - reference‖ / ‖reference‖."""
    return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))


def probe(seconds: float) -> np.ndarray:
    """Make a voice-like sound, float32 [n]: gliding harmonics in syllables, near-silent pauses, a click, noise.

    It is loud and quiet within one window, so that errors below the loudest mel band show.
    """
    draw = np.random.default_rng(SEED)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time), 0, 1) ** 2
    click = np.exp(-np.abs(time - seconds / 2) * 4000)
    return (0.2 * voice * syllables + 0.5 * click + 1e-4 * draw.standard_normal(len(time))).astype(np.float32)
