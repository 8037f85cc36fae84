"""Keeps the text of spoken answers, so that a conversation can refer to them by id."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

KEPT_S = 3600
MOST_ANSWERS = 4096
MOST_CHARACTERS = 16 << 20


@dataclass(frozen=True)
class Spoken:
    id: str
    expires_at: int  # Unix seconds


class SpokenAnswers:
    """Bounded: the oldest is dropped first. Its ids cannot be guessed.

    `owner`: the name of the API key that asked, which alone finds the answer; empty where no keys are asked for.
    """

    def __init__(
        self,
        kept_s: int = KEPT_S,
        most_answers: int = MOST_ANSWERS,
        most_characters: int = MOST_CHARACTERS,
        clock: Callable[[], float] = time.time,
    ):
        self._kept_s = kept_s
        self._most_answers = most_answers
        self._most_characters = most_characters
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], tuple[int, str]] = OrderedDict()
        self._characters = 0

    def announce(self) -> Spoken:
        """The id that an answer will have, and how long it is kept from now on."""
        return Spoken(f"audio_{secrets.token_hex(16)}", int(self._clock()) + self._kept_s)

    def keep(self, spoken: Spoken, transcript: str, owner: str = "") -> None:
        self._answers[owner, spoken.id] = spoken.expires_at, transcript
        self._characters += len(transcript)
        now = self._clock()
        while self._answers and (
            len(self._answers) > self._most_answers
            or self._characters > self._most_characters
            or next(iter(self._answers.values()))[0] <= now
        ):
            _, (_, dropped) = self._answers.popitem(last=False)
            self._characters -= len(dropped)

    def transcript(self, audio_id: str, owner: str = "") -> str | None:
        """The text of the answer; None if it is not kept, has expired or is another caller's. Any thread may ask."""
        expires_at, said = self._answers.get((owner, audio_id), (0, ""))
        return said if expires_at > self._clock() else None
