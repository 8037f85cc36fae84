"""af3-tiny's size, and the forward pass it is trained with.

The modules are Transformers' own. Only the way through them differs: windows are fed as long as they are instead
of padded to 30 s, and the audio embeddings are spliced by position, so that a conversation can hold several clips.
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
    Qwen2Config,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

VOCABULARY = 1024  # the tokenizer's 1004, rounded up
ENCODER_POSITIONS = 1500


def config(audio_token_id: int, end_id: int, pad_id: int) -> AudioFlamingo3Config:
    """4.6 M parameters with the head size (64) of the real encoder."""
    audio = AudioFlamingo3EncoderConfig(
        num_mel_bins=128,
        num_hidden_layers=5,
        num_attention_heads=3,
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


def _sinusoids(positions: int, width: int) -> Tensor:
    """Whisper's fixed positions: Transformers does not initialise AF3's, which are frozen."""
    scale = torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(positions)[:, None] * scale
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def fresh(settings: AudioFlamingo3Config, seed: int) -> AudioFlamingo3ForConditionalGeneration:
    torch.manual_seed(seed)
    model = AudioFlamingo3ForConditionalGeneration(settings)
    positions = model.model.audio_tower.embed_positions.weight
    positions.data.copy_(_sinusoids(*positions.shape))
    return model


def _low_precision_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float = 1.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention whose scores and softmax stay in autocast's dtype.

    Twice as fast as "eager" (which goes to float32 and back) on a CPU with bfloat16 instructions, and as fast in
    the backward pass as torch's fused attention is slow there.
    """
    key, value = (x.expand(-1, query.shape[1], -1, -1) for x in (key, value))
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    with torch.autocast("cpu", enabled=False):
        weights = torch.softmax(scores + mask.to(scores.dtype), dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def use_training_attention(model: AudioFlamingo3ForConditionalGeneration) -> None:
    ALL_ATTENTION_FUNCTIONS.register("low_precision", _low_precision_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register("low_precision", eager_mask)
    model.set_attn_implementation("low_precision")


@dataclass(frozen=True)
class Batch:
    """Conversations padded on the right, and the windows of all their clips.

    mels float32 [W, 128, M]; frames int64 [W] (encoder frames E that are valid); offsets int64 [W] (where in its
    30 s the window is pretended to lie); ids, labels, positions int64 [B, S]; mask bool [B, S].
    ctc_labels int64 [sum]; ctc_lengths int64 [C]; clip_windows int64 [C] (windows of each clip).
    """

    mels: Tensor
    frames: Tensor
    offsets: Tensor
    ids: Tensor
    labels: Tensor
    positions: Tensor
    mask: Tensor
    ctc_labels: Tensor
    ctc_lengths: Tensor
    clip_windows: Tensor


def encode(
    model: AudioFlamingo3ForConditionalGeneration, mels: Tensor, frames: Tensor, offsets: Tensor
) -> Tensor:
    """Encoder output before the projector, [W, E // 2, H]; valid up to frames // 2 in each row.

    The same as AudioFlamingo3Encoder on the padded 3000 frames, on all valid positions (see tests/parity).
    """
    tower = model.model.audio_tower
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
    """The valid positions of all windows, one after the other: [sum(E // 2), H]."""
    return rows[torch.arange(rows.shape[1])[None] < (frames // 2)[:, None]]


def embedded(model: AudioFlamingo3ForConditionalGeneration, ids: Tensor, audio: Tensor) -> Tensor:
    """Token embeddings [B, S, H] with the projected audio rows at the audio tokens, in order."""
    embeds = model.get_input_embeddings()(ids)
    at_audio = ids == model.config.audio_token_id
    return embeds.masked_scatter(at_audio[..., None], audio.to(embeds.dtype))


def ctc_loss(head: nn.Linear, rows: Tensor, batch: Batch) -> Tensor:
    """CTC of each clip's event labels over the 25 Hz encoder rows of all its windows."""
    steps = torch.stack([w.sum() for w in (batch.frames // 2).split(batch.clip_windows.tolist())])
    flat = head(valid(rows, batch.frames)).float().log_softmax(-1)
    padded = nn.utils.rnn.pad_sequence(list(flat.split(steps.tolist())))
    loss = nn.functional.ctc_loss(
        padded, batch.ctc_labels, steps, batch.ctc_lengths, reduction="sum", zero_infinity=True
    )
    return loss / batch.ctc_lengths.sum().clamp(min=1)


def answer_logits(
    model: AudioFlamingo3ForConditionalGeneration, rows: Tensor, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Logits [N, V] before each trained token, and those tokens [N]."""
    audio = model.model.multi_modal_projector(valid(rows, batch.frames))
    hidden = model.model.language_model(
        inputs_embeds=embedded(model, batch.ids, audio),
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    targets = batch.labels[:, 1:]
    trained = targets >= 0
    return model.lm_head(hidden[:, :-1][trained]), targets[trained]
