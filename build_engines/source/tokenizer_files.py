"""Copies the checkpoint's tokenizer and checks that af3/ renders conversations as the checkpoint does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import GenerationConfig, MusicFlamingoProcessor

from af3.inputs import chat_messages
from af3.inputs.audio import SAMPLE_RATE
from af3.inputs.prompt import PromptBuilder
from af3.manifest import Limits, ModelFacts
from af3.tokenizer import Tokenizer
from build_engines.llm.decoder_graph import Shape
from build_engines.source.checkpoint import Checkpoint
from build_engines.source.family import Processor
from build_engines.stage import BuildError, Figures

# Conversations that distinguish chat templates: with and without a system turn, audio and text in either order,
# several texts, several turns, text that other templates would trim, multi-byte letters.
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


# Lengths of the probes' clips: one window, and more than one, because a template may mark where a window begins.
PROBE_SECONDS = (0.3, 31.0)
# Enough for every probe.
PROBE_LIMITS = Limits(
    max_windows_per_clip=2,
    max_audio_tokens=2_000,
    max_text_tokens=2_000,
    max_output_tokens=1,
    max_sequence_tokens=4_000,
    max_batch_size=1,
)
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"


def build(checkpoint: Checkpoint, folder: Path) -> Figures:
    """Copy `tokenizer.json` into `folder`. Raises BuildError when our ids of a probe conversation differ."""
    (folder / "tokenizer.json").write_text(_definition(checkpoint), encoding="utf-8")
    facts = model_facts(checkpoint)
    prompts = PromptBuilder(Tokenizer.load(folder), facts, PROBE_LIMITS, engine_identity="")
    compared = 0
    for probe in PROBES:
        for seconds in PROBE_SECONDS:
            _require_same_ids(
                probe, np.zeros(round(seconds * SAMPLE_RATE), np.float32), checkpoint, prompts, facts
            )
            compared += 1
    return {"conversations_compared": compared}


def _definition(checkpoint: Checkpoint) -> str:
    """tokenizer.json for serving: without padding or truncation, and with audio tokens that text cannot spell."""
    definition = json.loads((checkpoint.folder / "tokenizer.json").read_text(encoding="utf-8"))
    reserved = _audio_tokens(checkpoint.processor)
    for token in definition["added_tokens"]:
        token["special"] = token["special"] or token["content"] in reserved
    return json.dumps(definition | {"padding": None, "truncation": None}, ensure_ascii=False)


def model_facts(checkpoint: Checkpoint) -> ModelFacts:
    """The model's sizes and control tokens for the manifest."""
    shape = Shape.of(checkpoint.text_config)
    processor = checkpoint.processor
    tokenizer = Tokenizer(_definition(checkpoint))
    stop_ids = _stop_token_ids(checkpoint)
    pad_id = checkpoint.text_config.pad_token_id
    begin, end = _clip_boundary(processor)
    return ModelFacts(
        hidden_size=shape.hidden,
        vocab_size=shape.vocabulary,
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        audio_token_id=tokenizer.token_id(processor.audio_token),
        clip_begin_ids=tuple(map(tokenizer.token_id, begin)),
        clip_end_ids=tuple(map(tokenizer.token_id, end)),
        im_start_id=tokenizer.token_id(TURN_START),
        im_end_id=tokenizer.token_id(TURN_END),
        stop_token_ids=stop_ids,
        pad_token_id=stop_ids[-1] if pad_id is None else pad_id,
        rotates_by_time=checkpoint.family.rotates_by_time,
        default_system_prompt=_default_system_prompt(processor),
    )


def _clip_boundary(processor: Processor) -> tuple[list[str], list[str]]:
    """The tokens before and after a clip's audio tokens."""
    if isinstance(processor, MusicFlamingoProcessor):
        return [processor.audio_bos_token], [processor.audio_eos_token]
    return [], []


def _audio_tokens(processor: Processor) -> set[str]:
    begin, end = _clip_boundary(processor)
    return {processor.audio_token, *begin, *end}


def _default_system_prompt(processor: Processor) -> str | None:
    """The system prompt that the template adds to a conversation without one; None when it adds none."""
    written = processor.apply_chat_template(PROBES[2], tokenize=False, add_generation_prompt=True)
    begin = f"{TURN_START}system\n"
    return written.removeprefix(begin).partition(TURN_END)[0] if written.startswith(begin) else None


def _stop_token_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Every id that ends an answer: those at which `generate()` stops by default."""
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
    probe: list[dict], clip: np.ndarray, checkpoint: Checkpoint, prompts: PromptBuilder, facts: ModelFacts
) -> None:
    """Compare this server's prompt with that of Transformers' processor, with audio expanded in both."""
    processor = checkpoint.processor
    messages = [chat_messages.Message(**message) for message in probe]
    clips = [clip] * sum(message.clip_count for message in messages)
    text = processor.apply_chat_template(probe, tokenize=False, add_generation_prompt=True)
    # Disable truncation: a tokenizer.json that sets it makes Transformers cut the audio too.
    uncut: dict[str, Any] = {"max_length": None, "truncation": False}
    # The processor wants as many clips as texts, so text without a clip goes to the tokenizer.
    inputs = processor(text=[text], audio=clips, **uncut) if clips else processor.tokenizer([text], **uncut)
    theirs = np.asarray(inputs["input_ids"])[0]
    built = prompts.build(messages, clips, max_tokens=1, think=False).input_ids
    ours = np.where(built < facts.vocab_size, built, facts.audio_token_id)
    if not np.array_equal(ours, theirs):
        shown = (processor.tokenizer.decode(_once(ids, facts.audio_token_id)) for ids in (theirs, ours))
        raise BuildError(
            f"{checkpoint.folder}: its chat template is not Audio Flamingo's: it writes {next(shown)!r} where "
            f"this server would send {next(shown)!r}; give a checkpoint with the template of "
            "nvidia/audio-flamingo-3-hf or nvidia/audio-flamingo-next-hf"
        )


def _once(ids: np.ndarray, token: int) -> np.ndarray:
    """Collapse each run of `token` into one, for an error message."""
    again = (ids[1:] == token) & (ids[:-1] == token)
    return ids[np.append(True, ~again)]
