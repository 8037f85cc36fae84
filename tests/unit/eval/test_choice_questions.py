"""Which option an answer names, and what is asked; documents have the fields of lmms-eval's data sets."""

import json

import pytest

from eval.lmms_plugin.tasks.af3.choice_questions import (
    by_kind,
    chosen,
    mmar_prompt,
    mmar_results,
    mmau_prompt,
    mmau_results,
    mmsu_prompt,
    mmsu_results,
)

OPTIONS = ["Car", "Truck", "Fire truck", "It is a bell."]
ASKED = """What passes? Choose the correct option from the following options:
(A) Car
(B) Truck
(C) Fire truck
(D) It is a bell."""
MMAU = {"question": "What passes?", "choices": json.dumps(OPTIONS), "answer": "Fire truck", "task": "sound"}
MMAR = {
    "question": "What passes?",
    "choices": [f"{letter}. {option}" for letter, option in zip("ABCD", OPTIONS, strict=True)],
    "answer": "C",
    "modality": "sound",
}
MMSU = {
    "question": "What passes?",
    **{f"choice_{letter}": option for letter, option in zip("abcd", OPTIONS, strict=True)},
    "answer": "C",
    "category": "perception",
}


@pytest.mark.parametrize(("ask", "doc"), [(mmau_prompt, MMAU), (mmar_prompt, MMAR), (mmsu_prompt, MMSU)])
def test_every_set_is_asked_with_the_prompt_of_the_published_figures(ask, doc) -> None:
    assert ask(doc) == ASKED


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("(A) Car", 0),
        ("(B)", 1),
        ("B. Truck", 1),
        ("C", 2),
        ("A car.", 0),  # a word, and no letter
        ("fire truck", 2),
        ("I hear a fire truck.", 2),
        ("It is a bell", 3),
        ("The correct option is (D) It is a bell.", 3),
        ("(A) Car or (B) Truck", None),
        ("a car and a truck", None),
        ("I do not know.", None),
        ("(J) none of them", None),
        ("cartoon", None),
        ("", None),
    ],
)
def test_an_answer_names_one_option_or_none(answer: str, place: int | None) -> None:
    assert chosen(answer, OPTIONS) == place


@pytest.mark.parametrize(("read", "doc"), [(mmau_results, MMAU), (mmar_results, MMAR), (mmsu_results, MMSU)])
def test_what_names_no_option_is_wrong_and_counted(read, doc) -> None:
    found = [read(doc, [answer]) for answer in ("(C) Fire truck", "a fire truck", "(A) Car", "a ship")]
    assert [result["accuracy"]["score"] for result in found] == [1.0, 1.0, 0.0, 0.0]
    assert [result["unread"] for result in found] == [0.0, 0.0, 0.0, 1.0]
    assert by_kind([result["accuracy"] for result in found]) == 50.0
    assert {result["accuracy"]["kind"] for result in found} <= {"sound", "perception"}


def test_a_submission_holds_the_words_of_the_option_and_no_sound() -> None:
    found = mmau_results({**MMAU, "audio": object()}, ["(C)"])["submission"]
    assert (found["model_prediction"], "audio" in found) == ("Fire truck", False)
