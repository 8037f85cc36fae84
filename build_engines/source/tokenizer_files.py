"""The checkpoint's tokenizer, and proof that af3/ lays out conversations as the checkpoint does."""

import json
from pathlib import Path

from transformers import AudioFlamingo3Processor, AutoProcessor, GenerationConfig

from af3.inputs import chat_messages
from af3.manifest import ModelFacts
from af3.tokenizer import Tokenizer
from build_engines.llm.decoder_graph import Shape
from build_engines.source.checkpoint import Checkpoint
from build_engines.stage import BuildError, Figures

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."

# What tells one chat template from another: with and without a system turn, audio and text in either order,
# several texts, several turns, text that other templates would trim, letters of several bytes.
PROBES: tuple[list[dict], ...] = (
    [{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What do you hear?"}]}],
    [{"role": "user", "content": [{"type": "text", "text": " Déjà vu?\n"}, {"type": "audio"}]}],
    [{"role": "user", "content": [{"type": "text", "text": "Who sings 12 songs"}]}],
    [
        {"role": "system", "content": [{"type": "text", "text": "Answer briefly."}]},
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "Is it"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes, it's 音楽."}]},
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "then?"}]},
    ],
)


def build(checkpoint: Checkpoint, folder: Path) -> Figures:
    """Copy `tokenizer.json` into `folder`; BuildError when a probe conversation gets other ids than ours."""
    text = (checkpoint.folder / "tokenizer.json").read_text(encoding="utf-8")
    definition = json.loads(text) | {"padding": None, "truncation": None}  # a server never wants either
    (folder / "tokenizer.json").write_text(json.dumps(definition, ensure_ascii=False), encoding="utf-8")
    processor = AutoProcessor.from_pretrained(checkpoint.folder)
    tokenizer = Tokenizer.load(folder)
    for probe in PROBES:
        _require_same_ids(probe, processor, tokenizer, checkpoint)
    return {"conversations_compared": len(PROBES)}


def model_facts(checkpoint: Checkpoint) -> ModelFacts:
    """What the manifest says of the model: sizes and control tokens."""
    config = checkpoint.config
    shape = Shape.of(checkpoint.text_config)
    tokenizer = Tokenizer.load(checkpoint.folder)
    stop_ids = _stop_token_ids(checkpoint)
    pad_id = checkpoint.text_config.pad_token_id
    return ModelFacts(
        hidden_size=shape.hidden,
        vocab_size=shape.vocabulary,
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        audio_token_id=config.audio_token_id,
        im_start_id=tokenizer.token_id("<|im_start|>"),
        im_end_id=tokenizer.token_id("<|im_end|>"),
        stop_token_ids=stop_ids,
        pad_token_id=stop_ids[-1] if pad_id is None else pad_id,
        default_system_prompt=DEFAULT_SYSTEM_PROMPT,
    )


def _stop_token_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Every id that ends an answer: what `generate()` stops at by default."""
    path = checkpoint.folder / "generation_config.json"
    found = GenerationConfig.from_pretrained(checkpoint.folder).eos_token_id if path.exists() else None
    if found is None:
        found = checkpoint.text_config.eos_token_id
    if found is None:
        raise BuildError(
            f"{checkpoint.folder}: neither generation_config.json nor config.json has an eos_token_id"
        )
    return tuple(found) if isinstance(found, list) else (found,)


def _require_same_ids(
    probe: list[dict], processor: AudioFlamingo3Processor, tokenizer: Tokenizer, checkpoint: Checkpoint
) -> None:
    theirs = processor.apply_chat_template(probe, tokenize=False, add_generation_prompt=True)
    their_ids = processor.tokenizer(theirs, add_special_tokens=False).input_ids
    our_ids: list[int] = []
    for piece in chat_messages.layout(
        [chat_messages.Message(**message) for message in probe], DEFAULT_SYSTEM_PROMPT
    ):
        if isinstance(piece, str):
            our_ids += tokenizer.encode(piece)
        elif isinstance(piece, chat_messages.Control):
            our_ids.append(tokenizer.token_id(piece.token))
        else:
            our_ids.append(checkpoint.config.audio_token_id)
    if our_ids != their_ids:
        ours = processor.tokenizer.decode(our_ids)
        raise BuildError(
            f"{checkpoint.folder}: its chat template is not Audio Flamingo 3's: it writes {theirs!r} where "
            f"this server would send {ours!r}; give a checkpoint with the template of "
            "nvidia/audio-flamingo-3-hf"
        )
