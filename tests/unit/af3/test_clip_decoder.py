"""The decoder process: what a file does to it never reaches the server."""

import io
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3.contract import LONGEST_CLIP_SECONDS
from af3.errors import RequestError
from af3.inputs.clip_decoder import ClipDecoder
from af3.inputs.decoder_worker import DecodingLimits
from af3.inputs.decoding import decode
from tests.support.clips import clip
from tests.support.odd_files import written


@pytest.fixture
def decoder() -> Iterator[ClipDecoder]:
    made = ClipDecoder()
    yield made
    made.close()


def worker_pid(decoder: ClipDecoder) -> int:
    decoder.start()
    assert decoder._worker is not None
    return decoder._worker.pid


def members(group: int) -> list[str]:
    """The processes of a group, zombies left out."""
    found = subprocess.run(["ps", "-eo", "pgid=,pid=,stat="], capture_output=True, text=True, check=True)
    lines = [line.split() for line in found.stdout.splitlines()]
    return [pid for pgid, pid, state in lines if int(pgid) == group and "Z" not in state]


@pytest.mark.parametrize("data", [clip(5), written("ff.m4a"), written("lame_vbr.mp3")])
def test_the_samples_are_those_of_the_same_decoder_in_this_process(decoder: ClipDecoder, data: bytes) -> None:
    np.testing.assert_array_equal(decoder.decode(data, "audio[0]").pcm, decode(data, "audio[0]"))


def test_one_process_decodes_file_after_file(decoder: ClipDecoder) -> None:
    pid = worker_pid(decoder)
    for seed in range(3):
        decoder.decode(clip(0.2, seed), "audio[0]")
    assert worker_pid(decoder) == pid


def test_a_killed_process_is_replaced(decoder: ClipDecoder) -> None:
    pid = worker_pid(decoder)
    os.kill(pid, signal.SIGKILL)
    assert len(decoder.decode(silence("FLAC", 1), "audio[0]").pcm) == 16_000
    assert worker_pid(decoder) != pid


def test_a_refusal_is_told_and_the_process_lives_on(decoder: ClipDecoder) -> None:
    pid = worker_pid(decoder)
    with pytest.raises(RequestError, match=r"audio\[7\]: the file is cut short"):
        decoder.decode(clip(1)[:-4_000], "audio[7]")
    assert worker_pid(decoder) == pid


def test_a_process_that_hangs_is_ended_with_what_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ffmpeg is replaced by a program that waits for ever; the process's own clock is what ends it."""
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("AF3_FFMPEG", str(tmp_path / "ffmpeg"))
    decoder = ClipDecoder(DecodingLimits(wall_s=1))
    pid = worker_pid(decoder)
    assert members(pid) == [str(pid)]
    with pytest.raises(RequestError, match="the decoder gave up on the file; convert it: ffmpeg"):
        decoder.decode(written("ff.m4a"), "audio[0]")
    assert members(pid) == []


def test_without_ffmpeg_the_kind_and_the_command_are_told(
    decoder: ClipDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AF3_FFMPEG", "")
    with pytest.raises(RequestError, match=r"MP4, M4A or 3GP, this server has no ffmpeg.*ffmpeg -i FILE"):
        decoder.decode(written("ff.m4a"), "audio[0]")
    with pytest.raises(RequestError, match="Ogg, it has several parts"):
        decoder.decode(written("oggenc.ogg") * 2, "audio[0]")
    assert len(decoder.decode(written("oggenc.ogg"), "audio[0]").pcm) == 19_200


def test_memory_beyond_the_limit_is_refused() -> None:
    decoder = ClipDecoder(DecodingLimits(memory_bytes=1 << 30))
    with pytest.raises(RequestError, match="takes too much memory"):
        decoder.decode(bytes(1 << 30), "audio[0]")
    assert len(decoder.decode(clip(0.2), "audio[0]").pcm) == 3_200
    decoder.close()


def test_processor_time_beyond_the_limit_ends_the_process() -> None:
    """Ten minutes in 64 channels: as much work as a file of 128 MB can ask for."""
    decoder = ClipDecoder(DecodingLimits(cpu_s=1))
    pid = worker_pid(decoder)
    with pytest.raises(RequestError, match="the decoder gave up"):
        decoder.decode(silence("FLAC", 580, channels=8, rate=96_000), "audio[0]")
    assert members(pid) == []
    assert len(decoder.decode(clip(0.2), "audio[0]").pcm) == 3_200
    decoder.close()


def silence(kind: str, seconds: int, channels: int = 1, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    block = np.zeros((rate, channels), np.int16)
    with soundfile.SoundFile(file, "w", rate, channels, format=kind) as opened:
        for _ in range(seconds):
            opened.write(block)
    return file.getvalue()


def test_the_limits_are_those_of_the_process(decoder: ClipDecoder) -> None:
    limits = Path(f"/proc/{worker_pid(decoder)}/limits").read_text()
    assert f"Max address space         {DecodingLimits().memory_bytes}" in limits
    assert f"Max file size             {DecodingLimits().output_bytes}" in limits
    assert "NoNewPrivs:\t1" in Path(f"/proc/{worker_pid(decoder)}/status").read_text()


def test_half_an_hour_may_take_three_times_the_time_of_ten_minutes_whatever_its_size() -> None:
    """Ten minutes of stereo Opus take 4 s of a busy core, also where they are 1 MB."""
    limits, size = DecodingLimits(), 2 << 20
    assert limits.cpu_of(size, 600) >= 8
    assert limits.cpu_of(size, LONGEST_CLIP_SECONDS) >= 3 * 8
    assert limits.wall_of(size, LONGEST_CLIP_SECONDS) >= limits.wall_s + 4 * 16
    assert limits.output_bytes > LONGEST_CLIP_SECONDS * 4 * 16_000


def test_the_process_decodes_the_longest_clip_of_the_family_and_nothing_longer(decoder: ClipDecoder) -> None:
    half_an_hour = silence("FLAC", LONGEST_CLIP_SECONDS)
    found = decoder.decode(half_an_hour, "audio[0]", max_seconds=LONGEST_CLIP_SECONDS)
    assert len(found.pcm) == LONGEST_CLIP_SECONDS * 16_000
    with pytest.raises(RequestError, match="is longer than the 1200 s"):
        decoder.decode(half_an_hour, "audio[0]", max_seconds=1200)


def test_the_process_and_its_ffmpeg_never_preempt_others(decoder: ClipDecoder) -> None:
    assert os.sched_getscheduler(worker_pid(decoder)) == os.SCHED_BATCH


def test_the_niceness_of_the_step_holds_for_its_decoder(decoder: ClipDecoder) -> None:
    """Linux shares the processor between sessions before it looks at niceness (autogroup)."""
    assert os.getsid(worker_pid(decoder)) == os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, worker_pid(decoder)) == os.getpriority(os.PRIO_PROCESS, 0)
