"""A conversation and its clips → ids, audio hashes, limits."""

from collections.abc import Iterable

import numpy as np
import pytest

from af3.errors import RequestError
from af3.inputs.audio import clip_token_count
from af3.inputs.chat_messages import Message, from_json, from_prompt
from af3.inputs.prompt import Prompt, PromptBuilder
from tests.support.tiny import LIMITS, MODEL, TOKENIZER, VOCABULARY

SECOND = 16_000


def sound(level: float, seconds: float = 1.0) -> np.ndarray:
    return np.full(int(seconds * SECOND), level, np.float32)


def build(
    messages: list[Message],
    clips: Iterable[np.ndarray] = (),
    max_tokens: int = 1,
    think: bool = False,
    identity: str = "engines",
    **limits: int,
) -> Prompt:
    builder = PromptBuilder(TOKENIZER, MODEL, LIMITS.model_copy(update=limits), identity)
    return builder.build(messages, list(clips), max_tokens, think)


def hashes(prompt: Prompt) -> list[int]:
    """The hashes of the clips, in order."""
    audio = prompt.input_ids >= VOCABULARY
    return list(dict.fromkeys(prompt.extra_ids[audio].tolist()))


def test_text_has_no_hash_and_every_audio_token_has_that_of_its_clip() -> None:
    clips = [sound(0.1), sound(0.2, 2.0)]
    prompt = build(from_prompt("?", 2), clips)
    audio = prompt.input_ids >= VOCABULARY
    counts = [clip_token_count(clip) for clip in clips]
    assert audio.sum() == sum(counts)
    assert (prompt.extra_ids[~audio] == 0).all()
    assert (prompt.extra_ids[audio] > 0).all()
    first, second = hashes(prompt)
    assert prompt.extra_ids[audio].tolist() == [first] * counts[0] + [second] * counts[1]
    assert prompt.extra_ids.dtype == np.uint64 and max(first, second) < 1 << 63


def test_different_clips_never_share_a_hash_in_whatever_request_they_come() -> None:
    clips = [
        sound(0.1),
        sound(0.1, 1.5),
        sound(0.1000001),
        sound(-0.1),
        np.roll(np.r_[sound(0.1), np.float32(0.5)], 1),
        np.r_[sound(0.1), np.float32(0.5)],
    ]
    found = [hashes(build(from_prompt("?", 1), [clip])) for clip in clips]
    assert all(len(one) == 1 for one in found)
    assert len({one[0] for one in found}) == len(clips)


def test_a_clip_keeps_its_hash_in_another_turn_and_place() -> None:
    alone = hashes(build(from_prompt("Why?", 1), [sound(0.3)]))
    beside = hashes(build(from_prompt("What?", 2), [sound(0.7), sound(0.3)]))
    assert alone[0] == beside[1]


def test_other_engines_give_other_hashes() -> None:
    """Their embeddings differ, and a KV cache may outlive a restart."""
    one, other = (
        hashes(build(from_prompt("?", 1), [sound(0.3)], identity=name)) for name in ("fp32", "bf16")
    )
    assert one != other


def test_audio_ids_count_on_over_all_clips() -> None:
    prompt = build(from_prompt("?", 3), [sound(level) for level in (0.1, 0.2, 0.3)])
    audio = prompt.input_ids[prompt.input_ids >= VOCABULARY] - VOCABULARY
    assert audio.tolist() == list(range(3 * clip_token_count(sound(0.1))))


def test_the_ids_between_the_clips_are_those_of_the_chat() -> None:
    chat = '[{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What is this?"}]}]'
    prompt = build(from_json(chat, 1), [sound(0.1)])
    ids = [token for token in prompt.input_ids.tolist() if token < VOCABULARY]
    start, end = TOKENIZER.token_id("<|im_start|>"), TOKENIZER.token_id("<|im_end|>")
    assert ids == [
        *(start, *TOKENIZER.encode(f"system\n{MODEL.default_system_prompt}"), end, *TOKENIZER.encode("\n")),
        # The clip stands between the two texts, so they are encoded apart.
        *(
            start,
            *TOKENIZER.encode("user\n"),
            *TOKENIZER.encode("What is this?"),
            end,
            *TOKENIZER.encode("\n"),
        ),
        *(start, *TOKENIZER.encode("assistant\n")),
    ]


def test_thinking_adds_its_sentence_to_the_question() -> None:
    plain, thinking = (build(from_prompt("Why?", 0), think=think) for think in (False, True))
    assert "think and reason" in TOKENIZER.decode(thinking.input_ids.tolist())
    assert "think and reason" not in TOKENIZER.decode(plain.input_ids.tolist())


def test_audio_tokens_do_not_count_as_text() -> None:
    clips = [sound(0.1, 30.0)]
    text = len(build(from_prompt("?", 0)).input_ids)
    build(from_prompt("?", 1), clips, max_text_tokens=text)
    with pytest.raises(RequestError, match=f"text: {text} tokens, more than the {text - 1}"):
        build(from_prompt("?", 1), clips, max_text_tokens=text - 1)


def test_a_sequence_may_be_filled_to_its_last_token() -> None:
    size = len(build(from_prompt("?", 1), [sound(0.1)]).input_ids)
    build(from_prompt("?", 1), [sound(0.1)], max_tokens=10, max_sequence_tokens=size + 10)
    with pytest.raises(RequestError, match=f"prompt of {size} tokens and max_tokens 11 exceed"):
        build(from_prompt("?", 1), [sound(0.1)], max_tokens=11, max_sequence_tokens=size + 10)


def test_audio_may_fill_its_limit_and_no_more() -> None:
    clips = [sound(0.1, 10.0), sound(0.2, 10.0)]
    tokens = sum(map(clip_token_count, clips))
    build(from_prompt("?", 2), clips, max_audio_tokens=tokens)
    with pytest.raises(RequestError, match=f"are {tokens} audio tokens, more than the {tokens - 1}"):
        build(from_prompt("?", 2), clips, max_audio_tokens=tokens - 1)
