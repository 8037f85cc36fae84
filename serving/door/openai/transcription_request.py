"""A form of /v1/audio/transcriptions or /v1/audio/translations → the request to the relay."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from af3 import contract
from serving.door import generate_request
from serving.door.openai.chat_request import CHAT_MODELS
from serving.door.openai.form_body import Form, parse_form
from serving.door.openai.openai_errors import WRONG_VALUE, FieldError, model_not_found, unsupported
from serving.door.wire_request import WireRequest

Task = Literal["transcribe", "translate"]
ReplyFormat = Literal["json", "text", "verbose_json", "srt", "vtt"]
STREAMED: tuple[ReplyFormat, ...] = ("json", "text")
# As the model was trained to be asked (NVIDIA's model card).
QUESTIONS: Mapping[Task, str] = {
    "transcribe": "Transcribe the input speech.",
    "translate": "Translate the input speech into English.",
}
ENGLISH = ("en", "eng", "english", "en-us", "en-gb")
_NO_SPEAKERS = "speakers are not told apart"
NOT_DONE: Mapping[str, str] = {
    "languages": "the model finds the language itself",
    "keywords": "put the words into prompt",
    "known_speaker_names": _NO_SPEAKERS,
    "known_speaker_references": _NO_SPEAKERS,
    "include": "the server gives no log probabilities",
}
NUMBERS: Mapping[str, type] = {
    "temperature": float,
    "top_p": float,
    "seed": int,
    "max_tokens": int,
    "top_k": int,
    "repetition_penalty": float,
    "timeout": int,
}
# As JSON writes numbers: Python would also read digits of every script, 1_000 and inf.
WRITTEN: Mapping[type, re.Pattern[str]] = {
    int: re.compile(r"[+-]?\d{1,19}", re.ASCII),
    float: re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE),
}
TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Transcription:
    """The format of the answer."""

    task: Task
    form: ReplyFormat
    stream: bool
    temperature: float


def to_request(task: Task, content_type: str, body: bytearray) -> tuple[WireRequest, Transcription]:
    """Raises RequestError that names the field."""
    form = parse_form(content_type, body)
    given = {name: _single(name, texts) for name, texts in form.values.items() if name not in LISTS}
    _refuse(given, form)
    model = given.pop("model", None)
    if model is None:
        raise FieldError("model: missing; send it", "model", "missing_required_parameter")
    if model not in CHAT_MODELS:
        raise model_not_found(model, CHAT_MODELS)
    if form.file is None:
        raise FieldError("file: missing; send the clip as a file", "file", "missing_required_parameter")
    reply = _reply_format(given.pop("response_format", "json"))
    stream = _truth("stream", given.pop("stream", "false"))
    if stream and reply not in STREAMED:
        raise FieldError(
            f"response_format: {reply} is not streamed; stream json or text", "response_format", WRONG_VALUE
        )
    _check_granularity(form, reply)
    parameters = {name: _number(name, given.pop(name)) for name in NUMBERS if name in given}
    if "read_cut_short" in given:
        parameters["read_cut_short"] = _truth("read_cut_short", given.pop("read_cut_short"))
    question = QUESTIONS[task]
    if hint := given.pop("prompt", "").strip():
        question += f" {hint}"
    if given:
        name = min(given)[:64]
        raise FieldError(f"{name}: unknown field; leave it out", name, "unknown_parameter")
    asked: dict[str, Any] = {contract.AUDIO.name: form.file, contract.PROMPT.name: question}
    request, _ = generate_request.to_request(contract.AUDIO_FLAMINGO.name, asked | parameters)
    return request, Transcription(task, reply, stream, float(parameters.get("temperature", 0.0)))


LISTS = frozenset({*NOT_DONE, "timestamp_granularities"})


def _single(name: str, texts: list[str]) -> str:
    if len(texts) > 1:
        raise FieldError(f"{name[:64]}: stands {len(texts)} times; send it once", name[:64], WRONG_VALUE)
    return texts[0]


def _refuse(given: dict[str, str], form: Form) -> None:
    for name, why in NOT_DONE.items():
        if any(form.values.get(name, ())):
            raise unsupported(name, why)
    if given.pop("chunking_strategy", "auto") not in ("auto", ""):
        raise unsupported("chunking_strategy", "the whole clip is heard at once")
    language = given.pop("language", "")
    if language and language.lower() not in ENGLISH:
        raise unsupported(
            "language",
            f"'{language[:32]}': the model cannot be told a language but English; it finds it itself",
        )


def _reply_format(name: str) -> ReplyFormat:
    for known in get_args(ReplyFormat):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise FieldError(
        f"response_format: '{name[:32]}'; choose one of {', '.join(get_args(ReplyFormat))}",
        "response_format",
        WRONG_VALUE,
    )


def _check_granularity(form: Form, reply: ReplyFormat) -> None:
    wanted = form.values.get("timestamp_granularities", [])
    if any(one != "segment" for one in wanted):
        raise FieldError(
            "timestamp_granularities: the model gives no times of words; ask for segment",
            "timestamp_granularities",
            WRONG_VALUE,
        )
    if wanted and reply != "verbose_json":
        raise FieldError(
            "timestamp_granularities: of verbose_json alone; ask for that response_format",
            "timestamp_granularities",
            WRONG_VALUE,
        )


def _number(name: str, text: str) -> float | int:
    value = NUMBERS[name](text) if WRITTEN[NUMBERS[name]].fullmatch(text) else math.nan
    if not math.isfinite(value):
        kind = "a whole number" if NUMBERS[name] is int else "a number"
        raise FieldError(f"{name}: {text[:32]!r} is not {kind}", name, WRONG_VALUE)
    return value  # type: ignore[no-any-return]


def _truth(name: str, text: str) -> bool:
    if text.lower() not in TRUTH:
        raise FieldError(f"{name}: {text[:32]!r} is neither true nor false", name, WRONG_VALUE)
    return TRUTH[text.lower()]
