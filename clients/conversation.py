"""What has been said so far, in the shape the server takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clients.request import Message


@dataclass(frozen=True)
class Conversation:
    """Turns and their clips; the server keeps nothing, so every turn sends all of them."""

    messages: tuple[Message, ...] = ()
    clips: tuple[Path, ...] = ()

    def asked(self, text: str, clips: list[Path]) -> Conversation:
        """With one more user turn: its clips first, then its text."""
        content = [*({"type": "audio"} for _ in clips), {"type": "text", "text": text}]
        return Conversation((*self.messages, {"role": "user", "content": content}), (*self.clips, *clips))

    def answered(self, text: str) -> Conversation:
        """With the answer to its last turn."""
        return Conversation((*self.messages, {"role": "assistant", "content": text}), self.clips)
