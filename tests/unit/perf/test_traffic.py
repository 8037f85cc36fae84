"""The traffic of the benchmarks: a cache must not answer it, or the figures say nothing."""

import io

import numpy as np
import soundfile

from af3.inputs import audio
from perf import traffic


def windows(file: bytes) -> list[bytes]:
    pcm, _ = soundfile.read(io.BytesIO(file), dtype="float32")
    return [window.tobytes() for window in audio.split_windows(pcm)]


def test_no_window_of_many_clips_comes_twice():
    made = [*traffic.rows((5.0,), 200), *traffic.rows((31.0, 65.0), 6), *traffic.rows((5.0,), 50)]
    found = [window for row in made for window in windows(row.file)]
    assert len(found) == 250 + 3 * 2 + 3 * 3
    assert len(set(found)) == len(found)


def test_no_clip_is_silent():
    for number in range(200):
        (pcm, _) = soundfile.read(io.BytesIO(traffic.clip(1.0, number)), dtype="float32")
        assert np.abs(pcm).max() > 0.008
    assert np.abs(traffic.samples()).max() > 0.1


def test_a_clip_is_the_same_in_every_run():
    assert traffic.clip(2.0, 7) == traffic.clip(2.0, 7)
    assert traffic.clip(2.0, 7) != traffic.clip(2.0, 8)
