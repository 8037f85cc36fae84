"""A tiny seeded random Audio Flamingo: python -m training.random_model OUT [--family af3|next] [--seed N].

Its answers mean nothing, but it has every part of the real model (log-mel, AF-Whisper, adaptor, Qwen2, ChatML
tokenizer and template), loads into stock Transformers, and answers different audio differently. The exactness tests
use it, and `make engines` builds it in seconds. The same seed gives the same weights. `af3` is Audio Flamingo 3;
`next` is the class of Audio Flamingo Next and Music Flamingo: rotary time embeddings, tokens around each clip, a
system prompt of its own, longer limits and a larger rope_theta.
"""

import argparse
import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GenerationConfig,
    MusicFlamingoConfig,
    MusicFlamingoForConditionalGeneration,
    MusicFlamingoProcessor,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
)

from build_engines.source.chat_template import CHAT_TEMPLATE

END_OF_TEXT, TURN_START, TURN_END, SOUND = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>"
SOUND_BEGIN, SOUND_END = "<|sound_bos|>", "<|sound_eos|>"
SPECIAL_TOKENS = {
    "af3": (END_OF_TEXT, TURN_START, TURN_END, SOUND),
    # Deliberately not in the order of the ids that Transformers' class assumes.
    "next": (END_OF_TEXT, TURN_START, TURN_END, SOUND_END, SOUND, SOUND_BEGIN),
}
SYSTEM_PROMPT = {
    "af3": "You are a helpful assistant.",
    "next": "You listen to speech, music and sounds—whatever they are called—and help with any task.",
}
# Positions and rope_theta of the language model.
REACH = {"af3": (32_768, 1_000_000.0), "next": (131_072, 15_300_000.0)}
SECONDS_OF_A_CLIP = 1800

Family = Literal["af3", "next"]
Processor = AudioFlamingo3Processor | MusicFlamingoProcessor
Model = AudioFlamingo3ForConditionalGeneration | MusicFlamingoForConditionalGeneration

# Qwen2 splits text like this before byte-pair merges: contractions, words, single digits, punctuation, newlines.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Enough English that the byte-pair merges give multi-byte tokens. The content does not matter.
CORPUS = (
    "The spoken content of the audio is a question about the weather in the morning.",
    "What do you hear in this clip? I hear a dog that barks twice and then a door.",
    "The music is played on a piano, slowly at first and then with more and more strength.",
    "Describe the sounds you hear and count how often the bell is struck.",
)


def random_processor(family: Family = "af3") -> Processor:
    """Build a processor: Whisper's 128-bin features and a byte-level BPE tokenizer of about 400 tokens."""
    special = SPECIAL_TOKENS[family]
    template = CHAT_TEMPLATE.replace("@", SYSTEM_PROMPT[family])
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
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    parts: dict[str, Any] = {
        "feature_extractor": WhisperFeatureExtractor(feature_size=128, return_attention_mask=True),
        "tokenizer": PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token=TURN_END,
            pad_token=END_OF_TEXT,
            additional_special_tokens=[token for token in special if token not in (END_OF_TEXT, TURN_END)],
            chat_template=template,
        ),
        "chat_template": template,
    }
    if family == "next":
        return MusicFlamingoProcessor(**parts, max_audio_len=SECONDS_OF_A_CLIP)
    return AudioFlamingo3Processor(**parts)


def random_model(processor: Processor, seed: int) -> Model:
    """Build an fp32 model with two layers each of AF-Whisper and Qwen2; `seed` draws the weights."""
    family: Family = "next" if isinstance(processor, MusicFlamingoProcessor) else "af3"
    tokenizer = processor.tokenizer
    end_of_text, turn_end = (tokenizer.convert_tokens_to_ids(token) for token in (END_OF_TEXT, TURN_END))
    positions, rope_theta = REACH[family]
    sizes: dict[str, Any] = {
        "audio_token_id": processor.audio_token_id,
        "audio_config": {
            "model_type": "audioflamingo3_encoder",
            "hidden_size": 128 if family == "af3" else 160,  # RoTE rotates 64 of them
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 256,
        },
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": 8 * math.ceil((len(tokenizer) + 1) / 8),  # padded past the tokenizer, as AF3's is
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 256,
            "max_position_embeddings": positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta},
            "tie_word_embeddings": False,
            "bos_token_id": end_of_text,
            "eos_token_id": turn_end,
            "pad_token_id": end_of_text,
        },
    }
    torch.manual_seed(seed)
    model = _build(sizes, processor).eval()
    _draw_weights(model)
    unanswered = [token for token in SPECIAL_TOKENS[family] if token != TURN_END]
    never_answered = [
        *range(len(tokenizer), sizes["text_config"]["vocab_size"]),
        *tokenizer.convert_tokens_to_ids(unanswered),
    ]
    with torch.no_grad():
        model.lm_head.weight[never_answered] = 0
    model.generation_config = GenerationConfig(eos_token_id=[turn_end, end_of_text], pad_token_id=end_of_text)
    return model


def _build(sizes: dict[str, Any], processor: Processor) -> Model:
    if not isinstance(processor, MusicFlamingoProcessor):
        return AudioFlamingo3ForConditionalGeneration(AudioFlamingo3Config(**sizes))
    config = MusicFlamingoConfig(
        **sizes,
        audio_bos_token_id=processor.audio_bos_token_id,
        audio_eos_token_id=processor.audio_eos_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 1200.0, "partial_rotary_factor": 0.2},
    )
    return MusicFlamingoForConditionalGeneration(config)


@torch.no_grad()
def _draw_weights(model: Model) -> None:
    """Draw weights so wide that attention is not uniform and the answer depends on the whole prompt.

    With the usual 0.02 every softmax is flat and every greedy answer repeats one token.
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
        layer.self_attn.o_proj.weight.mul_(4)  # else the previous token alone decides the next one
    model.lm_head.weight.mul_(4)
    tower = model.model.audio_tower
    tower.embed_positions.weight.copy_(sinusoids(*tower.embed_positions.weight.shape))
    model.model.multi_modal_projector.linear_2.weight.mul_(3)


def sinusoids(positions: int, channels: int) -> torch.Tensor:
    """Whisper's position table, float32 [positions, channels]; AF3's initialisation leaves it random."""
    rates = torch.exp(-math.log(10000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def save(folder: Path, seed: int, family: Family = "af3") -> None:
    """Write model, processor and generation settings to `folder`, readable by everyone."""
    processor = random_processor(family)
    random_model(processor, seed).save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # Transformers writes the weights 0600, which a non-root container cannot read


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.random_model", description=__doc__.splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--family", choices=get_args(Family), default="af3")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    save(arguments.out, arguments.seed, arguments.family)


if __name__ == "__main__":
    main()
