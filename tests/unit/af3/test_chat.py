"""Conversations: what is refused, and where the clips stand."""

import json

import pytest

from af3.errors import RequestError
from af3.inputs import chat_messages

AUDIO = {"type": "audio"}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


REFUSED = {
    "broken JSON": ("[{", 0, "not valid JSON"),
    "no list": ('{"role": "user"}', 0, "messages"),
    "no message": ("[]", 0, "at least 1"),
    "an unknown role": ('[{"role": "boss", "content": "x"}]', 0, r"\[0\].role"),
    "an unknown part": ('[{"role": "user", "content": [{"type": "video"}]}]', 0, r"\[0\].content"),
    "an unknown key": ('[{"role": "user", "content": "x", "name": "y"}]', 0, r"\[0\].name"),
    "a late system message": (
        json.dumps([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]),
        0,
        r"messages\[1\]: a system message",
    ),
    "the assistant last": (json.dumps([{"role": "assistant", "content": "x"}]), 0, "the last one"),
    "audio of the assistant": (
        json.dumps([{"role": "assistant", "content": [AUDIO]}, {"role": "user", "content": "x"}]),
        1,
        r"messages\[0\]: only a user",
    ),
    "audio of the system": (
        json.dumps([{"role": "system", "content": [AUDIO]}, {"role": "user", "content": "x"}]),
        1,
        r"messages\[0\]: only a user message holds audio, not one of system",
    ),
    "257 messages": (json.dumps([{"role": "user", "content": "x"}] * 257), 0, "messages: .* at most 256"),
    "more parts than clips": (json.dumps([{"role": "user", "content": [AUDIO, AUDIO]}]), 1, "2 audio part"),
    "more clips than parts": (json.dumps([{"role": "user", "content": "x"}]), 1, "0 audio part"),
    "deep nesting": ("[" * 100_000, 0, "not valid JSON"),
    "a number beyond Python's": ("[" + "9" * 5_000 + "]", 0, "not valid JSON"),
    "OpenAI's clip": (
        json.dumps([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}]),
        1,
        r"messages\[0\].content\[0\]: a part of type 'input_audio' that brings its clip; send .* in audio",
    ),
    "vLLM's clip": (
        json.dumps([{"role": "user", "content": [text("?"), {"type": "audio_url", "audio_url": {}}]}]),
        1,
        r"messages\[0\].content\[1\]: a part of type 'audio_url'",
    ),
    "Hugging Face's clip": (
        json.dumps([{"role": "user", "content": [{"type": "audio", "path": "a.wav"}]}]),
        1,
        r"messages\[0\].content\[0\]: a part of type 'audio' that brings its clip",
    ),
    "a content of neither kind": ('[{"role": "user", "content": 7}]', 0, r"\[0\].content: .*valid string"),
    "a part without a type": ('[{"role": "user", "content": [{}]}]', 0, r"\[0\].content\[0\]: .*'type'"),
    "a text that is a number": (
        '[{"role": "user", "content": [{"type": "text", "text": 7}]}]',
        0,
        r"\[0\].content\[0\].text: .*valid string",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_conversation_is_refused(name: str) -> None:
    source, clips, cause = REFUSED[name]
    with pytest.raises(RequestError, match=cause) as refused:
        chat_messages.from_json(source, clips)
    assert refused.value.status == "INVALID_ARGUMENT"


def test_a_conversation_may_have_256_messages() -> None:
    assert len(chat_messages.from_json(json.dumps([{"role": "user", "content": "x"}] * 256), 0)) == 256


def test_one_clip_stands_before_its_text_whatever_the_order() -> None:
    messages = chat_messages.from_json(
        json.dumps([{"role": "user", "content": [text("What"), AUDIO, text(" is it?")]}]), 1
    )
    pieces = chat_messages.layout(messages, "Be kind.")
    assert pieces == [
        chat_messages.Control("<|im_start|>"),
        "system\nBe kind.",
        chat_messages.Control("<|im_end|>"),
        "\n",
        chat_messages.Control("<|im_start|>"),
        "user\n",
        chat_messages.ClipPlace(),
        "What is it?",
        chat_messages.Control("<|im_end|>"),
        "\n",
        chat_messages.Control("<|im_start|>"),
        "assistant\n",
    ]


def test_several_clips_of_a_message_keep_their_places() -> None:
    messages = chat_messages.from_json(
        json.dumps([{"role": "user", "content": [text("A:"), AUDIO, text("B:"), AUDIO]}]), 2
    )
    body = chat_messages.layout(messages, "")[5:9]
    assert body == ["user\nA:", chat_messages.ClipPlace(), "B:", chat_messages.ClipPlace()]


def test_a_prompt_puts_all_clips_first() -> None:
    (message,) = chat_messages.from_prompt("Compare.", 2)
    assert [part.type for part in message.parts] == ["audio", "audio", "text"]


def test_thinking_is_asked_for_in_the_last_message_only() -> None:
    messages = chat_messages.from_json(
        json.dumps(
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ]
        ),
        0,
    )
    texts = [piece for piece in chat_messages.layout(messages, "s", think=True) if isinstance(piece, str)]
    assert [chat_messages.THINK_SUFFIX in piece for piece in texts].count(True) == 1
    assert f"user\nc{chat_messages.THINK_SUFFIX}" in texts


def test_a_system_message_replaces_the_default_one() -> None:
    messages = chat_messages.from_json(
        json.dumps([{"role": "system", "content": "own"}, {"role": "user", "content": "x"}]), 0
    )
    assert "system\nown" in chat_messages.layout(messages, "default")
    assert "system\ndefault" not in chat_messages.layout(messages, "default")


def test_half_of_a_surrogate_pair_is_refused_where_it_stands() -> None:
    with pytest.raises(RequestError, match=r"messages\[0\]: character 1 of its text"):
        chat_messages.from_json('[{"role": "user", "content": "a\\ud800"}]', 0)


def test_null_is_a_field_that_is_not_there() -> None:
    """Rows of a table, as Hugging Face datasets keep conversations, have every field of every part."""
    parts = [{**AUDIO, "text": None, "path": None}, {**text("What?"), "audio": None}]
    given = [{"role": "user", "content": parts, "name": None}]
    plain = [{"role": "user", "content": [AUDIO, text("What?")]}]
    assert chat_messages.from_json(json.dumps(given), 1) == chat_messages.from_json(json.dumps(plain), 1)


@pytest.mark.parametrize("turn", [{"role": None, "content": "x"}, {"role": "user", "content": None}, None])
def test_null_where_something_is_needed_is_refused(turn: object) -> None:
    with pytest.raises(RequestError, match=r"messages\[0\]"):
        chat_messages.from_json(json.dumps([turn]), 0)
