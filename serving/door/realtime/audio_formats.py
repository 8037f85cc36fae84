"""The sound formats of a session: PCM of 16 bits, and G.711 as telephones speak it (ITU-T G.711)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from af3.errors import invalid
from serving.door.wav_file import wav_file

Kind = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
PCM_HZ = 24_000
TELEPHONE_HZ = 8_000
LOWEST_HZ, HIGHEST_HZ = 8_000, 48_000


@dataclass(frozen=True)
class Clip:
    """Mono sound: `pcm` little-endian int16, `hz` samples a second."""

    pcm: bytes
    hz: int

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / self.hz

    def wav(self) -> bytes:
        """A whole WAV file."""
        return wav_file(self.pcm, self.hz)


@dataclass(frozen=True)
class AudioFormat:
    """The encoding of sound on the wire. `hz` of G.711 is 8000."""

    kind: Kind = "audio/pcm"
    hz: int = PCM_HZ

    def to_pcm(self, data: bytes) -> bytes:
        """Sound of the wire → little-endian int16. Raises RequestError for half a sample."""
        if self.kind == "audio/pcm":
            if len(data) % 2:
                raise invalid(f"audio: {len(data)} bytes are no whole 16-bit samples; send an even number")
            return data
        decoded: bytes = _G711[self.kind].decoded[np.frombuffer(data, np.uint8)].tobytes()
        return decoded

    def from_pcm(self, pcm: bytes) -> bytes:
        """Little-endian int16 → sound of the wire."""
        if self.kind == "audio/pcm":
            return pcm
        samples = np.frombuffer(pcm, "<i2").astype(np.int32)
        encoded: bytes = _G711[self.kind].encoded[samples + 32768].tobytes()
        return encoded


class _Law:
    """One of G.711's two curves: `decoded` int16 [256]; `encoded` uint8 [65536], of int16 + 32768."""

    def __init__(self, kind: Kind):
        self._kind = kind

    @cached_property
    def decoded(self) -> NDArray[np.int16]:
        codes = np.arange(256)
        values = _mu_law(codes) if self._kind == "audio/pcmu" else _a_law(codes)
        return values.astype("<i2")

    @cached_property
    def encoded(self) -> NDArray[np.uint8]:
        """The code whose value is nearest."""
        levels, first = np.unique(self.decoded.astype(np.int64), return_index=True)
        samples = np.arange(-32768, 32768)
        above = np.clip(np.searchsorted(levels, samples), 1, len(levels) - 1)
        nearer_below = samples - levels[above - 1] <= levels[above] - samples
        return first[np.where(nearer_below, above - 1, above)].astype(np.uint8)


def _mu_law(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Complemented bits: sign, three of exponent, four of mantissa; a bias of 132 in 16 bits."""
    bits = ~codes & 0xFF
    size = ((((bits & 0x0F) << 3) + 132) << ((bits >> 4) & 7)) - 132
    return np.where(bits & 0x80, -size, size)


def _a_law(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every other bit inverted; the lowest exponent is linear, without the leading one of the others."""
    bits = codes ^ 0x55
    exponent, mantissa = (bits >> 4) & 7, ((bits & 0x0F) << 4) + 8
    size = np.where(exponent == 0, mantissa, (mantissa + 0x100) << np.maximum(exponent - 1, 0))
    return np.where(bits & 0x80, size, -size)


_G711 = {kind: _Law(kind) for kind in ("audio/pcmu", "audio/pcma")}  # type: ignore[arg-type]


def from_base64(text: str | bytes | memoryview, name: str) -> bytes:
    """Raises RequestError for what is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error; characters beyond ASCII
        raise invalid(f"{name}: not valid base64; send the sound's bytes in base64 alone") from None


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
