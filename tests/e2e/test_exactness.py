"""Through the server, greedy token ids are those of Transformers' `generate()` on the same checkpoint."""

from functools import partial
from pathlib import Path

import pytest
import torch

from tests.support import transformers_audio
from tests.support.clips import clip, file_bytes, saved, sound
from tests.support.company import assert_eight_are_answered_as_alone
from tests.support.oracle import Oracle
from tests.support.wire import ask, ids_of, text_of

QUESTION = "What do you hear in this clip?"
TOKENS = 48

FILES = {
    "0.5 s": ("a.wav", partial(clip, 0.5, seed=1)),
    "3.3 s": ("b.wav", partial(clip, 3.3, seed=2)),
    "29.97 s": ("c.wav", partial(clip, 29.97, seed=3)),
    "30 s": ("d.wav", partial(clip, 30, seed=4)),
    "75 s, three windows": ("e.wav", partial(clip, 75, seed=5)),
    "stereo 44.1 kHz MP3": ("f.mp3", lambda: file_bytes(sound(4, 44_100, 2, seed=6), 44_100, "MP3")),
    "8 kHz 8-bit WAV": ("g.wav", lambda: file_bytes(sound(5, 8_000, seed=7), 8_000, "WAV", "PCM_U8")),
    "24-bit FLAC": ("h.flac", lambda: file_bytes(sound(6, 48_000, seed=8), 48_000, "FLAC", "PCM_24")),
    "stereo OGG": ("i.ogg", lambda: file_bytes(sound(3, 22_050, 2, seed=9), 22_050, "OGG", "VORBIS")),
}


@pytest.mark.parametrize("name", FILES)
def test_one_clip_and_a_question(name: str, url: str, oracle: Oracle, tmp_path: Path) -> None:
    file_name, make = FILES[name]
    path = saved(tmp_path, make(), file_name)
    expected = oracle.generate([oracle.user(QUESTION, path)], TOKENS)
    responses = ask(url, [path.read_bytes()], QUESTION, parameters={"max_tokens": TOKENS})
    assert ids_of(responses) == expected
    assert text_of(responses) == oracle.text(expected)


def test_ten_minutes(url: str, oracle: Oracle, tmp_path: Path) -> None:
    path = saved(tmp_path, clip(600, seed=10), "long.wav")
    expected = oracle.generate([oracle.user(QUESTION, path)], 12)
    assert ids_of(ask(url, [path.read_bytes()], QUESTION, parameters={"max_tokens": 12})) == expected


def test_text_only(url: str, oracle: Oracle) -> None:
    expected = oracle.generate([oracle.user("Tell me about music.")], TOKENS)
    assert ids_of(ask(url, prompt="Tell me about music.", parameters={"max_tokens": TOKENS})) == expected


def test_two_turns(url: str, oracle: Oracle, tmp_path: Path) -> None:
    path = saved(tmp_path, clip(4.2, seed=11), "turns.wav")
    earlier = [oracle.user(QUESTION, path), oracle.assistant("A door and a dog.")]
    expected = oracle.generate([*earlier, oracle.user("Which came first?")], TOKENS)
    messages = [
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": "A door and a dog."},
        {"role": "user", "content": "Which came first?"},
    ]
    responses = ask(url, [path.read_bytes()], messages=messages, parameters={"max_tokens": TOKENS})
    assert ids_of(responses) == expected


def test_a_system_message_and_text_before_the_clip(url: str, oracle: Oracle, tmp_path: Path) -> None:
    path = saved(tmp_path, clip(2.0, seed=12), "system.wav")
    user = {
        "role": "user",
        "content": [{"type": "text", "text": QUESTION}, {"type": "audio", "path": str(path)}],
    }
    expected = oracle.generate([oracle.system("Answer in one word."), user], TOKENS)
    messages = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}, {"type": "audio"}]},
    ]
    responses = ask(url, [path.read_bytes()], messages=messages, parameters={"max_tokens": TOKENS})
    assert ids_of(responses) == expected


def test_thinking_adds_the_trained_sentence(url: str, oracle: Oracle, tmp_path: Path) -> None:
    path = saved(tmp_path, clip(1.5, seed=13), "think.wav")
    asked = QUESTION + "\nPlease think and reason about the input audio before you respond."
    expected = oracle.generate([oracle.user(asked, path)], TOKENS)
    responses = ask(url, [path.read_bytes()], QUESTION, parameters={"max_tokens": TOKENS, "think": True})
    assert ids_of(responses) == expected


def test_several_clips_in_one_conversation(url: str, oracle: Oracle, tmp_path: Path) -> None:
    """Transformers' template cannot express it, so its model is given embeddings put together here."""
    paths = [
        saved(tmp_path, clip(seconds, seed=20 + place), f"{place}.wav")
        for place, seconds in enumerate((1, 31, 2.5))
    ]
    clips = [transformers_audio.read(str(path)) for path in paths]
    pieces = [
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nThe first: ",
        clips[0],
        " and the second: ",
        clips[1],
        "<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\n",
        clips[2],
        "Which is longest?<|im_end|>\n<|im_start|>assistant\n",
    ]
    expected = oracle.generate_from_pieces(pieces, TOKENS)
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "The first: "},
                {"type": "audio"},
                {"type": "text", "text": " and the second: "},
                {"type": "audio"},
            ],
        },
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "Which is longest?"}]},
    ]
    files = [path.read_bytes() for path in paths]
    assert ids_of(ask(url, files, messages=messages, parameters={"max_tokens": TOKENS})) == expected


def test_a_request_among_eight_different_ones_is_answered_as_alone(url: str) -> None:
    assert_eight_are_answered_as_alone(url, 0.9, TOKENS)


def test_the_oracle_itself_runs_in_full_precision(oracle: Oracle) -> None:
    assert oracle.model.dtype == torch.float32
