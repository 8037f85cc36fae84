"""Questions with options: the prompt that gives the published figures, and the option that an answer names.

lmms-eval's own tasks ask for a letter, and take one at random where they find none. Here an answer that names no option
is wrong, and counted as `unread`.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("lmms_eval")
LETTERS = "ABCDEFGHIJ"
Doc = dict[str, Any]


def clips(doc: Doc) -> list[Any]:
    """Raises KeyError for a question without sound."""
    return [doc["audio"]]


def prompt(question: str, options: Sequence[str]) -> str:
    """As NVIDIA asks (audio-flamingo, issue 29); another wording cost nine points of MMAR (issue 54)."""
    lines = (f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return "\n".join([f"{question} Choose the correct option from the following options:", *lines])


def chosen(answer: str, options: Sequence[str]) -> int | None:
    """The place of the option that an answer names, by its letter or its words; None for none or several."""
    said = answer.strip()
    letters = set(re.findall(r"\(([A-J])\)", said)) or set(re.findall(r"^([A-J])(?:[.:)]|$)", said))
    if letters:
        places = {LETTERS.index(letter) for letter in letters}
        return places.pop() if len(places) == 1 and max(places) < len(options) else None
    words = _words(said)
    named = [place for place, option in enumerate(options) if f" {_words(option)} " in f" {words} "]
    # "male voice" stands in "female voice, male voice" and in itself: the longest that contains the others.
    longest = [
        place
        for place in named
        if not any(_words(options[place]) in _words(options[other]) for other in named if other != place)
    ]
    return longest[0] if len(longest) == 1 else None


def mmau_prompt(doc: Doc) -> str:
    return prompt(doc["question"], json.loads(doc["choices"]))


def mmau_results(doc: Doc, answers: list[str]) -> Doc:
    options = json.loads(doc["choices"])
    place = chosen(answers[0], options)
    option = "" if place is None else options[place]
    right = bool(option) and option.strip().lower() == str(doc.get("answer", "")).strip().lower()
    submission = {key: value for key, value in doc.items() if key != "audio"}
    return _scores(right, place, doc.get("task")) | {"submission": {**submission, "model_prediction": option}}


def mmau_submission(results: list[Doc], args: Any) -> Any:
    """A file for the leaderboard, which alone knows the answers of the test split."""
    from lmms_eval.tasks.mmau.utils import mmau_aggregate_results_for_submission

    return mmau_aggregate_results_for_submission(results, args)


def mmar_prompt(doc: Doc) -> str:
    return prompt(doc["question"], _without_letters(doc["choices"]))


def mmar_results(doc: Doc, answers: list[str]) -> Doc:
    place = chosen(answers[0], _without_letters(doc["choices"]))
    right = place is not None and LETTERS[place] == str(doc["answer"]).strip().upper()
    return _scores(right, place, doc.get("modality"))


def mmsu_prompt(doc: Doc) -> str:
    return prompt(doc["question"], _mmsu_options(doc))


def mmsu_results(doc: Doc, answers: list[str]) -> Doc:
    place = chosen(answers[0], _mmsu_options(doc))
    right = place is not None and LETTERS[place] == str(doc["answer"]).strip().upper()
    return _scores(right, place, doc.get("category"))


def by_kind(results: list[Doc]) -> float:
    """Per cent of all; that of each kind goes to the log."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for result in results:
        kinds[str(result["kind"])].append(result["score"])
    for kind, scores in sorted(kinds.items()):
        log.info("%s: %.2f %% of %d", kind, 100 * sum(scores) / len(scores), len(scores))
    return 100 * sum(result["score"] for result in results) / len(results)


def _scores(right: bool, place: int | None, kind: Any) -> Doc:
    return {"accuracy": {"score": float(right), "kind": kind}, "unread": float(place is None)}


def _mmsu_options(doc: Doc) -> list[str]:
    return [str(doc[f"choice_{letter}"]) for letter in "abcd"]


def _without_letters(options: Sequence[str]) -> list[str]:
    return [re.sub(r"^[A-J][.:)] *", "", option) for option in options]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
