"""The size of af3-tiny and the forward pass of its training.

The modules are Transformers' own; only the forward pass differs. Windows are not padded to 30 s, and audio embeddings
are spliced in by position, so a conversation can hold several clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3EncoderConfig,
    AudioFlamingo3ForConditionalGeneration,
    PreTrainedModel,
    Qwen2Config,
)

VOCABULARY = 1088  # the tokenizer's 1004 and the labels that are no single token of it
_CPU = torch.cpu.get_capabilities()
IN_BFLOAT16 = any(_CPU.get(name, False) for name in ("amx_bf16", "avx512_bf16"))  # elsewhere it is not faster
ENCODER_POSITIONS = 1500
SHARPNESS = 16.0  # of CTC: log odds of a label against another, in the middle of its embedding
ASTRAY_WEIGHT = 0.3  # weight of the distance from the nearest label in the loss, beside CTC
READ_NOISE = 0.3  # noise on label tokens, in standard deviations of an embedding
READ_BLEND = 0.4  # at most this share of a label token is the one before it


def config(audio_token_id: int, end_id: int, pad_id: int) -> AudioFlamingo3Config:
    """The configuration of af3-tiny: 4.3 M parameters."""
    audio = AudioFlamingo3EncoderConfig(
        num_mel_bins=128,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=768,
        hidden_size=192,
        initializer_range=0.05,
    )
    text = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=16384,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=end_id,
        pad_token_id=pad_id,
    )
    return AudioFlamingo3Config(
        audio_config=audio, text_config=text, audio_token_id=audio_token_id, initializer_range=0.05
    )


def _fast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=IN_BFLOAT16)


def _attend(part: PreTrainedModel, length: int) -> None:
    """Choose the attention: on a CPU the backward pass of fused attention is slow, that of eager attention slower
    still for long sequences."""
    part.set_attn_implementation("sdpa" if length > 300 else "eager")


def _sinusoids(positions: int, width: int) -> Tensor:
    """Whisper's fixed position table; Transformers leaves AF3's frozen one uninitialised."""
    scale = torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(positions)[:, None] * scale
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def fresh(settings: AudioFlamingo3Config, seed: int) -> AudioFlamingo3ForConditionalGeneration:
    torch.manual_seed(seed)
    model = AudioFlamingo3ForConditionalGeneration(settings)
    positions = model.model.audio_tower.embed_positions.weight
    positions.data.copy_(_sinusoids(*positions.shape))
    return model


@dataclass(frozen=True)
class Batch:
    """Conversations padded on the right, and the windows of all their clips.

    `read` is true where `ids` holds label tokens in place of a clip's audio or of the silence around it.

    mels float32 [W, 128, M]; frames int64 [W] (valid encoder frames E); offsets int64 [W] (first encoder position of
    the window); ids, labels, positions int64 [B, S]; mask, read bool [B, S].
    ctc_labels int64 [sum]; ctc_lengths int64 [C]; clip_windows int64 [C] (windows of each clip).
    """

    mels: Tensor
    frames: Tensor
    offsets: Tensor
    ids: Tensor
    labels: Tensor
    positions: Tensor
    mask: Tensor
    read: Tensor
    ctc_labels: Tensor
    ctc_lengths: Tensor
    clip_windows: Tensor

    @property
    def heard(self) -> bool:
        """Whether any clip is heard: in a batch of text or of clips that are read, none is."""
        return bool(self.ctc_lengths.sum())


def encode(
    model: AudioFlamingo3ForConditionalGeneration, mels: Tensor, frames: Tensor, offsets: Tensor
) -> Tensor:
    """Encode windows: [W, E // 2, H] before the projector, valid up to frames // 2 in each row.

    Equals AudioFlamingo3Encoder on 3000 padded frames at all valid positions (see tests/parity).
    """
    tower = model.model.audio_tower
    _attend(tower, int(frames.max()))
    hidden = nn.functional.gelu(tower.conv1(mels))
    hidden = nn.functional.gelu(tower.conv2(hidden)).transpose(1, 2)
    longest = int(frames.max())
    hidden = hidden[:, :longest]
    places = torch.arange(longest)[None] + offsets[:, None]
    hidden = hidden + tower.embed_positions.weight[places.clamp(max=ENCODER_POSITIONS - 1)]
    beyond = torch.arange(longest)[None] >= frames[:, None]
    mask = torch.zeros(beyond.shape).masked_fill(beyond, torch.finfo(torch.float32).min)[:, None, None]
    for layer in tower.layers:
        hidden = layer(hidden, mask)
    pooled = tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
    return tower.layer_norm(pooled)


def valid(rows: Tensor, frames: Tensor) -> Tensor:
    """Concatenate the valid positions of all windows: [sum(E // 2), H]."""
    return rows[torch.arange(rows.shape[1])[None] < (frames // 2)[:, None]]


def projected(model: AudioFlamingo3ForConditionalGeneration, batch: Batch) -> Tensor:
    """Concatenate the valid audio embeddings of all windows: [sum(E // 2), H of the language model]."""
    with _fast():
        rows = encode(model, batch.mels, batch.frames, batch.offsets)
        return model.model.multi_modal_projector(valid(rows, batch.frames)).float()


def ctc_loss(names: Tensor, audio: Tensor, batch: Batch) -> Tensor:
    """CTC loss of each clip's labels over the audio embeddings of all its windows.

    names: [L + 1, H], the embeddings of "nothing" and of each label. A label's log probability falls with the squared
    distance from its embedding. The distance from the nearest embedding is added to the loss, so that the encoder's
    outputs are embeddings that the language model already knows.
    """
    sharpness = SHARPNESS / torch.cdist(names, names).square().mean()
    distances = audio.square().sum(-1, keepdim=True) - 2 * audio @ names.T + names.square().sum(-1)
    steps = torch.stack([w.sum() for w in (batch.frames // 2).split(batch.clip_windows.tolist())])
    flat = (-sharpness * distances).log_softmax(-1)
    padded = nn.utils.rnn.pad_sequence(list(flat.split(steps.tolist())))
    loss = nn.functional.ctc_loss(
        padded, batch.ctc_labels, steps, batch.ctc_lengths, reduction="sum", zero_infinity=True
    )
    # CTC only compares distances: outputs far from every embedding would satisfy it but not the language model.
    astray = sharpness * distances.min(-1).values.mean()
    return loss / batch.ctc_lengths.sum().clamp(min=1) + ASTRAY_WEIGHT * astray


def answer_logits(
    model: AudioFlamingo3ForConditionalGeneration, batch: Batch, audio: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the logits [N, V] that predict each trained token, and those tokens [N].

    audio: the projected embeddings of the batch's clips; None when label tokens replace all of them. Label embeddings
    get READ_NOISE and READ_BLEND, because an encoder's are not exact either.
    """
    embeds = model.get_input_embeddings()(batch.ids)
    blur = READ_NOISE * embeds.detach().std() * torch.randn_like(embeds)
    share = READ_BLEND * torch.rand(batch.ids.shape)[..., None] * batch.read.roll(1, 1)[..., None]
    blended = (1 - share) * embeds + share * embeds.roll(1, 1)
    embeds = torch.where(batch.read[..., None], blended + blur, embeds)
    if audio is not None:
        at_audio = batch.ids == model.config.audio_token_id
        embeds = embeds.masked_scatter(at_audio[..., None], audio)
    _attend(model.model.language_model, batch.ids.shape[1])
    with _fast():
        hidden = model.model.language_model(
            inputs_embeds=embeds, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state.float()
    targets = batch.labels[:, 1:]
    trained = targets >= 0
    return model.lm_head(hidden[:, :-1][trained]), targets[trained]
