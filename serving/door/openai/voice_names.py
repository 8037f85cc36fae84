"""OpenAI's names of voices, which clients send although no server but OpenAI's has them."""

from __future__ import annotations

# Any of them is the server's default voice; its own voices are asked by their names (docs/speech.md).
OPENAI_VOICES = frozenset(
    "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()
)


def voice_of(name: str | None) -> str | None:
    """The request parameter `voice`; None for the default."""
    return None if name is None or name in OPENAI_VOICES else name
