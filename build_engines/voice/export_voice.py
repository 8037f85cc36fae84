"""Exports a VITS checkpoint in Hugging Face format (such as facebook/mms-tts-eng) as a server's neural voice.

Long because one export and the two changes that Transformers' model needs for it.

    make engines VOICE=FOLDER|HUB_ID

There are three ONNX files with one input each. `text.onnx` computes each character's latent means and duration;
`numpy.repeat` repeats the means by their durations (only now is the length of the speech known); `flow.onnx`
transforms them to latents that `decoder.onnx` turns into a waveform, piece by piece (`vits.py`). No shape in a graph
depends on a tensor's values. Both noise scales are 0, so the same text gives the same speech.
"""

import hashlib
import json
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import VitsConfig, VitsModel, VitsTokenizer
from transformers.models.vits import modeling_vits

from af3.speech.built_voice import SETTINGS_FILE, VOICE_FOLDER
from af3.speech.engines.vits import VitsSettings, VitsSynthesizer
from af3.speech.engines.vits_interface import DECODER, FLOW, TEXT
from build_engines.stage import BuildError, Figures, Stage, hash_file, require
from build_engines.voice.hub_voice import hub_folder

OPSET = 20
BOUND = 1e-3  # of the waveform, whose full scale is 1
VERIFIED = ((1, 1.0), (7, 1.0), (60, 1.0), (60, 0.5), (60, 2.0), (200, 1.0))  # characters, rate


def stage(checkpoint: str) -> Stage:
    """The build step; `checkpoint` is a folder or a hub id."""
    folder = _folder(checkpoint)
    files = {path.name: hash_file(path) for path in sorted(folder.glob("*.json")) + [_weights(folder)]}
    return Stage(
        VOICE_FOLDER,
        build=partial(build, folder, Path(checkpoint).name),
        inputs={"checkpoint": hashlib.sha256(json.dumps(files).encode()).hexdigest()},
        code=(sys.modules[__name__],),
        packages=("onnx", "onnxruntime", "torch", "transformers"),
    )


def build(checkpoint: Path, name: str, output: Path) -> Figures:
    """Export, write `voice.json`, compare with Transformers. Raises BuildError for an unsupported checkpoint."""
    model = _load(checkpoint)
    settings = _settings(VitsTokenizer.from_pretrained(checkpoint), model.config, name)
    plain = _exportable(_load(checkpoint))
    with torch.no_grad(), _spline_without_selection(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shape checks inside Transformers
        latents = torch.zeros(1, model.config.flow_size, 50)
        _export(Text(plain), torch.ones(1, 9, dtype=torch.long), output / f"{TEXT}.onnx", _TEXT)
        _export(Flow(plain), latents, output / f"{FLOW}.onnx", _FLOW)
        _export(Decoder(plain), latents, output / f"{DECODER}.onnx", _DECODER)
    (output / SETTINGS_FILE).write_text(
        json.dumps(asdict(settings), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    return verify(model, output)


def verify(model: VitsModel, folder: Path) -> Figures:
    """Compare the voice in `folder` with `model`, whose noise scales are 0, on random characters."""
    synthesizer = VitsSynthesizer.load(folder)
    generator = np.random.default_rng(0)
    worst = 0.0
    for length, rate in VERIFIED:
        ids = generator.integers(0, model.config.vocab_size, (1, length))
        speed = model.config.speaking_rate * rate
        with torch.no_grad():
            expected = model(torch.from_numpy(ids), speaking_rate=speed).waveform[0].numpy()
        found = np.concatenate(list(synthesizer.waveform(ids, speed)))
        if found.shape != expected.shape:
            raise BuildError(
                f"the voice speaks {length} characters in {len(found)} samples, VitsModel in {len(expected)}"
            )
        worst = max(worst, float(np.abs(found - expected).max()))
    require("waveform, largest difference", worst, BOUND)
    return {"waveform_difference": worst}


class Text(nn.Module):
    """input_ids int64 [1, n] → means float32 [1, n, flow_size], frames float32 [1, n] at rate 1."""

    def __init__(self, model: VitsModel) -> None:
        super().__init__()
        self.text_encoder = model.text_encoder
        self.duration_predictor = model.duration_predictor
        self.stochastic = model.config.use_stochastic_duration_prediction

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.ones_like(input_ids).unsqueeze(-1).float()
        encoded = self.text_encoder(input_ids=input_ids, padding_mask=mask)
        hidden, mask = encoded.last_hidden_state.transpose(1, 2), mask.transpose(1, 2)
        if self.stochastic:
            log_duration = self.duration_predictor(hidden, mask, None, reverse=True, noise_scale=0.0)
        else:
            log_duration = self.duration_predictor(hidden, mask, None)
        return encoded.prior_means, torch.exp(log_duration)[:, 0]


class Flow(nn.Module):
    """latents float32 [1, flow_size, frames] → the decoder's latents of the same shape."""

    def __init__(self, model: VitsModel) -> None:
        super().__init__()
        self.flow = model.flow

    def forward(self, latents: Tensor) -> Tensor:
        flowed: Tensor = self.flow(latents, torch.ones_like(latents[:, :1]), None, reverse=True)
        return flowed


class Decoder(nn.Module):
    """latents float32 [1, flow_size, frames] → waveform float32 [1, samples]."""

    def __init__(self, model: VitsModel) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, latents: Tensor) -> Tensor:
        waveform: Tensor = self.decoder(latents, None)
        return waveform.squeeze(1)


class WaveNet(nn.Module):
    """`VitsWaveNet` for one speaker and one sequence: without conditioning or mask.

    Transformers adds zeros for missing conditioning; TensorRT mistakes them for a convolution's bias and fails.
    """

    def __init__(self, source: modeling_vits.VitsWaveNet) -> None:
        super().__init__()
        self.width: int = source.hidden_size
        self.in_layers, self.out_layers = source.in_layers, source.res_skip_layers

    def forward(self, hidden: Tensor, *_: object) -> Tensor:
        skipped: list[Tensor] = []
        for into, out in zip(self.in_layers, self.out_layers, strict=True):
            content, gate = into(hidden).split(self.width, dim=1)
            *residual, skip = out(content.tanh() * gate.sigmoid()).split(self.width, dim=1)
            skipped.append(skip)
            hidden = hidden + residual[0] if residual else hidden
        return torch.stack(skipped).sum(0)


class RelativeAttention(nn.Module):
    """`VitsAttention` for one sequence of any length.

    Transformers pads and reshapes by the length as a Python number, which a traced graph would freeze. This gathers
    the 2w + 1 relative positions instead.
    """

    def __init__(self, attention: modeling_vits.VitsAttention) -> None:
        super().__init__()
        self.attention = attention
        self.window = attention.window_size

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        own = self.attention
        heads, width = own.num_heads, own.head_dim
        query, key, value = (
            projection(hidden_states)[0].unflatten(-1, (heads, width)).transpose(0, 1)
            for projection in (own.q_proj, own.k_proj, own.v_proj)
        )
        query = query * own.scaling
        places = torch.arange(hidden_states.shape[1])
        offset = places[None, :] - places[:, None] + self.window  # [n, n]; 0 … 2w are inside the window
        inside = ((offset >= 0) & (offset <= 2 * self.window)).float()
        column = offset.clamp(0, 2 * self.window).expand(heads, -1, -1)
        bias = torch.gather(query @ own.emb_rel_k[0].T, 2, column) * inside
        weights = torch.softmax(query @ key.transpose(1, 2) + bias, dim=-1)

        around = places[:, None] + torch.arange(2 * self.window + 1)[None, :] - self.window  # [n, 2w + 1]
        exists = ((around >= 0) & (around < hidden_states.shape[1])).float()
        row = torch.minimum(around.clamp(min=0), places[-1]).expand(heads, -1, -1)
        relative = torch.gather(weights, 2, row) * exists
        mixed = weights @ value + relative @ own.emb_rel_v[0]
        return own.out_proj(mixed.transpose(0, 1).flatten(1)[None]), None


@contextmanager
def _spline_without_selection() -> Iterator[None]:
    """Apply the duration predictor's spline to all values, then replace those outside its range.

    Transformers first selects the values inside, which makes the shape depend on them.
    """
    transformers_own: Any = modeling_vits
    original = transformers_own._unconstrained_rational_quadratic_spline

    def everywhere(
        inputs: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, reverse: bool, tail_bound: float
    ) -> tuple[Tensor, Tensor]:
        edge = float(np.log(np.exp(1 - 1e-3) - 1))
        derivatives = nn.functional.pad(derivatives, (1, 1), value=edge)
        inner, log_determinant = modeling_vits._rational_quadratic_spline(
            inputs.clamp(-tail_bound, tail_bound),
            widths,
            heights,
            derivatives,
            reverse,
            tail_bound,
            min_bin_width=1e-3,
            min_bin_height=1e-3,
            min_derivative=1e-3,
        )
        return torch.where(inputs.abs() <= tail_bound, inner, inputs), log_determinant

    transformers_own._unconstrained_rational_quadratic_spline = everywhere
    try:
        yield
    finally:
        transformers_own._unconstrained_rational_quadratic_spline = original


def _load(checkpoint: Path) -> VitsModel:
    """Load Transformers' model with noise scales of 0."""
    model = VitsModel.from_pretrained(checkpoint, noise_scale=0.0, noise_scale_duration=0.0).eval()
    model.noise_scale = model.noise_scale_duration = 0.0
    return model


def _exportable(model: VitsModel) -> VitsModel:
    """Change `model` in place for the export: attention without selections, a WaveNet without conditioning, and plain
    weights instead of weight norm (which the graph would multiply out for every sentence).
    """
    layers: Any = model.text_encoder.encoder.layers
    for layer in layers:
        layer.attention = RelativeAttention(layer.attention)
    flows: Any = model.flow.flows
    for flow in flows:
        flow.wavenet = WaveNet(flow.wavenet)
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return model


_TEXT = {"input_ids": {1: "n"}, "means": {1: "n"}, "frames": {1: "n"}}
_FLOW = {"latents": {2: "frames"}, "flowed": {2: "frames"}}
_DECODER = {"latents": {2: "frames"}, "waveform": {1: "samples"}}


def _export(module: nn.Module, example: Tensor, path: Path, axes: dict[str, dict[int, str]]) -> None:
    first, *outputs = axes
    torch.onnx.export(
        module.eval(),
        (example,),
        str(path),
        input_names=[first],
        output_names=outputs,
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )


def _settings(tokenizer: VitsTokenizer, config: VitsConfig, name: str) -> VitsSettings:
    if tokenizer.is_uroman or tokenizer.phonemize:
        needed = "uroman" if tokenizer.is_uroman else "a phonemizer"
        raise BuildError(f"VOICE={name}: its text must first pass through {needed}, which is not supported")
    if config.num_speakers > 1:
        raise BuildError(f"VOICE={name}: it has {config.num_speakers} speakers; only one is supported")
    vocabulary = {token: index for token, index in tokenizer.get_vocab().items() if len(token) == 1}
    return VitsSettings(
        name=name,
        sample_rate=config.sampling_rate,
        speaking_rate=config.speaking_rate,
        vocabulary=vocabulary,
        blank_id=0 if tokenizer.add_blank else None,
        lower_case=tokenizer.normalize,
        hop=math.prod(config.upsample_rates),
        context_frames=context_frames(config),
        language=tokenizer.language or "eng",
    )


def context_frames(config: VitsConfig) -> int:
    """Compute how many frames before and after its own a sample of HiFi-GAN depends on.

    The first and last convolutions reach 3 steps to either side, an upsampling 1 step, and a residual block of kernel k
    and dilations d, each followed by an undilated convolution, (k - 1) / 2 · Σ(d + 1) steps. A step gets shorter with
    each upsampling.
    """
    widest = max(
        (kernel - 1) // 2 * sum(dilation + 1 for dilation in dilations)
        for kernel, dilations in zip(
            config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
        )
    )
    reach, steps_per_frame = 3.0, 1
    for factor in config.upsample_rates:
        reach += 1 / steps_per_frame
        steps_per_frame *= factor
        reach += widest / steps_per_frame
    return math.ceil(reach + 3 / steps_per_frame)


def _folder(checkpoint: str) -> Path:
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    return hub_folder(checkpoint, ["*.json", "*.safetensors"], "VOICE= also takes a folder")


def _weights(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise BuildError(f"VOICE={folder}: no model.safetensors in it")
    return path
