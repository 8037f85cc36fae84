"""Writes speech as a WAV file."""

from __future__ import annotations

import io
import wave


def wav_file(pcm: bytes, hz: int) -> bytes:
    """A whole mono WAV file of `pcm`, little-endian int16 at `hz`."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(hz)
        writer.writeframes(pcm)
    return file.getvalue()
