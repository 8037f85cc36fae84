"""The settings of a session: OpenAI's session object, merged from `session.update` events and checked."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from af3 import contract
from serving.door.realtime.audio_formats import HIGHEST_HZ, LOWEST_HZ, PCM_HZ, TELEPHONE_HZ, AudioFormat
from serving.door.realtime.realtime_events import Event, EventError

MODEL = contract.AUDIO_FLAMINGO_SPEECH.name
LONGEST_INSTRUCTIONS = 40_000  # characters; the model reads 16 000 tokens
# `semantic_vad` is heard by pauses as `server_vad` is: how long a pause ends a turn.
EAGERNESS_MS = {"low": 1200, "medium": 700, "auto": 700, "high": 400}
# pydantic's names for what a value may be, which it puts behind the value's place.
KINDS = ("int", "constrained-int", "literal['inf']", "str", "dict[str,any]")
FIRST_VOICE = "default"  # what a session shows that names none


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class FormatSettings(_Part):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int = Field(default=PCM_HZ, ge=LOWEST_HZ, le=HIGHEST_HZ)

    @property
    def format(self) -> AudioFormat:
        return AudioFormat(self.type, self.rate if self.type == "audio/pcm" else TELEPHONE_HZ)


class TurnSettings(_Part):
    """Milliseconds, and the probability from which on a frame is speech."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0.05, le=0.95)
    prefix_padding_ms: int = Field(default=300, ge=0, le=5_000)
    silence_duration_ms: int = Field(default=500, ge=60, le=10_000)
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True

    @property
    def silence_ms(self) -> int:
        return EAGERNESS_MS[self.eagerness] if self.type == "semantic_vad" else self.silence_duration_ms


class InputSettings(_Part):
    format: FormatSettings = FormatSettings()
    transcription: dict[str, Any] | None = None
    turn_detection: TurnSettings | None = TurnSettings()


class OutputSettings(_Part):
    format: FormatSettings = FormatSettings()
    voice: str | dict[str, Any] | None = None
    speed: float = Field(default=1.0, ge=0.25, le=2.0)


class AudioSettings(_Part):
    input: InputSettings = InputSettings()
    output: OutputSettings = OutputSettings()


class SessionSettings(_Part):
    """Checked. Keys that the server has no use for are not here; they stand in the session object all the same."""

    type: Literal["realtime"] = "realtime"
    output_modalities: list[Literal["text", "audio"]] = Field(default=["audio"], min_length=1, max_length=2)
    instructions: str = Field(default="", max_length=LONGEST_INSTRUCTIONS)
    max_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] = "inf"
    temperature: float | None = Field(default=None, ge=0, le=2)
    audio: AudioSettings = AudioSettings()

    @property
    def spoken(self) -> bool:
        return "audio" in self.output_modalities

    def parameters(self, most_tokens: int) -> dict[str, Any]:
        """As the ensembles take them, for a model whose longest answer has `most_tokens`."""
        tokens = self.max_output_tokens
        found: dict[str, Any] = {"max_tokens": most_tokens if tokens == "inf" else min(tokens, most_tokens)}
        if self.temperature is not None:
            found["temperature"] = float(self.temperature)
        if not self.spoken:
            return found
        voice = self.audio.output.voice
        name = voice.get("id") if isinstance(voice, dict) else voice
        if isinstance(name, str) and name and name != FIRST_VOICE:
            found["voice"] = name
        if self.audio.output.speed != 1:
            found["rate"] = max(0.5, float(self.audio.output.speed))
        return found


DEFAULT: Event = {
    "type": "realtime",
    "object": "realtime.session",
    "model": MODEL,
    "output_modalities": ["audio"],
    "instructions": "",
    "tools": [],
    "tool_choice": "auto",
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "include": None,
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": PCM_HZ},
            "transcription": None,
            "noise_reduction": None,
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
                "idle_timeout_ms": None,
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {"format": {"type": "audio/pcm", "rate": PCM_HZ}, "voice": FIRST_VOICE, "speed": 1.0},
    },
}
FIXED = ("id", "object", "expires_at", "model")  # what a client cannot change


class Session:
    """The session object as clients read it (`shown`), and what it means (`settings`)."""

    def __init__(self, session_id: str, expires_at: int):
        self.shown: Event = {**deepcopy(DEFAULT), "id": session_id, "expires_at": expires_at}
        self.settings = SessionSettings()

    def update(self, given: Event) -> list[EventError]:
        """Merge what is given into the session, deeply. Raises EventError and changes nothing when a value is wrong.

        What is returned is refused by name; all else of the update holds.
        """
        given = {name: value for name, value in given.items() if name not in FIXED}
        refused = []
        if given.get("tools"):
            refused.append(
                EventError(
                    "tools: functions are not called by this model; send none", "unsupported", "session.tools"
                )
            )
            given["tools"] = []
        if given.get("prompt"):
            refused.append(
                EventError(
                    "prompt: there are no stored prompts; send instructions", "unsupported", "session.prompt"
                )
            )
            given["prompt"] = None
        shown = merged(self.shown, given)
        self.settings = checked(shown, "session")
        self.shown = _tidied(shown, self.settings)
        return refused


def merged(old: Event, new: Event) -> Event:
    """`new` over `old`; objects are merged key by key, everything else is replaced."""
    found = dict(old)
    for name, value in new.items():
        before = found.get(name)
        switched = isinstance(value, dict) and isinstance(before, dict) and _type_changes(before, value)
        if isinstance(value, dict) and isinstance(before, dict) and not switched:
            found[name] = merged(before, value)
        else:
            found[name] = value
    return found


def _type_changes(before: Event, value: Event) -> bool:
    """From server_vad to semantic_vad, or from PCM to G.711: nothing of the old one holds."""
    return "type" in value and "type" in before and value["type"] != before["type"]


def checked(shown: Event, name: str) -> SessionSettings:
    """Raises EventError that names the first value that is wrong."""
    _refuse_odd_numbers(shown, name)
    try:
        return SessionSettings.model_validate(_without_nulls(shown))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([name, *(str(step) for step in first["loc"] if step not in KINDS)])
        raise EventError(f"{place}: {first['msg']}", "invalid_value", place) from None


def _without_nulls(given: Event) -> Event:
    """`null` means: as it is by default; of turn_detection it means off."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in given.items()
        if value is not None or key == "turn_detection"
    }


def _refuse_odd_numbers(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_odd_numbers(item, f"{name}.{key}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise EventError(f"{name}: {value} is no number", "invalid_value", name)


def _tidied(shown: Event, settings: SessionSettings) -> Event:
    """The session object with the defaults of a turn detection that was switched on."""
    detection = settings.audio.input.turn_detection
    if detection is None:
        return shown
    names = {"type", "create_response", "interrupt_response"} | (
        {"eagerness"}
        if detection.type == "semantic_vad"
        else {"threshold", "prefix_padding_ms", "silence_duration_ms"}
    )
    full = detection.model_dump(include=names)
    return merged(shown, {"audio": {"input": {"turn_detection": full}}})
