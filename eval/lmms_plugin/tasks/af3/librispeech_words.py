"""LibriSpeech: the prompt of NVIDIA's model card, and the words of an answer."""

from typing import Any

from lmms_eval.tasks.librispeech.utils import librispeech_process_result, librispeech_wer

PROMPT = "Transcribe the input speech."

word_error_rate = librispeech_wer


def clips(doc: dict[str, Any]) -> list[Any]:
    return [doc["audio"]]


def prompt(doc: dict[str, Any]) -> str:
    return PROMPT


def results(doc: dict[str, Any], answers: list[str]) -> dict[str, Any]:
    """The words alone: the model may answer in a sentence around them."""
    _, mark, said = answers[0].strip().partition("The spoken content of the audio is ")
    words = said.rstrip(".").strip("'\"") if mark else answers[0].strip()
    found: dict[str, Any] = librispeech_process_result(doc, [words])
    return found
