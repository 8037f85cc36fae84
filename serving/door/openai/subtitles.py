"""Subtitles of one segment: the model says what was said, not when."""

from __future__ import annotations


def srt(text: str, seconds: float) -> str:
    return f"1\n{_time(0, ',')} --> {_time(seconds, ',')}\n{_one_block(text)}\n\n"


def vtt(text: str, seconds: float) -> str:
    block = _one_block(text).replace("&", "&amp;").replace("<", "&lt;").replace("-->", "--&gt;")
    return f"WEBVTT\n\n{_time(0, '.')} --> {_time(seconds, '.')}\n{block}\n\n"


def _one_block(text: str) -> str:
    """Without empty lines, which would end the subtitle."""
    return "\n".join(line for line in text.strip().splitlines() if line.strip())


def _time(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"
