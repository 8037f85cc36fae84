"""Deltas are valid UTF-8, add up to the tokenizer's own decoding, and end before a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3.outputs.detokenizer import Detokenizer
from tests.support.tiny import TOKENIZER, VOCABULARY

IDS = st.lists(st.integers(0, VOCABULARY + 5), max_size=60)


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
    st.text("abcX ", max_size=30),
    st.lists(st.text("abcX", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(1, 5), max_size=10),
)
def test_the_answer_is_the_text_before_the_first_stop_string(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    detokenizer = Detokenizer(TOKENIZER, stops)
    ids = TOKENIZER.encode(text)
    answer = ""
    for size in sizes:
        part, ids = ids[:size], ids[size:]
        answer += detokenizer.push(part)
    answer += detokenizer.push(ids) + detokenizer.finish()
    met = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert detokenizer.stopped == bool(met)
    # Whichever is complete first, however many tokens came at a time.
    assert answer == (text[: min(met)[1]] if met else text)


@pytest.mark.parametrize(
    ("text", "stops", "answer"),
    [
        ("xab", ["abc"], "xab"),
        ("one b two a", ["a", "b"], "one "),
        ("x abc", ["abc", "b"], "x a"),
        ("xEN", ["END", "y"], "xEN"),
        ("end at the END", ["END"], "end at the "),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_several_tokens_a_push_and_several_stop_strings(
    text: str, stops: list[str], answer: str, at_once: bool
) -> None:
    detokenizer = Detokenizer(TOKENIZER, stops)
    ids = TOKENIZER.encode(text)
    pushed = detokenizer.push(ids) if at_once else "".join(detokenizer.push([token]) for token in ids)
    assert pushed + detokenizer.finish() == answer


def test_nothing_is_added_after_a_stop_string() -> None:
    detokenizer = Detokenizer(TOKENIZER, ["."])
    assert detokenizer.push(TOKENIZER.encode("one. two")) == "one"
    assert detokenizer.push(TOKENIZER.encode("three")) == ""
    assert detokenizer.finish() == ""


def test_text_that_only_began_like_a_stop_string_is_released() -> None:
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
