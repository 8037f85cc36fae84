"""Audio Flamingo Next's class through the server: greedy token ids are those of Transformers' `generate()`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.e2e.conftest import door_before, triton_on
from tests.support import transformers_audio
from tests.support.clips import clip, file_bytes, saved
from tests.support.company import assert_eight_are_answered_as_alone
from tests.support.engines import BuiltEngines, build_random_engines
from tests.support.oracle import Oracle
from tests.support.wire import Refused, ask, ids_of, text_of
from training.random_model import SYSTEM_PROMPT

QUESTION = "What do you hear in this clip?"
TOKENS = 48
SECONDS = (0.025, 1.0, 29.97, 30.0, 65.3, 184.7)


@pytest.fixture(scope="module")
def engines() -> BuiltEngines:
    return build_random_engines(family="next")


@pytest.fixture(scope="module")
def oracle(engines: BuiltEngines) -> Oracle:
    torch.set_num_threads(1)
    return Oracle(engines.checkpoint)


@pytest.fixture(scope="module")
def url(engines: BuiltEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("next")
    (folder / "engines").symlink_to(engines.engines.parent)
    with triton_on(folder) as triton, door_before(triton) as door:
        yield door.url


def asked(url: str, files: Sequence[bytes], messages: list[dict], max_tokens: int = TOKENS) -> list[int]:
    return ids_of(ask(url, files, messages=messages, parameters={"max_tokens": max_tokens}))


def user(*parts: str | None) -> dict:
    """A message of texts and, where None stands, clips."""
    return {
        "role": "user",
        "content": [{"type": "audio"} if part is None else {"type": "text", "text": part} for part in parts],
    }


@pytest.mark.parametrize("seconds", SECONDS)
def test_one_clip_and_a_question(seconds: float, url: str, oracle: Oracle, tmp_path: Path) -> None:
    path = saved(tmp_path, clip(seconds, seed=int(seconds)), "clip.wav")
    expected = oracle.generate([oracle.user(QUESTION, path)], TOKENS)
    responses = ask(url, [path.read_bytes()], QUESTION, parameters={"max_tokens": TOKENS})
    assert ids_of(responses) == expected
    assert text_of(responses) == oracle.text(expected)


@pytest.mark.timeout(1800)  # a minute on a quiet machine
def test_half_an_hour(url: str, oracle: Oracle, tmp_path: Path) -> None:
    path = saved(tmp_path, clip(1800, seed=10), "long.wav")
    expected = oracle.generate([oracle.user(QUESTION, path)], 12)
    assert ids_of(ask(url, [path.read_bytes()], QUESTION, parameters={"max_tokens": 12})) == expected


REFUSED = {
    "31 minutes": (
        {"audio": [file_bytes(np.zeros(31 * 60 * 8_000), 8_000, subtype="PCM_U8")], "prompt": "?"},
        r"audio\[0\]: 1860.0 s is longer than the 1800 s that this model hears",
    ),
    "a longer answer": (
        {"prompt": "?", "parameters": {"max_tokens": 4097}},
        "'max_tokens'.*4096",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_limits_are_those_of_the_checkpoint(name: str, url: str) -> None:
    request, cause = REFUSED[name]
    with pytest.raises(Refused, match=cause):
        ask(url, **request)


def test_a_last_window_without_a_token_is_not_heard(url: str, oracle: Oracle, tmp_path: Path) -> None:
    """30.01 s, at which Transformers itself fails: the answer is that to the clip cut to 30 s."""
    whole = saved(tmp_path, clip(30.01, seed=7), "whole.wav")
    cut = transformers_audio.read(str(whole))[:480_000]
    prompt = oracle.processor.apply_chat_template(
        [oracle.user(QUESTION, whole)], tokenize=False, add_generation_prompt=True
    )
    expected = oracle.answer(oracle.processor(text=[prompt], audio=[cut]), TOKENS)
    assert ids_of(ask(url, [whole.read_bytes()], QUESTION, parameters={"max_tokens": TOKENS})) == expected


def test_text_only_and_a_system_message(url: str, oracle: Oracle) -> None:
    expected = oracle.generate([oracle.user("Tell me about music.")], TOKENS)
    assert ids_of(ask(url, prompt="Tell me about music.", parameters={"max_tokens": TOKENS})) == expected
    system = {"role": "system", "content": "Answer in one word."}
    expected = oracle.generate([oracle.system(system["content"]), oracle.user("And noise?")], TOKENS)
    assert asked(url, [], [system, user("And noise?")]) == expected


def expected_of(pieces: Sequence[str | np.ndarray], oracle: Oracle) -> list[int]:
    """Transformers on texts and clips in any order, each clip between its tokens."""
    written: list[str | np.ndarray] = [f"<|im_start|>system\n{SYSTEM_PROMPT['next']}<|im_end|>\n"]
    for piece in pieces:
        written += [piece] if isinstance(piece, str) else ["<|sound_bos|>", piece, "<|sound_eos|>"]
    return oracle.generate_from_pieces(written, TOKENS)


@pytest.fixture
def clips(tmp_path: Path) -> tuple[list[bytes], list[np.ndarray]]:
    """Of several windows each, so that the second clip begins to count its windows again."""
    paths = [saved(tmp_path, clip(seconds, seed=int(seconds)), f"{seconds}.wav") for seconds in (65.3, 47.9)]
    samples = [transformers_audio.read(str(path)) for path in paths]
    return [path.read_bytes() for path in paths], samples


def test_two_clips_in_one_turn(url: str, oracle: Oracle, clips) -> None:
    files, (first, second) = clips
    pieces = [
        "<|im_start|>user\nThe first: ",
        first,
        " and the second: ",
        second,
        "<|im_end|>\n<|im_start|>assistant\n",
    ]
    messages = [user("The first: ", None, " and the second: ", None)]
    assert asked(url, files, messages) == expected_of(pieces, oracle)


def test_two_clips_in_two_turns(url: str, oracle: Oracle, clips) -> None:
    files, (first, second) = clips
    pieces = [
        "<|im_start|>user\n",
        first,
        "What is it?<|im_end|>\n<|im_start|>assistant\nA door.<|im_end|>\n<|im_start|>user\n",
        second,
        "And this?<|im_end|>\n<|im_start|>assistant\n",
    ]
    answer = {"role": "assistant", "content": "A door."}
    messages = [user(None, "What is it?"), answer, user(None, "And this?")]
    assert asked(url, files, messages) == expected_of(pieces, oracle)


def test_the_same_sound_in_another_window_is_encoded_again(url: str, oracle: Oracle, tmp_path: Path) -> None:
    """The second half minute repeats the first, which the embedding cache holds by then."""
    once = saved(tmp_path, clip(30, seed=9), "once.wav")
    samples = transformers_audio.read(str(once))
    expected = expected_of(
        ["<|im_start|>user\n", np.tile(samples, 2), f"{QUESTION}<|im_end|>\n<|im_start|>assistant\n"], oracle
    )
    ask(url, [once.read_bytes()], QUESTION, parameters={"max_tokens": 1})
    twice = clip_of(np.tile(samples, 2), tmp_path)
    assert ids_of(ask(url, [twice], QUESTION, parameters={"max_tokens": TOKENS})) == expected


def clip_of(samples: np.ndarray, folder: Path) -> bytes:
    soundfile.write(folder / "again.wav", samples, 16_000, "FLOAT")
    return (folder / "again.wav").read_bytes()


def test_a_request_among_ragged_ones_is_answered_as_alone(url: str) -> None:
    assert_eight_are_answered_as_alone(url, 11.3, TOKENS)
