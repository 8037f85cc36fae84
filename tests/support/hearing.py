"""A spoken answer as a bare client hears it."""

from dataclasses import dataclass, field

import numpy as np
from tritonclient import grpc as triton

from tests.support.clips import clip
from tests.support.wire import Stream

SPEECH = "audio_flamingo_speech"
LONG = {"max_tokens": 400, "temperature": 1.5}  # sampled hot, the random checkpoint seldom ends by itself


@dataclass
class Heard:
    """One spoken answer, as a bare client puts it together."""

    text: str = ""
    finish_reason: str = ""
    indices: list[int] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)  # the text of each
    blocks: list[np.ndarray] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # block at which each segment begins
    rates: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    text_first: bool = True

    @property
    def spoken(self) -> str:
        return "".join(self.segments)

    @property
    def seconds(self) -> list[float]:
        """The length of each segment."""
        ends = [*self.starts[1:], len(self.blocks)]
        return [sum(map(len, self.blocks[a:b])) / self.hz for a, b in zip(self.starts, ends, strict=True)]

    @property
    def hz(self) -> int:
        (hz,) = self.rates
        return hz

    @property
    def pcm(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int16), *self.blocks])

    def take(self, result: triton.InferResult) -> None:
        if result.as_numpy("text") is not None:
            self.text += result.as_numpy("text")[0].decode()
            self.finish_reason = result.as_numpy("finish_reason")[0].decode()
            self.indices.append(int(result.as_numpy("index")[0]))
        if result.as_numpy("speech") is not None:
            self.blocks.append(result.as_numpy("speech"))
            self.rates.add(int(result.as_numpy("sample_rate")[0]))
        if result.as_numpy("speech_text") is not None:
            self.starts.append(len(self.blocks) - 1)
            self.segments.append(result.as_numpy("speech_text")[0].decode())
            self.text_first &= self.text.startswith(self.spoken)
        if result.as_numpy("speech_error") is not None:
            self.errors.append(result.as_numpy("speech_error")[0].decode())


def hear(url: str, seed: int, **parameters: object) -> Heard:
    heard = Heard()
    stream = Stream(
        url, [clip(0.5, seed=seed)], "Go on.", parameters={**LONG, "seed": seed, **parameters}, model=SPEECH
    )
    for result in stream.results():
        heard.take(result)
    return heard
