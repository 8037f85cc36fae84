"""Reasoning and answer told apart, whatever the pieces in which the text comes."""

from itertools import pairwise

import pytest

from af3.outputs.reasoning import ReasoningSplit

CASES = {
    "It rains.": ("", "It rains."),
    " two  blanks \n\n": ("", " two  blanks \n\n"),
    "<think>drops, a gutter</think>It rains.": ("drops, a gutter", "It rains."),
    "\n<think>\ndrops\n a gutter \n</think>\n\nIt rains. ": ("drops\n a gutter", "It rains. "),
    "<think></think>It rains.": ("", "It rains."),
    "<think>\n\n</think>\n\nIt rains.": ("", "It rains."),
    "<think>drops": ("drops", ""),
    "<think>": ("", ""),
    "<think>drops</thi": ("drops</thi", ""),
    "<thinking>": ("", "<thinking>"),
    "a < b <th": ("", "a < b <th"),
    "First. <think>wait</think> Second.": ("wait", "First. Second."),
    "<think>one</think><think>two</think>end": ("onetwo", "end"),
    "<think>a </think b</think>c": ("a </think b", "c"),
}


def split(pieces: list[str]) -> tuple[str, str]:
    reasoning = ReasoningSplit()
    found = [reasoning.push(piece) for piece in pieces] + [reasoning.finish()]
    return "".join(thought for thought, _ in found), "".join(answer for _, answer in found)


@pytest.mark.parametrize("text", CASES)
def test_reasoning_and_answer_are_split_alike_wherever_the_text_is_cut(text: str) -> None:
    assert split([text]) == CASES[text]
    assert split(list(text)) == CASES[text]
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            assert split([text[a:b] for a, b in pairwise((0, first, second, len(text)))]) == CASES[text]


def test_an_answer_without_reasoning_is_not_held_back() -> None:
    reasoning = ReasoningSplit()
    assert [reasoning.push(piece) for piece in ("It", " rains", " <b", ">.")] == [
        ("", "It"),
        ("", " rains"),
        ("", " <b"),
        ("", ">."),
    ]


def test_reasoning_comes_as_it_is_written() -> None:
    reasoning = ReasoningSplit()
    assert [reasoning.push(piece) for piece in ("<think>It", " may", " rain", "</think>Yes")] == [
        ("It", ""),
        (" may", ""),
        (" rain", ""),
        ("", "Yes"),
    ]
