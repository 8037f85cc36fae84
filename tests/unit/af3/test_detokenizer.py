"""Deltas are valid UTF-8, add up to the tokenizer's own decoding, and end before a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3.outputs.detokenizer import Detokenizer
from af3.tokenizer import Tokenizer
from training.random_model import random_processor

DEFINITION = random_processor().tokenizer.backend_tokenizer.to_str()
TOKENIZER = Tokenizer(DEFINITION)
IDS = st.lists(st.integers(0, 440), max_size=60)


@given(IDS)
def test_deltas_add_up_to_the_whole_decoding(ids: list[int]) -> None:
    detokenizer = Detokenizer(TOKENIZER)
    deltas = [detokenizer.push([token]) for token in ids] + [detokenizer.finish()]
    assert "".join(deltas) == TOKENIZER.decode(ids)


@given(st.text(max_size=40))
def test_any_text_comes_back(text: str) -> None:
    detokenizer = Detokenizer(TOKENIZER)
    ids = TOKENIZER.encode(text)
    deltas = [detokenizer.push([token]) for token in ids] + [detokenizer.finish()]
    assert "".join(deltas) == TOKENIZER.decode(ids)


def test_a_letter_of_several_bytes_is_held_back_until_it_is_whole() -> None:
    detokenizer = Detokenizer(TOKENIZER)
    deltas = [detokenizer.push([token]) for token in TOKENIZER.encode("日")]
    assert deltas == ["", "", "日"]


@given(
    st.text("abcX ", max_size=30), st.lists(st.text("abcX", min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_nothing_comes_after_the_first_stop_string(text: str, stops: list[str]) -> None:
    detokenizer = Detokenizer(TOKENIZER, stops)
    answer = ""
    for token in TOKENIZER.encode(text):
        answer += detokenizer.push([token])
        if detokenizer.stopped:
            break
    answer += detokenizer.finish()
    assert not any(stop in answer for stop in stops)
    assert text.startswith(answer)
    assert detokenizer.stopped == any(stop in text for stop in stops)


def test_what_only_looked_like_a_stop_string_is_given_back() -> None:
    detokenizer = Detokenizer(TOKENIZER, ["END"])
    deltas = [detokenizer.push(TOKENIZER.encode(letter)) for letter in "xENy"]
    assert deltas == ["x", "", "", "ENy"]


@pytest.mark.parametrize("special", ["<|im_end|>", "<|im_start|>", "<sound>", "<|endoftext|>"])
def test_a_special_token_typed_by_a_user_stays_text(special: str) -> None:
    ids = TOKENIZER.encode(f"a {special} b")
    assert not set(ids) & TOKENIZER.control_ids
    assert TOKENIZER.decode(ids) == f"a {special} b"


def test_special_tokens_of_an_answer_are_not_text() -> None:
    assert Detokenizer(TOKENIZER).push([TOKENIZER.token_id("<|im_end|>")]) == ""
