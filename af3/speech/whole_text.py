"""Speaks a client's text without a language model."""

from __future__ import annotations

from af3.contract import MAX_SPOKEN_CHARACTERS
from af3.errors import invalid
from af3.speech.session import Sink, Speech
from af3.speech.voice_names import resolve


def say(speech: Speech, request_id: str, text: str, voice: str | None, rate: float, sink: Sink) -> None:
    """Speak a whole text through `sink`. Raises RequestError for an unknown voice and an empty or too long text."""
    if voice is not None:
        resolve(voice, speech.voices.voices)
    if not text.strip():
        raise invalid("text: empty; send what is to be spoken")
    if len(text) > MAX_SPOKEN_CHARACTERS:
        raise invalid(
            f"text: {len(text)} characters, more than the {MAX_SPOKEN_CHARACTERS} of one request; send it in parts"
        )
    speech.begin(request_id, voice, rate, sink)
    speech.feed(request_id, text, True, sink)
