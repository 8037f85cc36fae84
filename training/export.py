"""Writes trained weights as a folder that Transformers loads: model, processor, tokenizer, generation config."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GenerationConfig,
    PreTrainedTokenizerBase,
    WhisperFeatureExtractor,
)

MAX_NEW_TOKENS = 64

# ChatML with a default system prompt; the one clip of a message comes before its texts.
CHAT_TEMPLATE = """\
{%- if not messages or messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- if message['content'] | selectattr('type', 'equalto', 'audio') | list -%}{{ '<sound>' }}{%- endif -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""


def processor(tokenizer: PreTrainedTokenizerBase) -> AudioFlamingo3Processor:
    return AudioFlamingo3Processor(
        feature_extractor=WhisperFeatureExtractor(feature_size=128, return_attention_mask=True),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def save(
    model: AudioFlamingo3ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write the checkpoint with bfloat16 weights; `model` itself does not change."""
    half = AudioFlamingo3ForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half = half.to(torch.bfloat16)
    half.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    half.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    processor(tokenizer).save_pretrained(folder)
