"""The turns of a conversation so far, as the server takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..request import Clip, Message


@dataclass(frozen=True)
class Conversation:
    """Turns and their clips; the server keeps nothing, so every turn sends all of them."""

    messages: tuple[Message, ...] = ()
    clips: tuple[Clip, ...] = ()

    def asked(self, text: str, clips: Sequence[Clip]) -> Conversation:
        """With one more user turn: its clips first, then its text, which may be empty."""
        said = [{"type": "text", "text": text}] if text else []
        content = [*({"type": "audio"} for _ in clips), *said]
        return Conversation((*self.messages, {"role": "user", "content": content}), (*self.clips, *clips))

    def answered(self, text: str) -> Conversation:
        """With the answer to its last turn."""
        return Conversation((*self.messages, {"role": "assistant", "content": text}), self.clips)
