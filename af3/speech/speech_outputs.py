"""The interfaces between `session.py` and the server: sinks for speech, and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from af3.speech.meter import SegmentReport
from af3.speech.voice import Pcm


@dataclass(frozen=True)
class SpeechBlock:
    """A piece of speech: at most 100 ms, plus the pause before a segment. Play blocks in order."""

    pcm: Pcm
    sample_rate: int
    source: str  # on a segment's first block, the part of the answer that it speaks; else empty


class Sink(Protocol):
    """Receives the speech of one response, on any thread; `finish` comes last."""

    def cancelled(self) -> bool: ...
    def send(self, block: SpeechBlock) -> None: ...
    def fail(self, message: str) -> None: ...
    def finish(self) -> None: ...


class Observer(Protocol):
    """Collects metrics. Called from any thread."""

    def segment(self, report: SegmentReport) -> None: ...
    def failed(self) -> None: ...
    def fell_back(self) -> None:
        """An answer continues with the fallback voice, because its own could not keep up."""
        ...

    def live(self, count: int) -> None:
        """`count` requests hold state now."""
        ...
