import stat
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from clients.errors import AudioFlamingoError
from clients.sound.playback import Loudspeaker, Meter, Playhead, Transcript, WavFile


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_wav_file_is_valid_after_every_block(tmp_path: Path) -> None:
    path = tmp_path / "reply.wav"
    file = WavFile(path)
    assert soundfile.info(path).frames == 0
    block = np.arange(-500, 500, dtype=np.int16)
    for count in range(1, 4):
        file.play(block, 22050)
        pcm, hz = soundfile.read(path, dtype="int16")
        assert hz == 22050
        assert np.array_equal(pcm, np.tile(block, count))
    file.close()


@pytest.mark.parametrize("writes", range(1, 6))
def test_an_interruption_between_two_writes_leaves_a_valid_file(tmp_path: Path, writes: int) -> None:
    """Ctrl-C comes at any moment, so also between a block and the header that counts it."""

    class Interrupted:
        def __init__(self, file: FileIO) -> None:
            self._file, self._left = file, writes

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, data: bytes) -> int:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
            return self._file.write(data)

    path = tmp_path / "reply.wav"
    file = WavFile(path)
    file._file = cast(FileIO, Interrupted(file._file))
    with pytest.raises(KeyboardInterrupt):
        for _ in range(9):
            file.play(np.ones(20_000, np.int16), 22050)
    file.close()
    pcm, hz = soundfile.read(path)
    assert (hz, len(pcm) > 0) == (22050, True)
    assert len(pcm) % 20_000 == 0


def test_a_full_disk_is_a_clear_error() -> None:
    with pytest.raises(AudioFlamingoError, match="--out /dev/full: No space left on device"):
        WavFile(Path("/dev/full"))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFlamingoError, match=r"--out .*/none/reply\.wav: No such file"):
        WavFile(tmp_path / "none" / "reply.wav")


def test_the_playhead_counts_what_was_heard_and_where_it_ran_dry() -> None:
    clock = Clock()
    playhead = Playhead(clock)
    playhead.add(1.0)
    clock.now_s += 0.4
    playhead.add(0.5)
    assert playhead.heard_s == pytest.approx(0.4)
    assert playhead.left_s == pytest.approx(1.1)
    assert playhead.underruns == 0
    clock.now_s += 2.0
    playhead.add(0.5)
    assert playhead.underruns == 1
    assert playhead.waited_s == pytest.approx(0.9)
    assert playhead.heard_s == pytest.approx(1.5)


def test_the_figures_of_an_answer() -> None:
    clock = Clock()
    meter = Meter(clock)
    clock.now_s += 0.2
    meter.text()
    for pause_s in (0.1, 0.05, 0.3):
        clock.now_s += pause_s
        meter.text()
        meter.speech(0.2)
    figures = meter.figures()
    assert figures.first_text_s == pytest.approx(0.2)
    assert figures.first_audio_s == pytest.approx(0.3)
    assert figures.speech_s == pytest.approx(0.6)
    assert figures.longest_gap_s == pytest.approx(0.3)
    assert figures.real_time_factor == pytest.approx(0.35 / 0.6)
    assert figures.underruns == 0
    assert "first audio 0.30 s" in str(figures)


def test_an_answer_without_speech_has_figures_too() -> None:
    assert str(Meter(Clock()).figures()) == "no speech"


@pytest.mark.parametrize(
    ("heard_s", "text"),
    [
        (0.0, ""),
        (0.4, ""),  # in the middle of "There"
        (1.0, "There is"),
        (2.0, "There is a dog."),
        (3.0, "There is a dog. It barks"),
        (9.0, "There is a dog. It barks at a car."),
    ],
)
def test_the_transcript_says_what_was_heard_to_the_last_whole_word(heard_s: float, text: str) -> None:
    transcript = Transcript()
    transcript.begins("There is a dog. ", 0.0)
    transcript.begins("It barks at a car.", 2.0)
    assert transcript.heard(heard_s, 4.0) == text


def test_nothing_was_heard_of_an_answer_without_speech() -> None:
    assert Transcript().heard(0.0, 0.0) == ""


PLAYER = """
import sys, time
with open({log!r}, "ab", buffering=0) as log:
    while data := sys.stdin.buffer.read(2205):  # 50 ms of 22 050 Hz
        log.write(data)
        time.sleep(0.05)
"""


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program named aplay that takes its time, as a sound card does; what it has played is in a file."""
    log = tmp_path / "played"
    log.touch()
    program = tmp_path / "bin" / "aplay"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n" + PLAYER.format(log=str(log)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    yield log


def test_a_loudspeaker_plays_all_it_was_given(player: Path) -> None:
    loudspeaker = Loudspeaker.find()
    assert loudspeaker is not None
    blocks = [np.full(2205, place, np.int16) for place in range(5)]
    for block in blocks:
        loudspeaker.play(block, 22050)
    loudspeaker.drain()
    assert player.read_bytes() == np.concatenate(blocks).tobytes()


def test_a_loudspeaker_is_silent_at_once_and_ready_again(player: Path) -> None:
    loudspeaker = Loudspeaker.find()
    assert loudspeaker is not None
    loudspeaker.play(np.ones(60 * 22050, np.int16), 22050)
    while not player.stat().st_size:
        pass
    loudspeaker.stop()  # and no drain(): an interrupted answer ends without one
    assert player.stat().st_size < 30 * 2 * 22050
    loudspeaker.play(np.full(2205, 7, np.int16), 22050)
    loudspeaker.drain()
    assert player.read_bytes().endswith(np.full(2205, 7, np.int16).tobytes())


def test_without_a_player_there_is_no_loudspeaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Loudspeaker.find() is None
