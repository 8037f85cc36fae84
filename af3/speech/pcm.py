"""Turns a voice's raw speech into blocks of 100 ms at one level, without long silences or clicks.

It works on the stream and delays it by `LOOK_AHEAD_BLOCKS` blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from af3.speech.voice import Pcm

Samples = NDArray[np.float32]  # full scale is ±32768

FRAMES_PER_BLOCK = 10  # of 10 ms: a block of 100 ms
LOOK_AHEAD_BLOCKS = 2  # the level is measured over this many blocks before the first is sent
FULL_SCALE = 32768.0
SILENCE_RMS = FULL_SCALE * 10 ** (-46 / 20)  # a 10 ms frame below it is silent
LEVEL_RMS = FULL_SCALE * 10 ** (-21 / 20)  # target for frames that are not silent
PEAK = FULL_SCALE * 10 ** (-1 / 20)
MAX_GAIN = 8.0
EDGE_FRAMES = 2  # silence kept before the first and after the last sound, so that no soft onset is lost
MAX_INNER_FRAMES = 18  # longest silence kept inside a segment
FADE_S = 0.005


def shape(speech: Iterable[Pcm], hz: int, pause_s: float) -> Iterator[Pcm]:
    """Shape one segment's raw PCM into blocks at `hz`, after `pause_s` of silence.

    Cuts leading and trailing silence, shortens inner silence to 180 ms, brings audible frames to -21 dBFS with peaks
    below -1 dBFS, and fades both ends over 5 ms. Yields nothing for a segment without sound.
    """
    blocks = _faded(_levelled(_grouped(_without_silence(_frames(speech, hz // 100)))), round(FADE_S * hz))
    for number, block in enumerate(blocks):
        if number == 0 and pause_s:
            yield np.zeros(round(pause_s * hz), np.int16)
        yield block.astype(np.int16)


def _frames(speech: Iterable[Pcm], length: int) -> Iterator[Samples]:
    rest = np.zeros(0, np.float32)
    for piece in speech:
        rest = np.concatenate([rest, piece.astype(np.float32)])
        whole = len(rest) // length * length
        yield from rest[:whole].reshape(-1, length)
        rest = rest[whole:]
    if len(rest):
        yield np.pad(rest, (0, length - len(rest)))


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def _without_silence(frames: Iterable[Samples]) -> Iterator[Samples]:
    silence: list[Samples] = []
    sounding = False
    for frame in frames:
        if _rms(frame) < SILENCE_RMS:
            silence.append(frame)
            continue
        if not sounding:
            yield from silence[-EDGE_FRAMES:]
        elif len(silence) <= MAX_INNER_FRAMES:
            yield from silence
        else:
            yield from silence[: MAX_INNER_FRAMES // 2]
            yield from silence[-MAX_INNER_FRAMES // 2 :]
        silence.clear()
        sounding = True
        yield frame
    if sounding:
        yield from silence[:EDGE_FRAMES]


def _grouped(frames: Iterable[Samples]) -> Iterator[Samples]:
    group: list[Samples] = []
    for frame in frames:
        group.append(frame)
        if len(group) == FRAMES_PER_BLOCK:
            yield np.concatenate(group)
            group = []
    if group:
        yield np.concatenate(group)


def _levelled(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Ramp the gain from block to block, so that no step is heard.

    The target gain follows the level of all sound so far, including the look-ahead. A block's gain also keeps the next
    block's peak below the limit, because that block starts with it.
    """
    powers: list[float] = []
    gain: float | None = None
    waiting: deque[Samples] = deque()

    def leave() -> Samples:
        nonlocal gain
        wanted = min(LEVEL_RMS / _level(powers), MAX_GAIN)
        peak = max(float(np.abs(block).max()) for block in list(waiting)[:2])
        aim = min(wanted, PEAK / max(peak, 1.0))
        start = aim if gain is None else gain
        gain = aim
        block = waiting.popleft()
        return block * np.linspace(start, aim, len(block), dtype=np.float32)

    for block in blocks:
        powers += [_rms(frame) ** 2 for frame in np.array_split(block, FRAMES_PER_BLOCK)]
        waiting.append(block)
        if len(waiting) > LOOK_AHEAD_BLOCKS:
            yield leave()
    while waiting:
        yield leave()


def _level(powers: list[float]) -> float:
    """RMS of the frames within 26 dB of the loudest, which excludes pauses and breaths."""
    heard = np.asarray(powers)
    return float(np.sqrt(heard[heard >= heard.max() / 400].mean()))


def _faded(blocks: Iterable[Samples], length: int) -> Iterator[Samples]:
    """Fade in the first and fade out the last `length` samples; holds that many back, because they may be the last."""
    ramp = np.linspace(0, 1, length, dtype=np.float32)
    held = np.zeros(0, np.float32)
    begun = False
    for block in blocks:
        held = np.concatenate([held, block])
        if len(held) <= length:
            continue
        if not begun:
            held[:length] *= ramp
            begun = True
        yield held[:-length]
        held = held[-length:]
    if len(held):
        yield held * ramp[::-1][-len(held) :]
