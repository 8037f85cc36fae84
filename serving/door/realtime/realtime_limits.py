"""Limits of Realtime, per server and per session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from af3 import contract
from af3.errors import RequestError

RETRY_S = 10


@dataclass(frozen=True)
class RealtimeLimits:
    """sessions: at once. idle_s: without any event of the client. session_s: the longest session.

    session_bytes: what one session holds: sound, not yet committed or in its conversation, and texts of its items;
    11 minutes of 24 kHz PCM.
    all_bytes: the same for all sessions.
    outbox_bytes: events that a client has not read yet. ahead_s: speech sent ahead of what can have been played.
    clip_s, answer_tokens: sound that a model hears in one request, and its longest answer.
    """

    sessions: int = 64
    idle_s: float = 600.0
    session_s: float = 3600.0
    session_bytes: int = 32 << 20
    all_bytes: int = 1 << 30
    outbox_bytes: int = 8 << 20
    ahead_s: float = 2.0
    clip_s: int = contract.MAX_CLIP_SECONDS
    answer_tokens: int = contract.MAX_NEW_TOKENS

    @classmethod
    def of_model(cls, clip_s: int, answer_tokens: int) -> RealtimeLimits:
        """For a model that hears and answers so far: what a session holds grows with it."""
        session_bytes = cls.session_bytes * ceil(clip_s / cls.clip_s)
        return cls(session_bytes=session_bytes, clip_s=clip_s, answer_tokens=answer_tokens)


DEFAULT_REALTIME = RealtimeLimits()


class AudioMemory:
    """Bytes of sound and text that all sessions hold together."""

    def __init__(self, limits: RealtimeLimits):
        self.limits = limits
        self.bytes = 0


class AudioShare:
    """The bytes of one session. `make_room` is asked to give back so many bytes before sound is refused."""

    def __init__(self, memory: AudioMemory, make_room: Callable[[int], None]):
        self._memory = memory
        self._make_room = make_room
        self.bytes = 0

    @property
    def limit_bytes(self) -> int:
        return self._memory.limits.session_bytes

    def take(self, count: int) -> None:
        """Raises RequestError when so many more bytes are too many for the session or the server."""
        if self.bytes + count > self.limit_bytes:
            self._make_room(self.bytes + count - self.limit_bytes)
        if self.bytes + count > self.limit_bytes:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                f"the session holds {self.bytes} bytes of sound and text, and {count} more pass its limit of"
                f" {self.limit_bytes}; commit or clear the input buffer, or delete items",
            )
        if self._memory.bytes + count > self._memory.limits.all_bytes:
            raise RequestError(
                "UNAVAILABLE",
                f"the sessions of this server hold {self._memory.bytes >> 20} MB of sound and text, the most that fits;"
                f" try again in {RETRY_S} s",
                retry_s=RETRY_S,
            )
        self.bytes += count
        self._memory.bytes += count

    def give_back(self, count: int) -> None:
        self.bytes -= count
        self._memory.bytes -= count

    def close(self) -> None:
        self.give_back(self.bytes)
