"""A tiny seeded random Audio Flamingo 3: python -m training.random_model OUT [--seed N].

It says nothing sensible, but it has every part of the real model (log-mel, AF-Whisper, adaptor, Qwen2, ChatML
tokenizer and template), loads into stock Transformers, and answers differently to different audio. So it is
what exactness is tested with, and what `make engines` builds from in seconds. The same seed gives the same
weights.
"""

import argparse
import math
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
)

END_OF_TEXT, TURN_START, TURN_END, SOUND = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, SOUND)

# Qwen2's cut of text before byte-pair merges: contractions, words, single digits, punctuation, newlines.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# A turn of several parts becomes one <sound> (if it has audio) and then its texts joined, whatever their
# order: what the template of nvidia/audio-flamingo-3-hf does. A conversation without a system turn gets a
# default one.
CHAT_TEMPLATE = """\
{%- macro turn(role, body) -%}
{{ '<|im_start|>' ~ role ~ '\\n' ~ body ~ '<|im_end|>\\n' }}
{%- endmacro -%}
{%- if messages[0].role != 'system' -%}
{{ turn('system', 'You are a helpful assistant.') }}
{%- endif -%}
{%- for message in messages if message.content is not none -%}
{%- if message.content is string -%}
{{ turn(message.role, message.content) }}
{%- else -%}
{%- set part = namespace(sound='', text='') -%}
{%- for item in message.content -%}
{%- if item.type == 'audio' or 'audio' in item -%}
{%- set part.sound = '<sound>' -%}
{%- elif item.type == 'text' or 'text' in item -%}
{%- set part.text = part.text ~ item.text -%}
{%- endif -%}
{%- endfor -%}
{{ turn(message.role, part.sound ~ part.text) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

# Enough English for the byte-pair merges to give multi-byte tokens; its content does not matter.
CORPUS = (
    "The spoken content of the audio is a question about the weather in the morning.",
    "What do you hear in this clip? I hear a dog that barks twice and then a door.",
    "The music is played on a piano, slowly at first and then with more and more strength.",
    "Describe the sounds you hear and count how often the bell is struck.",
)


def random_processor() -> AudioFlamingo3Processor:
    """Whisper's 128-bin features and a byte-level BPE tokenizer of some 400 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return AudioFlamingo3Processor(
        feature_extractor=WhisperFeatureExtractor(feature_size=128, return_attention_mask=True),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token=TURN_END,
            pad_token=END_OF_TEXT,
            additional_special_tokens=[TURN_START, SOUND],
            chat_template=CHAT_TEMPLATE,
        ),
        chat_template=CHAT_TEMPLATE,
    )


def random_model(processor: AudioFlamingo3Processor, seed: int) -> AudioFlamingo3ForConditionalGeneration:
    """Two layers each of AF-Whisper and Qwen2, fp32, with weights drawn from `seed`."""
    tokenizer = processor.tokenizer
    end_of_text, turn_end = (tokenizer.convert_tokens_to_ids(token) for token in (END_OF_TEXT, TURN_END))
    config = AudioFlamingo3Config(
        audio_token_id=processor.audio_token_id,
        audio_config={
            "model_type": "audioflamingo3_encoder",
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 256,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": 8 * math.ceil((len(tokenizer) + 1) / 8),  # padded past the tokenizer, as AF3's is
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 256,
            "max_position_embeddings": 32768,  # ten minutes are 15 000 audio tokens
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "tie_word_embeddings": False,
            "bos_token_id": end_of_text,
            "eos_token_id": turn_end,
            "pad_token_id": end_of_text,
        },
    )
    torch.manual_seed(seed)
    model = AudioFlamingo3ForConditionalGeneration(config).eval()
    _draw_weights(model)
    never_answered = [
        *range(len(tokenizer), config.text_config.vocab_size),
        end_of_text,
        processor.audio_token_id,
    ]
    never_answered.append(tokenizer.convert_tokens_to_ids(TURN_START))
    with torch.no_grad():
        model.lm_head.weight[never_answered] = 0
    model.generation_config = GenerationConfig(eos_token_id=[turn_end, end_of_text], pad_token_id=end_of_text)
    return model


@torch.no_grad()
def _draw_weights(model: AudioFlamingo3ForConditionalGeneration) -> None:
    """Weights wide enough that attention is not uniform and the answer depends on the whole prompt.

    With the usual 0.02 every softmax is flat and every greedy answer is one token repeated.
    """
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            fan_in = weight[0].numel()
            sharpen = 2.0 if ".q_proj." in name or ".k_proj." in name else 1.0
            weight.normal_(0, sharpen / math.sqrt(fan_in))
        elif name.endswith("bias"):
            weight.normal_(0, 0.1)
        else:
            weight.normal_(1, 0.1)  # norms
    for layer in model.model.language_model.layers:
        layer.self_attn.o_proj.weight.mul_(4)  # what was heard, not only the previous token, picks the next
    model.lm_head.weight.mul_(4)
    tower = model.model.audio_tower
    tower.embed_positions.weight.copy_(sinusoids(*tower.embed_positions.weight.shape))
    model.model.multi_modal_projector.linear_2.weight.mul_(3)


def sinusoids(positions: int, channels: int) -> torch.Tensor:
    """Whisper's position table, float32 [positions, channels], which AF3's initialisation leaves random."""
    rates = torch.exp(-math.log(10000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def save(folder: Path, seed: int) -> None:
    """Write model, processor and generation settings to `folder`, readable by everyone."""
    processor = random_processor()
    random_model(processor, seed).save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # Transformers writes the weights 0600, which a non-root container cannot read


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.random_model", description=__doc__.splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    save(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
